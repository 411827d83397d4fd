"""A plan for AIBrix: Deployments and a Service with the labels its gateway routes by.

Labels as in AIBrix of August 2026.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Final

from budsim.engine_ops.base import PoolRole
from budsim.simulator.rendering.deployments import Deployment, Group
from budsim.simulator.rendering.pods import Manifest, Workload, pod
from budsim.simulator.rendering.stacks.shared import groups_of, launch_of, notes_of
from budsim.simulator.rendering.writing import yaml_text

# Name of the set that workers of both pools belong to, and how its gateway chooses among them
# (AIBrix docs, prefill-decode disaggregation).
ROLE_SET: Final = "pools"
POLICY: Final = "least_request"


def aibrix(deployment: Deployment) -> str:
    """Return a Deployment for each group and one Service, all with the model's label.

    AIBrix routes by a label that equals the Service's name and the name callers ask for, so the
    model is served under its short name.

    Raises
    ------
    InvalidInput
        The plan has replicas over several nodes.
    """
    found = list(groups_of(deployment, "aibrix"))
    notes = notes_of(
        deployment,
        "apply: kubectl apply -f FILE, where AIBrix is installed",
        f"callers ask for the model as {deployment.slug}",
    )
    if deployment.is_disaggregated:
        # Its `nixl` is the protocol of Neuron devices: vLLM's own is the default, `shfs`.
        notes.append("leave AIBRIX_KV_CONNECTOR_TYPE of the gateway plugin at its default")
    return yaml_text(notes, *_manifests(deployment, found))


def _manifests(deployment: Deployment, found: list[tuple[Group, Workload]]) -> Iterator[Manifest]:
    for group, workload in found:
        yield _workload(deployment, group, workload)
    yield _service(deployment, found[0][0].engine.port)


def _workload(deployment: Deployment, group: Group, workload: Workload) -> Manifest:
    launch = launch_of(group, workload, **{"served-model-name": deployment.slug})
    labels = _labels(deployment, group.engine.port)
    own = {**labels, "app.kubernetes.io/component": workload.name, **_pool_labels(group)}
    template = pod(deployment, group, workload, launch, answers=True)
    notes = {"annotations": _pool_annotations(group)} if group.role is not PoolRole.WHOLE else {}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": f"{deployment.slug}-{workload.name}", "labels": own},
        "spec": {
            "replicas": len(workload.replicas),
            "strategy": {"type": "Recreate"},
            "selector": {"matchLabels": own},
            "template": {"metadata": {"labels": own, **notes}, "spec": template["spec"]},
        },
    }


def _service(deployment: Deployment, port: int) -> Manifest:
    labels = _labels(deployment, port)
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": deployment.slug, "labels": labels},
        "spec": {
            "selector": {"model.aibrix.ai/name": deployment.slug},
            "ports": [{"name": "serve", "port": port, "targetPort": "http"}],
        },
    }


def _labels(deployment: Deployment, port: int) -> dict[str, str]:
    return {"model.aibrix.ai/name": deployment.slug, "model.aibrix.ai/port": str(port)}


def _pool_labels(group: Group) -> dict[str, str]:
    """Return by what the gateway tells both pools, which it takes for one set of pairs."""
    if group.role is PoolRole.WHOLE:
        return {}
    labels = {"role-name": str(group.role), "roleset-name": ROLE_SET}
    return {**labels, "model.aibrix.ai/engine": group.engine.name}


def _pool_annotations(group: Group) -> dict[str, str]:
    """Return how the gateway chooses workers: of each pool the one with the fewest requests."""
    scores = {"prefillScorePolicy": POLICY, "decodeScorePolicy": POLICY}
    profile = {"routingStrategy": "pd", "routingConfig": scores}
    config = {
        "lockedRoutingStrategy": "pd",
        "defaultProfile": "default",
        "profiles": {"default": profile},
    }
    port = group.launch.args.get("disaggregation-bootstrap-port")
    bootstrap = {"model.aibrix.ai/sglang-bootstrap-port": str(port)} if port else {}
    return {"model.aibrix.ai/config": json.dumps(config), **bootstrap}
