"""A plan for NVIDIA Dynamo: a `DynamoGraphDeployment` (v1alpha1, Dynamo 1.3)."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from budsim.engine_ops.base import PoolRole
from budsim.hardware_ops.device import DeviceKind
from budsim.simulator.rendering.deployments import Deployment, Group
from budsim.simulator.rendering.platforms import PLATFORMS, SHM_GIB_PER_DEVICE, platform_of
from budsim.simulator.rendering.pods import (
    Manifest,
    Workload,
    environment_of,
    part_labels,
    part_name,
)
from budsim.simulator.rendering.stacks.shared import (
    flags_of,
    groups_of,
    launch_of,
    notes_of,
)
from budsim.simulator.rendering.writing import yaml_text

VERSION: Final = "1.3.1"
IMAGES: Final[Mapping[str, str]] = MappingProxyType(
    {
        "vllm": f"nvcr.io/nvidia/ai-dynamo/vllm-runtime:{VERSION}",
        "sglang": f"nvcr.io/nvidia/ai-dynamo/sglang-runtime:{VERSION}",
    }
)
MODEL_FLAGS: Final[Mapping[str, str]] = MappingProxyType(
    {"vllm": "--model", "sglang": "--model-path"}
)
"""How each worker is told its model."""
FRONTEND_PORT: Final = 8000

_MODE: Final = "disaggregation-mode"


def dynamo(deployment: Deployment) -> str:
    """Return one `DynamoGraphDeployment`: a frontend, and a worker service for each group.

    Dynamo's workers take the engine's own flags, and which part of requests they serve. Its
    frontend is the router between pools. Their image has an engine of its own version.

    Raises
    ------
    InvalidInput
        The plan has devices other than NVIDIA's.
    """
    notes = notes_of(
        deployment,
        f"apply: kubectl apply -f FILE, where Dynamo {VERSION} is installed",
        "the worker's image holds an engine of its own version; predicted was the one above",
    )
    found = list(groups_of(deployment, "dynamo", kinds=(DeviceKind.CUDA,), several_nodes=True))
    services = {workload.name: _worker(group, workload) for group, workload in found}
    graph = {
        "apiVersion": "nvidia.com/v1alpha1",
        "kind": "DynamoGraphDeployment",
        "metadata": {
            "name": part_name(deployment, "graph"),
            "labels": part_labels(deployment, "graph"),
        },
        "spec": {"services": {"Frontend": _frontend(found[0][0]), **services}},
    }
    return yaml_text(notes, graph)


def _frontend(group: Group) -> Manifest:
    container = {
        "image": IMAGES[group.engine.name],
        "command": ["python3", "-m", "dynamo.frontend"],
        "args": ["--http-port", str(FRONTEND_PORT)],
    }
    return {
        "componentType": "frontend",
        "replicas": 1,
        "extraPodSpec": {"mainContainer": container},
    }


def _mode(role: PoolRole) -> list[str]:
    """Return the flag of Dynamo's wrappers that names the part of requests a worker serves."""
    return [] if role is PoolRole.WHOLE else [f"--{_MODE}", str(role)]


def _devices(group: Group, count: int) -> Manifest:
    """Return the devices of a pod: GPUs, or slices of them under the name of their resource."""
    resource = platform_of(group.kind, group.device_name).resource
    sliced = {"gpuType": resource} if resource != PLATFORMS[group.kind].resource else {}
    return {"gpu": str(count), **sliced}


def _worker(group: Group, workload: Workload) -> Manifest:
    name = group.engine.name
    flags = flags_of(group, without=("port", _MODE))
    container = {
        "image": IMAGES[name],
        "command": ["python3", "-m", f"dynamo.{name}"],
        "args": [MODEL_FLAGS[name], group.launch.model, *flags, *_mode(group.role)],
        "env": environment_of(launch_of(group, workload)),
    }
    nodes = {"multinode": {"nodeCount": workload.size}} if workload.size > 1 else {}
    pool = {} if group.role is PoolRole.WHOLE else {"subComponentType": str(group.role)}
    return {
        "componentType": "worker",
        **pool,
        "replicas": len(workload.replicas),
        **nodes,
        "resources": {"limits": _devices(group, workload.devices)},
        "sharedMemory": {"size": f"{SHM_GIB_PER_DEVICE * workload.devices}Gi"},
        "extraPodSpec": {"mainContainer": container},
    }
