"""Explanations in the wire's units."""

from __future__ import annotations

import math

import pytest

from budsim.commons.units import GIB
from budsim.simulator.planning.plans import Explanation, HostTierEffect
from budsim.simulator.wire.explanations import explanation_of

PLAIN = Explanation(
    time_shares={"compute": 1.0}, headroom={"e2e_p99_s": 0.5, "ttft_s": 0.1}, next_replica=None
)


def test_targets_have_the_names_of_requests() -> None:
    """Percentiles keep theirs; the least room binds."""
    found = explanation_of(PLAIN)
    assert found.headroom == {"e2e_latency_p99": 0.5, "ttft": 0.1}
    assert found.binding_target == "ttft"
    assert found.encoder_ms is None
    assert found.host_tier is None


@pytest.mark.parametrize(("without_s", "told_ms"), [(0.25, 250.0), (math.nan, None)])
def test_host_memory_and_encoders_are_told(without_s: float, told_ms: float | None) -> None:
    """Seconds become ms, bytes GB; a load that is not carried has no TTFT."""
    effect = HostTierEffect(
        host_bytes=100 * GIB, device_share=0.25, host_share=0.5, ttft_without_s=without_s
    )
    found = explanation_of(
        Explanation(
            time_shares={}, headroom={}, next_replica=None, encoder_s=0.02, host_tier=effect
        )
    )
    assert found.encoder_ms == pytest.approx(20.0)
    assert found.host_tier is not None
    assert found.host_tier.host_memory_gb == 100.0
    assert (found.host_tier.device_share, found.host_tier.host_share) == (0.25, 0.5)
    assert found.host_tier.ttft_without == told_ms
