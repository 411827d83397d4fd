"""Pods of a plan: replicas that are alike, and the pod that runs one process of them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from budsim.engine_ops.base import Launch
from budsim.hardware_ops.cluster import HardwareMode
from budsim.hardware_ops.device import DeviceKind
from budsim.simulator.rendering.deployments import Deployment, Group, Process
from budsim.simulator.rendering.platforms import SHM_GIB_PER_DEVICE, platform_of, required_nodes
from budsim.simulator.rendering.stores import client_mounts, client_volumes

# Processes beside one for each device: 2 + N cores for N devices (vLLM docs, optimization, "CPU
# resources for GPU deployments").
HOST_PROCESSES: Final = 2
# Host memory of one such process: our estimate.
GIB_PER_PROCESS: Final = 4
# Slowest rate at which weights arrive: our estimate.
LOAD_GIB_PER_S: Final = 0.2
# Longest time before a replica answers, loading of weights aside: our estimate.
STARTUP_S: Final = 900

PROBE_PERIOD_S: Final = 10

# Secret with the hub's token, under the key ``token``.
TOKEN_SECRET: Final = "hf-token"

# Address of a pod, where other pods reach it.
OWN_ADDRESS: Final = "$(POD_IP)"

Manifest = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """Replicas of a group that one manifest describes: alike in processes, and on CPUs in cores."""

    name: str
    replicas: tuple[tuple[Process, ...], ...]

    @property
    def first(self) -> Process:
        """The process of a replica that answers requests."""
        return self.replicas[0][0]

    @property
    def size(self) -> int:
        """Processes of a replica."""
        return len(self.replicas[0])

    @property
    def devices(self) -> int:
        """Devices of a process."""
        return len(self.first.devices)

    @property
    def nodes(self) -> list[str]:
        """Nodes its replicas may lie on."""
        return list(dict.fromkeys(part.node for replica in self.replicas for part in replica))


def workloads(group: Group) -> list[Workload]:
    """Return the replicas of a group, those that are alike together."""
    alike: dict[tuple[object, ...], list[tuple[Process, ...]]] = {}
    for processes in group.replicas:
        first = processes[0]
        alike.setdefault((len(processes), len(first.devices), first.role.cores), []).append(
            processes
        )
    names = (
        [group.name]
        if len(alike) == 1
        else [f"{group.name}-{number}" for number in range(1, len(alike) + 1)]
    )
    return [
        Workload(name=name, replicas=tuple(found))
        for name, found in zip(names, alike.values(), strict=True)
    ]


def pod(
    deployment: Deployment, group: Group, workload: Workload, launch: Launch, *, answers: bool
) -> Manifest:
    """Return a pod template that runs on the plan's nodes only."""
    role = {"budsim/answers": group.name} if answers else {}
    size_gib = SHM_GIB_PER_DEVICE * workload.devices + group.host_cache_gib(workload.devices)
    shm = {"name": "shm", "emptyDir": {"medium": "Memory", "sizeLimit": f"{size_gib}Gi"}}
    spec = {
        **_where(deployment, group, workload),
        # Variables of a Service named like the engine would be taken for its settings (VLLM_PORT).
        "enableServiceLinks": False,
        "containers": [container(group, workload, launch, answers=answers)],
        "volumes": [shm, {"name": "model-cache", **_weights(deployment)}, *client_volumes(group)],
    }
    return {
        "metadata": {"labels": {**part_labels(deployment, workload.name), **role}},
        "spec": spec,
    }


def _weights(deployment: Deployment) -> Manifest:
    """Return where weights are kept: on a claim, or in the pod for as long as it lives."""
    if deployment.weights_claim:
        return {"persistentVolumeClaim": {"claimName": deployment.weights_claim}}
    return {"emptyDir": {}}


def _where(deployment: Deployment, group: Group, workload: Workload) -> Manifest:
    """Return the nodes of the plan.

    On CPUs a node has one replica of a workload: all of them are bound to the same cores.
    """
    nodes = workload.nodes
    if len(nodes) == 1:
        return {"nodeSelector": {"kubernetes.io/hostname": nodes[0]}}
    affinity = required_nodes(nodes)
    if group.kind is DeviceKind.CPU:
        apart = {
            "labelSelector": {"matchLabels": part_labels(deployment, workload.name)},
            "topologyKey": "kubernetes.io/hostname",
        }
        affinity["podAntiAffinity"] = {"requiredDuringSchedulingIgnoredDuringExecution": [apart]}
    return {"affinity": affinity, "topologySpreadConstraints": [_spread(deployment, workload)]}


