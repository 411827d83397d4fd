"""A plan for NVIDIA Dynamo: a `DynamoGraphDeployment` (v1beta1, Dynamo 1.6)."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from budsim.engine_ops.base import PoolRole
from budsim.hardware_ops.device import DeviceKind
from budsim.simulator.rendering.deployments import Deployment, Group
from budsim.simulator.rendering.platforms import SHM_GIB_PER_DEVICE
from budsim.simulator.rendering.pods import (
    Manifest,
    Workload,
    part_labels,
    part_name,
    pod,
)
from budsim.simulator.rendering.stacks.shared import (
    flags_of,
    groups_of,
    launch_of,
    notes_of,
    where_of,
)
from budsim.simulator.rendering.writing import yaml_text

VERSION: Final = "1.6.2"
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
# Name of the container that the operator completes.
_MAIN: Final = "main"


def dynamo(deployment: Deployment) -> str:
    """Return one `DynamoGraphDeployment`: a frontend, and a component for each group's workers.

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
    engines = {group.engine.name for group, _ in found}
    workers = [_worker(deployment, group, workload) for group, workload in found]
    graph = {
        "apiVersion": "nvidia.com/v1beta1",
        "kind": "DynamoGraphDeployment",
        "metadata": {
            "name": part_name(deployment, "graph"),
            "labels": part_labels(deployment, "graph"),
        },
        "spec": {
            **({"backendFramework": min(engines)} if len(engines) == 1 else {}),
            "components": [_frontend(found[0][0]), *workers],
        },
    }
    return yaml_text(notes, graph)


def _frontend(group: Group) -> Manifest:
    container = {
        "name": _MAIN,
        "image": IMAGES[group.engine.name],
        "command": ["python3", "-m", "dynamo.frontend"],
        "args": ["--http-port", str(FRONTEND_PORT)],
    }
    template = {"spec": {"containers": [container]}}
    return {"name": "Frontend", "type": "frontend", "replicas": 1, "podTemplate": template}


def _mode(role: PoolRole) -> list[str]:
    """Return the flag of Dynamo's wrappers that names the part of requests a worker serves."""
    return [] if role is PoolRole.WHOLE else [f"--{_MODE}", str(role)]


def _worker(deployment: Deployment, group: Group, workload: Workload) -> Manifest:
    nodes = {"multinode": {"nodeCount": workload.size}} if workload.size > 1 else {}
    shm_gib = SHM_GIB_PER_DEVICE * workload.devices + group.host_cache_gib(workload.devices)
    return {
        "name": workload.name,
        "type": "worker" if group.role is PoolRole.WHOLE else str(group.role),
        "replicas": len(workload.replicas),
        **nodes,
        "sharedMemorySize": f"{shm_gib}Gi",
        "podTemplate": {"spec": _pod(deployment, group, workload)},
    }


def _pod(deployment: Deployment, group: Group, workload: Workload) -> Manifest:
    """Return the pod of a worker on the plan's nodes; the operator adds ports and probes."""
    name = group.engine.name
    template = pod(deployment, group, workload, launch_of(group, workload), answers=False)
    own = template["spec"]["containers"][0]
    flags = flags_of(group, without=("port", _MODE))
    kept = [each for each in template["spec"]["volumes"] if each["name"] != "shm"]
    names = {each["name"] for each in kept}
    container = {
        "name": _MAIN,
        "image": IMAGES[name],
        "command": ["python3", "-m", f"dynamo.{name}"],
        "args": [MODEL_FLAGS[name], group.launch.model, *flags, *_mode(group.role)],
        "env": own["env"],
        "resources": own["resources"],
        "volumeMounts": [each for each in own["volumeMounts"] if each["name"] in names],
    }
    return {**where_of(template["spec"]), "containers": [container], "volumes": kept}
