"""Inventories of one node, and the pools read from them."""

from typing import Any

from budsim.hardware_ops.cluster import Cluster, DevicePool
from budsim.hardware_ops.inventory import read_inventory

H100 = {
    "name": "H100-SXM",
    "raw_name": "NVIDIA-H100-80GB-HBM3",
    "type": "cuda",
    "available_count": 8,
    "total_count": 8,
    "mem_per_GPU_in_GB": 80,
    "intra_node_bandwidth_in_GB_per_sec": 300,
    "pci_vendor": "10de",
    "pci_device": "2330",
}
XEON = {
    "name": "Intel(R) Xeon(R) Platinum 8480+",
    "type": "cpu_high",
    "available_count": 1,
    "total_count": 1,
    "cores": 112,
    "socket_count": 2,
    "memory_gb": 2048,
    "utilized_cores": 28,
    "utilized_memory_gb": 48,
}
SLICE = {
    "name": "A100-SXM4-40GB",
    "type": "cuda",
    "available_count": 1,
    "total_count": 1,
    "mem_per_GPU_in_GB": 40,
    "device_uuid": "GPU-0",
    "hardware_mode": "shared",
    "memory_allocated_gb": 10,
    "core_utilization_percent": 25,
    "cores_allocated_percent": 40,
}


def inventory(*entries: dict[str, Any], **node: Any) -> list[dict[str, Any]]:
    """Return a payload of one cluster with one node of these devices."""
    return [
        {
            "id": "c",
            "nodes": [{"id": "n", "name": "n", "status": True, **node, "devices": list(entries)}],
        }
    ]


def only_pool(entry: dict[str, Any], **node: Any) -> DevicePool:
    """Return the pool of a node with one device entry."""
    ((_, pool),) = list(read_inventory(inventory(entry, **node))[0].pools())
    return pool


def counts(clusters: tuple[Cluster, ...]) -> list[tuple[str, int, int]]:
    """Return what each pool is called, and its total and available devices."""
    pools = [pool for cluster in clusters for _, pool in cluster.pools()]
    return [(pool.device.name if pool.device else "", pool.total, pool.available) for pool in pools]
