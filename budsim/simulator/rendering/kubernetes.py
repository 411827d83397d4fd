"""Writes a plan as Kubernetes manifests.

Each group is a Deployment or a LeaderWorkerSet with a Service; the router stands before them.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from budsim.engine_ops.base import Launch, RouteTarget
from budsim.hardware_ops.cluster import HardwareMode
from budsim.hardware_ops.device import DeviceKind
from budsim.simulator.rendering.commands import heading
from budsim.simulator.rendering.deployments import Deployment, Group, Process
from budsim.simulator.rendering.platforms import PLATFORMS, SHM_GIB_PER_DEVICE
from budsim.simulator.rendering.routing import PROXY_IMAGE, PROXY_PORT, proxy_config, target
from budsim.simulator.rendering.writing import yaml_text

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

Manifest = dict[str, Any]


def kubernetes(deployment: Deployment) -> str:
    """Return all manifests as YAML documents; requests go to the router's Service."""
    notes = [
        *heading(deployment),
        f"requests go to http://{_name(deployment, 'router')}:{PROXY_PORT}/v1 inside the cluster",
    ]
    if any(len(replica) > 1 for group in deployment.groups for replica in group.replicas):
        notes.append(
            "replicas over several nodes need LeaderWorkerSet 0.6 or newer (lws.sigs.k8s.io)"
        )
    return yaml_text(notes, *_manifests(deployment))


def _manifests(deployment: Deployment) -> Iterator[Manifest]:
    for group in deployment.groups:
        for workload in _workloads(group):
            yield _workload(deployment, group, workload)
        yield _service(deployment, group.name, _address(group), group.engine.port)
    yield from _router(deployment)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Workload:
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


def _workloads(group: Group) -> list[_Workload]:
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
        _Workload(name=name, replicas=tuple(found))
        for name, found in zip(names, alike.values(), strict=True)
    ]


def _workload(deployment: Deployment, group: Group, workload: _Workload) -> Manifest:
    role = replace(workload.first.role, port=group.engine.port, leader="$(LWS_LEADER_ADDRESS)")
    leader = _pod(deployment, group, workload, group.launched_as(role), answers=True)
    metadata = _metadata(deployment, workload.name, group)
    if workload.size == 1:
        spec = {
            "replicas": len(workload.replicas),
            # A rolling update would need devices that the old replicas still hold.
            "strategy": {"type": "Recreate"},
            "selector": {"matchLabels": _labels(deployment, workload.name)},
            "template": leader,
        }
        return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata, "spec": spec}
    worker = group.launched_as(replace(role, rank="$(LWS_WORKER_INDEX)"))
    template = {
        "size": workload.size,
        "restartPolicy": "RecreateGroupOnPodRestart",
        "leaderTemplate": leader,
        "workerTemplate": _pod(deployment, group, workload, worker, answers=False),
    }
    spec = {"replicas": len(workload.replicas), "leaderWorkerTemplate": template}
    return {
        "apiVersion": "leaderworkerset.x-k8s.io/v1",
        "kind": "LeaderWorkerSet",
        "metadata": metadata,
        "spec": spec,
    }


def _pod(
    deployment: Deployment, group: Group, workload: _Workload, launch: Launch, *, answers: bool
) -> Manifest:
    """Return a pod template that runs on the plan's nodes only."""
    role = {"budsim/answers": group.name} if answers else {}
    shm = {
        "name": "shm",
        "emptyDir": {"medium": "Memory", "sizeLimit": f"{SHM_GIB_PER_DEVICE * workload.devices}Gi"},
    }
    spec = {
        **_where(deployment, group, workload),
        # Variables of a Service named like the engine would be taken for its settings (VLLM_PORT).
        "enableServiceLinks": False,
        "containers": [_container(group, workload, launch, answers=answers)],
        "volumes": [shm, {"name": "model-cache", "emptyDir": {}}],
    }
    return {"metadata": {"labels": {**_labels(deployment, workload.name), **role}}, "spec": spec}


