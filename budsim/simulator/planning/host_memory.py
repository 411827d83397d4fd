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
RESERVE_TEXT: Final = f"{HOST_RESERVE_BYTES / GIB:.0f} GiB"


def host_bytes_per_device(question: Question, group: HardwareGroup, engine: ServingEngine) -> float:
    """Return the host memory of one device's KV cache: its part of what its node offers.

    800 GiB a node and eight devices are 100 GiB each.
    """
    if not question.kv_offload_bytes or why_no_host_memory(question, group, engine):
        return 0.0
    return _offered_bytes(question, group) / group.largest_node


def _offered_bytes(question: Question, group: HardwareGroup) -> float:
    """Return the host memory that each node of a group can offer: as asked, or what it has.

    Less is offered where the smallest node has less beside what is left to others; 1,000 GiB asked
    of a node of 512 GiB are 502.
    """
    stated = [node.node.known_host_memory_bytes for node in group.nodes]
    room = [there - HOST_RESERVE_BYTES for there in stated if there > 0]
    return max(min([question.kv_offload_bytes, *room]), 0.0)


def host_memory_note(question: Question, group: HardwareGroup, engine: ServingEngine) -> str:
    """Return why host memory is not used, is less than asked or gains nothing; else ""."""
    wanted, why = question.kv_offload_bytes, why_no_host_memory(question, group, engine)
    if not wanted or why:
        return why
    if not question.traffic.prefix_set_tokens():
        return (
            "host memory changes nothing: caches drop no prefix unless the tokens of all prefixes "
            "are given"
        )
    offered = _offered_bytes(question, group)
    if offered < wanted:
        return (
            f"nodes offer {offered / GIB:.0f} of the {wanted / GIB:.0f} GiB of host memory asked "
            f"for KV cache: {RESERVE_TEXT} are left to others"
        )
    return ""


def prefix_note(question: Question, group: HardwareGroup, engine: ServingEngine) -> str:
    """Return why shared prefixes are not found again on a group of devices, or ""."""
    return why_no_prefixes(question, group, engine) if question.traffic.prefix_hit_share else ""


def why_no_prefixes(question: Question, group: HardwareGroup, engine: ServingEngine) -> str:
    """Return why an engine keeps no prefixes on a group of devices, or "" where it does."""
    model, device = question.architecture, group.device
    if engine.keeps_prefixes(model, device):
        return ""
    return f"{engine.name} keeps no prefixes of {model.model_id} on {device.name}: none are found"


def why_no_host_memory(question: Question, group: HardwareGroup, engine: ServingEngine) -> str:
    """Return why replicas keep no KV cache in host memory, or "" where they may."""
    device, wanted = group.device, question.kv_offload_bytes
    if not wanted:
        return ""
    if why := why_no_prefixes(question, group, engine):
        return why
    if engine.profile(device.kind).host_tier is None:
        return f"{engine.name} keeps no KV cache in host memory on {device.kind.upper()}"
    if not host_link_bytes_per_s(device):
        return f"{device.name} shares its memory with its host: offloading KV cache gains nothing"
    for each in group.nodes:
        there = each.node.known_host_memory_bytes
        if 0 < there <= HOST_RESERVE_BYTES:
            return (
                f"KV cache leaves less than {RESERVE_TEXT} of the {there / GIB:.0f} GiB of host "
                f"memory of {each.node.name}"
            )
    return ""
