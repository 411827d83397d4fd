"""Parts of devices that engines see as devices of their own: MIG slices, and NUMA nodes of sockets.

Each part keeps the figures of its kind and has a share of those that can be divided: memory,
bandwidth, arithmetic, power and price.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace

from budsim.commons.units import GIB
from budsim.hardware_ops.device import Device

# ``3g.71gb`` of ``NVIDIA H200 MIG 3g.71gb``, ``NVIDIA-H200-MIG-3g.71gb`` (labels of GPU feature
# discovery) and ``nvidia.com/mig-3g.71gb`` (Kubernetes resources); ``+me`` adds media engines only.
_PROFILE = re.compile(
    r"(?:\bnvidia\.com/)?(?:(?<![a-z0-9])mig[-_ ]*)?"
    r"(?<![a-z0-9])(?P<compute>\d)g\.(?P<gb>\d+)gb(?:[+.][a-z]+)*",
    re.IGNORECASE,
)

# Devices report up to 1 GB more or less than their profiles are named by.
NAMED_GB_TOLERANCE = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class _Partition:
    """How a generation of GPUs is cut.

    ``memory_parts`` is how many slices the memory has; ``memory`` how many of them a profile of so
    many compute slices may hold; ``units`` the streaming multiprocessors it has where the whole has
    ``of_units``.
    """

    of_units: int

    memory_parts: int
    memory: Mapping[int, tuple[int, ...]]
    units: Mapping[int, int]


_SEVENTHS = {1: (1, 2), 2: (2,), 3: (4,), 4: (4,), 7: (8,)}
_QUARTERS = {1: (1,), 2: (2,), 4: (4,)}

# NVIDIA MIG User Guide, supported MIG profiles: shares of memory. Multiprocessors as nvidia-smi
# prints them (``nvidia-smi mig -lgip``): A100 14 a slice, H100 and H200 16 (60 for 3g), B200 18.
_A100 = _Partition(
    of_units=108, memory_parts=8, memory=_SEVENTHS, units={1: 14, 2: 28, 3: 42, 4: 56, 7: 98}
)
_H100 = replace(_A100, of_units=132, units={1: 16, 2: 32, 3: 60, 4: 64, 7: 132})
_B200 = replace(_A100, of_units=148, units={1: 18, 2: 36, 3: 70, 4: 72, 7: 148})
_A30 = replace(_A100, of_units=56, memory_parts=4, memory=_QUARTERS, units={1: 14, 2: 28, 4: 56})
_RTX_PRO = replace(_A30, of_units=188, units={1: 46, 2: 94, 4: 188})
_PARTITIONS: Mapping[str, _Partition] = {
    "sm80": _A100,
    "sm90": _H100,
    "sm100": _B200,
    "sm103": _B200,
}
_BY_NAME: Mapping[str, _Partition] = {"A30": _A30, "RTX-PRO-6000": _RTX_PRO}


def numa_node(socket: Device, nodes: int) -> Device:
    """Return one of the ``nodes`` NUMA nodes of a socket; the socket itself where it has one.

    vLLM and SGLang run one rank a node: its cores and its memory alone (vLLM 0.32
    ``v1/worker/cpu_worker.py``). A socket of 96 cores, 384 GiB and 600 GB/s in three nodes: 32
    cores, 128 GiB and 200 GB/s each.
    """
    if nodes <= 1:
        return replace(socket, numa_nodes=1)
    cores = max(1, socket.compute_units // nodes)
    node = _part(socket, "NUMA node", memory=1 / nodes, units=cores)
    link = replace(socket.scale_up, domain_devices=socket.scale_up.domain_devices * nodes)
    return replace(node, numa_nodes=1, l3_bytes=socket.l3_bytes / nodes, scale_up=link)


def mig_profile(name: str) -> str:
    """Return the profile of a MIG slice's name (``3g.40gb``); empty where it names none."""
    found = _PROFILE.search(name)
    return f"{found['compute']}g.{found['gb']}gb".lower() if found else ""


def without_profile(name: str) -> str:
    """Return the name of the whole GPU: ``NVIDIA H200`` of ``NVIDIA H200 MIG 3g.71gb``."""
    return _PROFILE.sub("", name).strip(" -_/")


def mig_slice(device: Device, profile: str) -> Device | None:
    """Return a MIG slice of a GPU; None where the GPU is not cut into such slices.

    ``3g.71gb`` of an H200: 60 of 132 multiprocessors and half of the memory and its bandwidth.
    """
    found, partition = _PROFILE.fullmatch(profile), _partition(device)
    if found is None or partition is None:
        return None
    compute, named_gb = int(found["compute"]), int(found["gb"])
    for parts in partition.memory.get(compute, ()):
        share = parts / partition.memory_parts
        # Profiles are named by rounded GB: 17.6 of an H200 are 1g.18gb.
        gb = math.floor(device.memory_bytes / GIB * share + 0.5)
        if abs(gb - named_gb) <= NAMED_GB_TOLERANCE:
            units = partition.units[compute] * device.compute_units // partition.of_units
            return _part(device, f"MIG {profile}", memory=share, units=units)
    return None


def _partition(device: Device) -> _Partition | None:
    by_name = (cut for name, cut in _BY_NAME.items() if device.name.startswith(name))
    return next(by_name, _PARTITIONS.get(device.generation))


def _part(whole: Device, name: str, *, memory: float, units: int) -> Device:
    """Return a part with a share (0..1) of the memory, and so many of the compute units.

    It costs its share of the memory: as many parts as fill that fill the device.
    """
    compute = units / whole.compute_units
    return replace(
        whole,
        name=f"{whole.name} {name}",
        aliases=(),
        pci_ids=(),
        memory_bytes=whole.memory_bytes * memory,
        host_reserved_bytes=whole.host_reserved_bytes * memory,
        memory_bandwidth_bytes_per_s=whole.memory_bandwidth_bytes_per_s * memory,
        flops_per_s={each: flops * compute for each, flops in whole.flops_per_s.items()},
        compute_units=units,
        tdp_w=whole.tdp_w * memory,
        price_usd=whole.price_usd * memory,
        price_usd_per_h=whole.price_usd_per_h * memory,
        whole=whole,
        share_of_whole=memory,
    )
