"""Names, units, bounds and envelopes callers rely on; ms and GB become s and bytes only here."""
