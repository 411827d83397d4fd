"""Facts that follow from a device's figures."""

import pytest

from budsim.commons.precision import Precision
from budsim.hardware_ops.catalog import devices


@pytest.mark.parametrize(
    ("name", "has"),
    [
        ("EPYC 7763", False),
        ("EPYC 7742", False),
        ("Xeon Platinum 8380", False),
        ("Xeon 6780E", False),
        ("EPYC 9654", True),
        ("Xeon Platinum 8480+", True),
        ("Graviton4", True),
        ("H100-SXM", True),
    ],
)
def test_a_processor_says_whether_it_multiplies_bf16(name: str, has: bool) -> None:
    """AVX2 and AVX-512 without their bf16 extensions do not; Zen 4, AMX and newer Arm do."""
    assert devices()[name].runs_natively(Precision.BF16) is has


def test_only_boards_of_unified_memory_reserve_some_for_the_system() -> None:
    """GB10 and the Jetson modules; GH200 has HBM of its own for the GPU."""
    reserving = {name for name, device in devices().items() if device.host_reserved_bytes}
    assert reserving == {
        "GB10",
        "Jetson-AGX-Orin-32GB",
        "Jetson-Orin",
        "Jetson-Orin-NX-16GB",
        "Jetson-Orin-Nano-8GB",
        "Jetson-Thor",
    }
    assert all(devices()[name].sources["host_reserved_bytes"] for name in reserving)
    assert devices()["GH200-96GB"].memory_at_start_bytes == devices()["GH200-96GB"].memory_bytes


def test_engines_reserve_no_more_than_is_free_at_start() -> None:
    """0.92 of a GB10 fails at start; an H100 gives every share; else 0.85 is the most."""
    spark = devices()["GB10"]
    assert spark.startable_shares((0.8, 0.85, 0.92)) == (0.8, 0.85)
    assert spark.startable_shares((0.9, 0.92)) == (0.85,)
    assert devices()["H100-SXM"].startable_shares((0.8, 0.95)) == (0.8, 0.95)