def _where(deployment: Deployment, group: Group, workload: _Workload) -> Manifest:
    """Return the nodes of the plan.

    On CPUs a node has one replica of a workload: all of them are bound to the same cores.
    """
    nodes = workload.nodes
    if len(nodes) == 1:
        return {"nodeSelector": {"kubernetes.io/hostname": nodes[0]}}
    expression = {"key": "kubernetes.io/hostname", "operator": "In", "values": nodes}
    terms = {"nodeSelectorTerms": [{"matchExpressions": [expression]}]}
    affinity: Manifest = {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": terms}}
    if group.kind is DeviceKind.CPU:
        apart = {
            "labelSelector": {"matchLabels": _labels(deployment, workload.name)},
            "topologyKey": "kubernetes.io/hostname",
        }
        affinity["podAntiAffinity"] = {"requiredDuringSchedulingIgnoredDuringExecution": [apart]}
    return {"affinity": affinity}


def _container(group: Group, workload: _Workload, launch: Launch, *, answers: bool) -> Manifest:
    platform = PLATFORMS[group.kind]
    token = {
        "name": "HF_TOKEN",
        "valueFrom": {"secretKeyRef": {"name": "hf-token", "key": "token", "optional": True}},
    }
    capabilities = (
        {"securityContext": {"capabilities": {"add": list(platform.capabilities)}}}
        if platform.capabilities
        else {}
    )
    return {
        "name": group.engine.name,
        "image": launch.image,
        "command": list(launch.command),
        "env": [*({"name": name, "value": value} for name, value in launch.envs.items()), token],
        **({"ports": [{"name": "http", "containerPort": group.engine.port}]} if answers else {}),
        "resources": _resources(group, workload.devices),
        **capabilities,
        **(_probes(group, workload.devices) if answers else {}),
        "volumeMounts": [
            {"name": "shm", "mountPath": "/dev/shm"},
            {"name": "model-cache", "mountPath": "/root/.cache/huggingface"},
        ],
    }


def _resources(group: Group, devices: int) -> Manifest:
    """Return what a process is given.

    On CPUs its cores and memory; elsewhere its devices, and host cores and memory to feed them.
    """
    shm = SHM_GIB_PER_DEVICE * devices
    if group.kind is DeviceKind.CPU:
        memory = f"{math.ceil(group.memory_gib * devices) + shm}Gi"
        cores = {"cpu": str(group.cores * devices)} if group.cores else {}
        return {"requests": {**cores, "memory": memory}, "limits": {**cores, "memory": memory}}
    processes = HOST_PROCESSES + devices
    host = GIB_PER_PROCESS * processes + shm
    wanted = _device_resources(group, devices)
    return {
        "requests": {"cpu": str(processes), "memory": f"{host}Gi", **wanted},
        "limits": {"memory": f"{host + math.ceil(group.weight_gib * devices)}Gi", **wanted},
    }


def _device_resources(group: Group, devices: int) -> Mapping[str, str]:
    """Return the devices asked of the vendor's plugin.

    Time-sliced ones are asked for with the memory HAMi reserves on each, MiB.
    """
    resource = PLATFORMS[group.kind].resource
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


def _service(deployment: Deployment, part: str, name: str, port: int) -> Manifest:
    selector = {"app.kubernetes.io/instance": deployment.slug, "budsim/answers": part}
    ports = [{"name": "http", "port": port, "targetPort": "http"}]
    spec = {"selector": selector, "ports": ports}
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": _metadata(deployment, name),
        "spec": spec,
    }


def _address(group: Group) -> str:
    """Return the part that names a group's Service.

    A LeaderWorkerSet makes a Service of its own name, through which its pods meet.
    """
    return f"{group.name}-api"


def _router(deployment: Deployment) -> Iterator[Manifest]:
    """Yield the proxy, which spreads requests over the groups' Services by their speed."""
    name = _name(deployment, "router")
    config = yaml_text((), proxy_config(deployment, _targets(deployment)))
    # Engines ask for no key unless told to. A Secret of the router's name overrides this key and
    # holds those of providers.
    yield {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": _metadata(deployment, "router"),
        "data": {
            "BUDSIM_REPLICA_API_KEY": "none",
            "LITELLM_LOCAL_MODEL_COST_MAP": "True",
            "config.yaml": config,
        },
    }
    labels = _labels(deployment, "router")
    spec = {
        "containers": [_proxy_container(name)],
        "volumes": [
            {
                "name": "config",
                "configMap": {
                    "name": name,
                    "items": [{"key": "config.yaml", "path": "config.yaml"}],
                },
            }
        ],
    }
    template = {"metadata": {"labels": {**labels, "budsim/answers": "router"}}, "spec": spec}
    yield {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": _metadata(deployment, "router"),
        "spec": {"replicas": 1, "selector": {"matchLabels": labels}, "template": template},
    }
    yield _service(deployment, "router", "router", PROXY_PORT)


def _targets(deployment: Deployment) -> Iterator[RouteTarget]:
    for group in deployment.groups:
        url = f"http://{_name(deployment, _address(group))}:{group.engine.port}/v1"
        yield target(deployment, group, url, replicas=len(group.replicas))


def _proxy_container(name: str) -> Manifest:
    def probe(path: str) -> Manifest:
        """Return an HTTP probe of this path of the proxy."""
        return {
            "httpGet": {"path": path, "port": "http"},
            "periodSeconds": PROBE_PERIOD_S,
            "failureThreshold": 6,
        }

    return {
        "name": "litellm",
        "image": PROXY_IMAGE,
        "args": ["--config", "/etc/litellm/config.yaml", "--port", str(PROXY_PORT)],
        "envFrom": [
            {"configMapRef": {"name": name}},
            {"secretRef": {"name": name, "optional": True}},
        ],
        "ports": [{"name": "http", "containerPort": PROXY_PORT}],
        "resources": {"requests": {"cpu": "1", "memory": "1Gi"}, "limits": {"memory": "2Gi"}},
        "readinessProbe": probe("/health/readiness"),
        "livenessProbe": probe("/health/liveliness"),
        "volumeMounts": [{"name": "config", "mountPath": "/etc/litellm"}],
    }


def _metadata(deployment: Deployment, name: str, group: Group | None = None) -> Manifest:
    metadata: Manifest = {"name": _name(deployment, name), "labels": _labels(deployment, name)}
    if group:
        metadata["annotations"] = {
            "budsim/configuration": group.config_id,
            "budsim/device": group.device_name,
        }
    return metadata


def _name(deployment: Deployment, part: str) -> str:
    """Return the name of a part; it begins with a letter, as names of Services must."""
    return (
        f"{deployment.slug}-{part}"
        if deployment.slug[0].isalpha()
        else f"m-{deployment.slug}-{part}"
    )


def _labels(deployment: Deployment, part: str) -> dict[str, str]:
    return {
        "app.kubernetes.io/instance": deployment.slug,
        "app.kubernetes.io/component": part,
        "app.kubernetes.io/managed-by": "budsim",
    }
