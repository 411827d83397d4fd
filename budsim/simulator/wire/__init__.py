"""The wire: names, units, bounds and envelopes callers rely on; only here do ms and GB become s and bytes."""
