"""What each kind of device is called by Kubernetes, by containers and by the processes that may see only some of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Final

from budsim.hardware_ops.device import DeviceKind

SHM_GIB_PER_DEVICE: Final = 2
"""Shared memory: vLLM docs, deployment/k8s.md, give a pod of one GPU 2 GiB; collectives of more devices need more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Platform:
    """How devices of one kind are asked for.

    ``resource`` is the Kubernetes resource of the vendor's device plugin, ``visible`` the variable that hides the other devices
    from a process, both empty for CPUs. Inside a container the variable is ``visible_inside``, unless a ``driver`` passes on just
    the devices asked for; ``container`` are further keys of a compose service.
    """

    resource: str = ""
    visible: str = ""
    visible_inside: str = ""
    driver: str = ""
    container: Mapping[str, Any] = field(default_factory=dict)
    capabilities: tuple[str, ...] = ()


PLATFORMS: Final[Mapping[DeviceKind, Platform]] = MappingProxyType(
    {
        # NVIDIA Kubernetes device plugin; CUDA programming guide.
        DeviceKind.CUDA: Platform(
            resource="nvidia.com/gpu", visible="CUDA_VISIBLE_DEVICES", driver="nvidia"
        ),
        # AMD device plugin; ROCm docs, running containers: /dev/kfd and /dev/dri, group video.
        DeviceKind.ROCM: Platform(
            resource="amd.com/gpu",
            visible="HIP_VISIBLE_DEVICES",
            visible_inside="HIP_VISIBLE_DEVICES",
            container={
                "devices": ["/dev/kfd", "/dev/dri"],
                "group_add": ["video"],
                "security_opt": ["seccomp=unconfined"],
            },
        ),
        # Intel Gaudi docs: Kubernetes device plugin; Docker with the habana runtime; HABANA_VISIBLE_MODULES for processes.
        DeviceKind.HPU: Platform(
            resource="habana.ai/gaudi",
            visible="HABANA_VISIBLE_MODULES",
            visible_inside="HABANA_VISIBLE_DEVICES",
            container={"runtime": "habana"},
            capabilities=("SYS_NICE",),
        ),
        # vLLM docs, CPU installation: threads are bound and memory is placed by NUMA node.
        DeviceKind.CPU: Platform(
            container={"security_opt": ["seccomp=unconfined"]}, capabilities=("SYS_NICE",)
        ),
    }
)


def shown(variable: str, devices: Sequence[int]) -> dict[str, str]:
    """Return the environment that shows a process these devices of its node only; none where nothing hides devices."""
    return {variable: ",".join(map(str, devices))} if variable else {}
