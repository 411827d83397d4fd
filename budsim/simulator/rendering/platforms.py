"""Names of each kind of device in Kubernetes, in containers and in environment variables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Final

from budsim.hardware_ops.device import DeviceKind

# Shared memory of a pod: 2 GiB for one GPU (vLLM docs, deployment/k8s.md); collectives of more
# devices need more.
SHM_GIB_PER_DEVICE: Final = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Platform:
    """How devices of one kind are asked for.

    Attributes
    ----------
    resource : str
        Kubernetes resource of the vendor's device plugin; empty for CPUs.
    visible : str
        Variable that hides other devices from a process; empty for CPUs.
    visible_inside : str
        The same inside a container; empty where ``driver`` passes on the devices asked for only.
    driver : str
        Container driver that passes on single devices.
    container : mapping
        Further keys of a compose service.
    capabilities : tuple of str
        Linux capabilities the process needs.
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
        # Intel Gaudi docs: Kubernetes device plugin; Docker with the habana runtime;
        # HABANA_VISIBLE_MODULES for processes.
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


def visible_devices(variable: str, devices: Sequence[int]) -> dict[str, str]:
    """Return the environment that hides all other devices of the node from a process."""
    return {variable: ",".join(map(str, devices))} if variable else {}
