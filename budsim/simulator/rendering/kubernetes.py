"""Writes a plan as Kubernetes manifests.

Each group is a Deployment or a LeaderWorkerSet with a Service; the router stands before them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from budsim.engine_ops.base import RouteTarget
from budsim.simulator.rendering.commands import heading
from budsim.simulator.rendering.deployments import Deployment, Group
from budsim.simulator.rendering.pods import (
    PROBE_PERIOD_S,
    Manifest,
    Workload,
    part_labels,
    part_name,
    pod,
    workloads,
)
from budsim.simulator.rendering.routing import PROXY_IMAGE, PROXY_PORT, proxy_config, target
from budsim.simulator.rendering.writing import yaml_text


def kubernetes(deployment: Deployment) -> str:
    """Return all manifests as YAML documents; requests go to the router's Service."""
    router = part_name(deployment, "router")
    notes = [
        *heading(deployment),
        f"requests go to http://{router}:{PROXY_PORT}/v1 inside the cluster",
    ]
    if any(len(replica) > 1 for group in deployment.groups for replica in group.replicas):
        notes.append(
            "replicas over several nodes need LeaderWorkerSet 0.6 or newer (lws.sigs.k8s.io)"
        )
    if not deployment.weights_claim:
        notes.append("weights are downloaded at every start: --weights-claim NAME keeps them")
    notes.append("edit: the namespace, the Secret hf-token, and nodes that were renamed since")
    return yaml_text(notes, *_manifests(deployment))


def _manifests(deployment: Deployment) -> Iterator[Manifest]:
    for group in deployment.groups:
        for workload in workloads(group):
            yield _workload(deployment, group, workload)
        yield _service(deployment, group.name, _address(group), group.engine.port)
    yield from _router(deployment)


def _workload(deployment: Deployment, group: Group, workload: Workload) -> Manifest:
    role = replace(workload.first.role, port=group.engine.port, leader="$(LWS_LEADER_ADDRESS)")
    leader = pod(deployment, group, workload, group.launched_as(role), answers=True)
    metadata = _metadata(deployment, workload.name, group)
    if workload.size == 1:
        spec = {
            "replicas": len(workload.replicas),
            # A rolling update would need devices that the old replicas still hold.
            "strategy": {"type": "Recreate"},
            "selector": {"matchLabels": part_labels(deployment, workload.name)},
            "template": leader,
        }
        return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata, "spec": spec}
    worker = group.launched_as(replace(role, rank="$(LWS_WORKER_INDEX)"))
    template = {
        "size": workload.size,
        "restartPolicy": "RecreateGroupOnPodRestart",
        "leaderTemplate": leader,
        "workerTemplate": pod(deployment, group, workload, worker, answers=False),
    }
    spec = {"replicas": len(workload.replicas), "leaderWorkerTemplate": template}
    return {
        "apiVersion": "leaderworkerset.x-k8s.io/v1",
        "kind": "LeaderWorkerSet",
        "metadata": metadata,
        "spec": spec,
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
    name = part_name(deployment, "router")
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
    labels = part_labels(deployment, "router")
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
        url = f"http://{part_name(deployment, _address(group))}:{group.engine.port}/v1"
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
    metadata: Manifest = {
        "name": part_name(deployment, name),
        "labels": part_labels(deployment, name),
    }
    if group:
        metadata["annotations"] = {
            "budsim/configuration": group.config_id,
            "budsim/device": group.device_name,
        }
    return metadata