def _spread(deployment: Deployment, workload: Workload) -> Manifest:
    """Return the wish that a node that fails takes as few replicas with it as possible."""
    return {
        "maxSkew": 1,
        "topologyKey": "kubernetes.io/hostname",
        "whenUnsatisfiable": "ScheduleAnyway",
        "labelSelector": {"matchLabels": part_labels(deployment, workload.name)},
    }


def container(group: Group, workload: Workload, launch: Launch, *, answers: bool) -> Manifest:
    """Return the container of one process; with ``answers`` it has a port and probes."""
    platform = platform_of(group.kind, group.device_name)
    capabilities = (
        {"securityContext": {"capabilities": {"add": list(platform.capabilities)}}}
        if platform.capabilities
        else {}
    )
    return {
        "name": group.engine.name,
        "image": launch.image,
        "command": list(launch.command),
        "env": environment_of(launch),
        **({"ports": [{"name": "http", "containerPort": group.engine.port}]} if answers else {}),
        "resources": _resources(group, workload.devices),
        **capabilities,
        **(_probes(group, workload.devices) if answers else {}),
        "volumeMounts": [
            {"name": "shm", "mountPath": "/dev/shm"},
            {"name": "model-cache", "mountPath": "/root/.cache/huggingface"},
            *client_mounts(group),
        ],
    }


def environment_of(launch: Launch) -> list[Manifest]:
    """Return the environment of a container, with the hub's token where its Secret exists.

    A pod that has to tell its own address reads it before it is used.
    """
    secret = {"name": TOKEN_SECRET, "key": "token", "optional": True}
    token = {"name": "HF_TOKEN", "valueFrom": {"secretKeyRef": secret}}
    own = {"name": "POD_IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}
    first = [own] if OWN_ADDRESS in launch.envs.values() else []
    return [*first, *({"name": name, "value": value} for name, value in launch.envs.items()), token]


def _resources(group: Group, devices: int) -> Manifest:
    """Return what a process is given.

    On CPUs its cores and memory; elsewhere its devices, and host cores and memory to feed them and
    to keep KV cache in.
    """
    shm = SHM_GIB_PER_DEVICE * devices
    if group.kind is DeviceKind.CPU:
        memory = f"{math.ceil(group.memory_gib * devices) + shm}Gi"
        cores = {"cpu": str(group.cores * devices)} if group.cores else {}
        return {"requests": {**cores, "memory": memory}, "limits": {**cores, "memory": memory}}
    processes = HOST_PROCESSES + devices
    host = GIB_PER_PROCESS * processes + shm + group.host_cache_gib(devices)
    wanted = _device_resources(group, devices)
    return {
        "requests": {"cpu": str(processes), "memory": f"{host}Gi", **wanted},
        "limits": {"memory": f"{host + math.ceil(group.weight_gib * devices)}Gi", **wanted},
    }


def _device_resources(group: Group, devices: int) -> Mapping[str, str]:
    """Return the devices asked of the vendor's plugin.

    Time-sliced ones are asked for with the memory HAMi reserves on each, MiB.
    """
    resource = platform_of(group.kind, group.device_name).resource
    shares = (
        {"nvidia.com/gpumem": str(math.ceil(group.memory_gib * 1024))}
        if group.mode is HardwareMode.SHARED
        else {}
    )
    return {resource: str(devices), **shares}


def _probes(group: Group, devices: int) -> Manifest:
    health = {"httpGet": {"path": "/health", "port": "http"}, "timeoutSeconds": 5}
    startup_s = STARTUP_S + group.weight_gib * devices / LOAD_GIB_PER_S
    return {
        "startupProbe": {
            **health,
            "periodSeconds": PROBE_PERIOD_S,
            "failureThreshold": math.ceil(startup_s / PROBE_PERIOD_S),
        },
        "readinessProbe": {**health, "periodSeconds": PROBE_PERIOD_S},
        "livenessProbe": {**health, "periodSeconds": 3 * PROBE_PERIOD_S, "failureThreshold": 3},
    }


def part_name(deployment: Deployment, part: str) -> str:
    """Return the name of a part; it begins with a letter, as names of Services must."""
    return (
        f"{deployment.slug}-{part}"
        if deployment.slug[0].isalpha()
        else f"m-{deployment.slug}-{part}"
    )


def part_labels(deployment: Deployment, part: str) -> dict[str, str]:
    """Return the labels of a part, by which Services and workloads find its pods."""
    return {
        "app.kubernetes.io/instance": deployment.slug,
        "app.kubernetes.io/component": part,
        "app.kubernetes.io/managed-by": "budsim",
    }
