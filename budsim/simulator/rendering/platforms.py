"""Names of devices in Kubernetes, in containers and in environment variables; and of nodes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any, Final

from budsim.hardware_ops.device import DeviceKind
from budsim.hardware_ops.device_parts import mig_profile

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
    by_uuid : bool
        Whether only UUIDs name its devices (MIG slices), which an inventory need not state.
    """

    resource: str = ""
    visible: str = ""
    visible_inside: str = ""
    driver: str = ""
    container: Mapping[str, Any] = field(default_factory=dict)
    capabilities: tuple[str, ...] = ()
    by_uuid: bool = False


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


def node_terms(nodes: Sequence[str]) -> list[dict[str, Any]]:
    """Return the terms of a Kubernetes node selector that keep a pod on nodes of these names."""
    there = {"key": "kubernetes.io/hostname", "operator": "In", "values": list(nodes)}
    return [{"matchExpressions": [there]}]


def required_nodes(nodes: Sequence[str]) -> dict[str, Any]:
    """Return the node affinity by which a pod runs nowhere but on nodes of these names."""
    terms = {"nodeSelectorTerms": node_terms(nodes)}
    return {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": terms}}


def platform_of(kind: DeviceKind, device_name: str) -> Platform:
    """Return how devices are asked for; MIG slices by their profile and not by number.

    NVIDIA's device plugin with the strategy ``mixed`` calls them ``nvidia.com/mig-3g.40gb``.
    """
    profile = mig_profile(device_name)
    if not profile:
        return PLATFORMS[kind]
    return replace(PLATFORMS[kind], resource=f"nvidia.com/mig-{profile}", visible="", by_uuid=True)


def visible_devices(variable: str, devices: Sequence[int]) -> dict[str, str]:
    """Return the environment that hides all other devices of the node from a process."""
    return {variable: ",".join(map(str, devices))} if variable else {}
