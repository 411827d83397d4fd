"""Host memory that replicas may keep KV cache in: how much each device gets, or why none."""

from __future__ import annotations

from typing import Final

from budsim.commons.units import GIB
from budsim.engine_ops.base import ServingEngine
from budsim.hardware_ops.host_links import host_link_bytes_per_s
from budsim.simulator.planning.hardware_groups import HardwareGroup
from budsim.simulator.planning.question import Question

# Host memory that engines leave to others: SGLang does not start with less (0.5.23,
# mem_cache/memory_pool_host.py).
HOST_RESERVE_BYTES: Final = 10.0 * GIB


def host_bytes_per_device(question: Question, group: HardwareGroup, engine: ServingEngine) -> float:
    """Return the host memory of one device's KV cache: its part of what its node offers.

    800 GiB a node and eight devices are 100 GiB each.
    """
    if not question.kv_offload_bytes or why_no_host_memory(question, group, engine):
        return 0.0
    return question.kv_offload_bytes / group.largest_node


def why_no_host_memory(question: Question, group: HardwareGroup, engine: ServingEngine) -> str:
    """Return why replicas keep no KV cache in host memory, or "" where they may."""
    device, wanted = group.device, question.kv_offload_bytes
    if not wanted:
        return ""
    if engine.profile(device.kind).host_tier is None:
        return f"{engine.name} keeps no KV cache in host memory on {device.kind.upper()}"
    if not host_link_bytes_per_s(device):
        return f"{device.name} shares its memory with its host: offloading KV cache gains nothing"
    for each in group.nodes:
        there = each.node.known_host_memory_bytes
        if 0 < there < wanted + HOST_RESERVE_BYTES:
            return (
                f"{wanted / GIB:.0f} GiB of KV cache leave less than 10 GiB of the "
                f"{there / GIB:.0f} GiB of host memory of {each.node.name}"
            )
    return ""
