"""What follows from TTFT and TPOT."""

import numpy as np

from budsim.performance.predictions import MemoryUse, Service, latency, rate


def test_latency_is_ttft_and_the_remaining_tokens() -> None:
    """0.5 s and 99 x 10 ms are 1.49 s; one token, or none, has no more to wait for."""
    found = latency(np.full(3, 0.5), np.full(3, 0.01), np.array([100.0, 1.0, 0.0]))
    assert np.allclose(found, [1.49, 0.5, 0.5])


def test_speed_is_one_over_tpot() -> None:
    """20 ms a token are 50 tokens/s; where no token takes time, none comes."""
    assert rate(np.array([0.02, 0.0])).tolist() == [50.0, 0.0]
    service = Service(
        ttft_s=np.array([0.5]),
        tpot_s=np.array([0.02]),
        output_tokens=np.array([101.0]),
        concurrency=np.array([8.0]),
    )
    assert np.allclose(service.tokens_per_s_per_user, 50.0)
    assert np.allclose(service.e2e_s, 2.5)


def test_a_candidate_fits_where_one_token_can_be_cached() -> None:
    """Room for no token is not enough."""
    none = dict.fromkeys(
        "budget_bytes weight_bytes activation_bytes reserved_bytes kv_bytes".split(), np.zeros(2)
    )
    memory = MemoryUse(
        **none,
        kv_bytes_per_token=np.ones(2),
        kv_capacity_tokens=np.array([0.5, 1.0]),
        kv_running_tokens=np.ones(2),
    )
    assert memory.fits.tolist() == [False, True]
