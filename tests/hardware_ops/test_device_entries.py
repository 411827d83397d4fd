"""Pools hold what an entry leaves free."""

from budsim.commons.units import GIB
from budsim.hardware_ops.catalog import devices
from budsim.hardware_ops.cluster import HardwareMode
from budsim.hardware_ops.inventory import read_inventory
from tests.hardware_ops.inventories import H100, inventory, only_pool


def test_devices_in_use_by_others_are_counted_and_not_offered() -> None:
    """Three of eight are taken: eight are there, five are free, and the reason says so."""
    pool = only_pool({**H100, "available_count": 5})
    assert (pool.total, pool.available) == (8, 5)
    assert pool.unavailable_reason == "3 of 8 in use by others"


def test_the_label_of_a_shared_gpu_is_that_gpu_time_sliced() -> None:
    """Without what others allocated its free memory is not known, and the reason says so."""
    label = {"name": "NVIDIA-H100-80GB-HBM3-SHARED", "type": "cuda", "mem_per_GPU_in_GB": 80}
    payload = inventory({**label, "available_count": 8, "total_count": 8})
    (cluster,) = read_inventory(payload)
    ((_, pool),) = list(cluster.pools())
    assert pool.device is devices()["H100-SXM"]
    assert cluster.mode is HardwareMode.SHARED
    assert "memory_allocated_gb" in pool.unavailable_reason


def test_boards_of_unified_memory_start_with_what_the_system_leaves() -> None:
    """GB10: 102 of 119.6 GiB, so that 0.85 of the memory can be reserved and 0.92 cannot."""
    pool = only_pool({"name": "NVIDIA GB10", "available_count": 1, "mem_per_GPU_in_GB": 120})
    assert pool.device is not None
    assert pool.memory_free_bytes == 102 * GIB
    assert 0.85 <= pool.memory_free_bytes / pool.device.memory_bytes < 0.92
