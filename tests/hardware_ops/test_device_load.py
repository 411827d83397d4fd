"""What other work leaves of time-sliced devices and of a node's processors."""

from typing import Any

import pytest

from budsim.commons.precision import Precision
from budsim.commons.units import GIB
from budsim.hardware_ops.catalog import devices
from budsim.hardware_ops.cluster import HardwareMode
from budsim.hardware_ops.inventory import read_inventory
from tests.hardware_ops.inventories import SLICE, XEON, inventory, only_pool

# What an inventory may state of a time-sliced device's compute.
BUSY = ("core_utilization_percent", "cores_allocated_percent")


def test_a_cpu_node_counts_sockets() -> None:
    """112 cores and 2048 GB are two sockets of 56 and 1024 GB; 28 cores and 48 GB are busy."""
    pool = only_pool(XEON)
    assert pool.device is not None
    assert (pool.total, pool.available) == (2, 2)
    assert pool.device.compute_units == 56
    assert pool.device.memory_bytes == 1024 * GIB
    assert pool.memory_free_bytes == 1000 * GIB
    assert pool.compute_free_share == pytest.approx(0.75)


@pytest.mark.parametrize(
    ("missing", "sockets", "cores"),
    [(("socket_count",), 2, 56), (("cores",), 2, 56), (("cores", "socket_count"), 1, 56)],
)
def test_missing_cores_or_sockets_follow_from_the_catalog(
    missing: tuple[str, ...], sockets: int, cores: int
) -> None:
    """112 cores of a 56 core part are two sockets; two sockets of it are 112 cores."""
    pool = only_pool({key: value for key, value in XEON.items() if key not in missing})
    assert pool.device is not None
    assert (pool.total, pool.device.compute_units) == (sockets, cores)


def test_a_virtual_machine_gets_its_cores_worth_of_arithmetic() -> None:
    """14 of 56 cores compute a quarter."""
    pool = only_pool({**XEON, "cores": 14, "socket_count": 1, "utilized_cores": 0})
    whole = devices()["Xeon Platinum 8480+"]
    assert pool.device is not None
    assert pool.device.peak_flops_per_s(Precision.BF16) == pytest.approx(
        whole.peak_flops_per_s(Precision.BF16) / 4
    )


def test_each_numa_node_is_a_device() -> None:
    """Two sockets of 56 cores in four NUMA nodes each: eight ranks of 14 cores and 256 GB."""
    pool = only_pool({**XEON, "numa_nodes": 8})
    assert pool.device is not None
    assert (pool.total, pool.available) == (8, 8)
    assert (pool.device.compute_units, pool.device.memory_bytes) == (14, 256 * GIB)
    assert pool.memory_free_bytes == 250 * GIB
    assert pool.compute_free_share == pytest.approx(0.75)


@pytest.mark.parametrize(
    ("stated", "ranks", "cores"),
    [({}, 6, 32), ({"numa_nodes": 2}, 2, 96), ({"numa_nodes": 1}, 2, 96), ({"cores": 48}, 2, 24)],
)
def test_a_socket_has_the_numa_nodes_of_its_default_bios(
    stated: dict[str, int], ranks: int, cores: int
) -> None:
    """A Xeon 6900P starts in three nodes a socket (SNC3) unless lscpu says otherwise.

    A virtual machine with a part of its cores is told of none.
    """
    pool = only_pool({**XEON, "name": "Xeon 6972P", "cores": 192, **stated})
    assert pool.device is not None
    assert (pool.total, pool.device.compute_units) == (ranks, cores)


def test_a_cpu_node_without_memory_says_so() -> None:
    """Nothing can be placed where memory is not known."""
    pool = only_pool({**XEON, "memory_gb": None})
    assert pool.available == 0
    assert "memory_gb" in pool.unavailable_reason


def test_a_time_sliced_device_offers_what_others_leave() -> None:
    """10 of 40 GB and 40 % of the cores are handed out."""
    payload = inventory(SLICE)
    ((_, pool),) = list(read_inventory(payload)[0].pools())
    assert read_inventory(payload)[0].mode is HardwareMode.SHARED
    assert pool.memory_free_bytes == 30 * GIB
    assert pool.compute_free_share == pytest.approx(0.6)
    assert pool.device_uuid == "GPU-0"


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"memory_allocated_gb": None}, "memory_allocated_gb"),
        (
            dict.fromkeys(BUSY),
            "cores_allocated_percent",
        ),
        (
            dict.fromkeys(("memory_allocated_gb", *BUSY)),
            "without memory_allocated_gb and cores_allocated_percent; state what other",
        ),
        ({"memory_allocated_gb": 41}, "hold all"),
        ({"cores_allocated_percent": 120}, "hold all"),
    ],
)
def test_a_time_sliced_device_that_cannot_be_used_says_why(
    change: dict[str, Any], word: str
) -> None:
    """No load, no offer."""
    pool = only_pool({**SLICE, **change})
    assert (pool.total, pool.available) == (1, 0)
    assert word in pool.unavailable_reason


def test_a_processor_without_cores_is_counted_and_not_offered() -> None:
    """The callers place nothing on a CPU whose cores they do not know, and the reason says so."""
    pool = only_pool({key: value for key, value in XEON.items() if key != "cores"})
    assert pool.available == 0
    assert "cores are not stated" in pool.unavailable_reason
