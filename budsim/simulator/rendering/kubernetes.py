"""Writes a plan as Kubernetes manifests.

Each group is a Deployment or a LeaderWorkerSet with a Service; the router stands before them.
Workers of pools are StatefulSets, whose pods have addresses of their own.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from budsim.engine_ops.base import PoolRole, RouteTarget
from budsim.simulator.rendering.commands import heading
from budsim.simulator.rendering.deployments import Deployment, Group
from budsim.simulator.rendering.kubernetes_routers import (
    metadata,
    pool_router,
    proxy_router,
    service,
)
from budsim.simulator.rendering.pods import (
    OWN_ADDRESS,
    Manifest,
    Workload,
    part_labels,
    part_name,
    pod,
    workloads,
)
from budsim.simulator.rendering.routing import router_port, target
from budsim.simulator.rendering.stores import store_manifests, store_notes
from budsim.simulator.rendering.writing import yaml_text


def kubernetes(deployment: Deployment) -> str:
    """Return all manifests as YAML documents; requests go to the router's Service."""
    router = part_name(deployment, "router")
    notes = [
        *heading(deployment),
        *store_notes(deployment),
        f"requests go to http://{router}:{router_port(deployment)}/v1 inside the cluster",
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
    yield from (_pools if deployment.is_disaggregated else _whole)(deployment)
    yield from store_manifests(deployment)


def _whole(deployment: Deployment) -> Iterator[Manifest]:
    """Yield replicas of whole requests, then the proxy before them."""
    for group in deployment.groups:
        for workload in workloads(group):
            yield _workload(deployment, group, workload)
        yield service(deployment, group.name, _address(group), group.engine.port)
    yield from proxy_router(deployment, _targets(deployment))


def _workload(deployment: Deployment, group: Group, workload: Workload) -> Manifest:
    role = replace(
        workload.first.role,
        port=group.engine.port,
        leader="$(LWS_LEADER_ADDRESS)",
        address=OWN_ADDRESS,
    )
    leader = pod(deployment, group, workload, group.launched_as(role), answers=True)
    if workload.size == 1:
        return _equal_pods(deployment, group, workload, leader)
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
        "metadata": metadata(deployment, workload.name, group),
        "spec": spec,
    }


def _equal_pods(
    deployment: Deployment, group: Group, workload: Workload, template: Manifest
) -> Manifest:
    """Return replicas of one pod each; those of pools in a StatefulSet, all started at once."""
    in_pool = group.role is not PoolRole.WHOLE
    own = (
        {
            "serviceName": part_name(deployment, workload.name),
            "podManagementPolicy": "Parallel",
        }
        if in_pool
        # A rolling update would need devices that the old replicas still hold.
        else {"strategy": {"type": "Recreate"}}
    )
    return {
        "apiVersion": "apps/v1",
        "kind": "StatefulSet" if in_pool else "Deployment",
        "metadata": metadata(deployment, workload.name, group),
        "spec": {
            "replicas": len(workload.replicas),
            **own,
            "selector": {"matchLabels": part_labels(deployment, workload.name)},
            "template": template,
        },
    }


def _pools(deployment: Deployment) -> Iterator[Manifest]:
    """Yield the workers of both pools, then the router, which is told the address of each."""
    addresses: dict[PoolRole, list[str]] = {PoolRole.PREFILL: [], PoolRole.DECODE: []}
    for group in deployment.groups:
        for workload in workloads(group):
            yield _workload(deployment, group, workload)
            # A LeaderWorkerSet makes this Service by itself.
            if workload.size == 1:
                yield _headless(deployment, group, workload)
            addresses[group.role] += _pods(deployment, group, workload)
    yield from pool_router(deployment, addresses)


def _pods(deployment: Deployment, group: Group, workload: Workload) -> Iterator[str]:
    """Yield the address of each replica's pod; StatefulSets and LeaderWorkerSets number them."""
    name = part_name(deployment, workload.name)
    for number in range(len(workload.replicas)):
        yield f"http://{name}-{number}.{name}:{group.engine.port}"


def _headless(deployment: Deployment, group: Group, workload: Workload) -> Manifest:
    """Return the Service that gives pods names, also before they answer."""
    ports = [{"name": "http", "port": group.engine.port, "targetPort": "http"}]
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": metadata(deployment, workload.name),
        "spec": {
            "clusterIP": "None",
            "publishNotReadyAddresses": True,
            "selector": part_labels(deployment, workload.name),
            "ports": ports,
        },
    }


def _address(group: Group) -> str:
    """Return the part that names a group's Service.

    A LeaderWorkerSet makes a Service of its own name, through which its pods meet.
    """
    return f"{group.name}-api"


def _targets(deployment: Deployment) -> Iterator[RouteTarget]:
    for group in deployment.groups:
        url = f"http://{part_name(deployment, _address(group))}:{group.engine.port}/v1"
        yield target(deployment, group, url, replicas=len(group.replicas))
