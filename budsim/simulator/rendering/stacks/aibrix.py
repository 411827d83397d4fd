"""A plan for AIBrix: Deployments and a Service with the labels its gateway routes by.

Labels as in AIBrix of August 2026.
"""

from __future__ import annotations

from collections.abc import Iterator

from budsim.simulator.rendering.deployments import Deployment, Group
from budsim.simulator.rendering.pods import Manifest, Workload, pod
from budsim.simulator.rendering.stacks.shared import groups_of, launch_of, notes_of
from budsim.simulator.rendering.writing import yaml_text


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
    return yaml_text(notes, *_manifests(deployment, found))


def _manifests(deployment: Deployment, found: list[tuple[Group, Workload]]) -> Iterator[Manifest]:
    for group, workload in found:
        yield _workload(deployment, group, workload)
    yield _service(deployment, found[0][0].engine.port)


def _workload(deployment: Deployment, group: Group, workload: Workload) -> Manifest:
    launch = launch_of(group, workload, **{"served-model-name": deployment.slug})
    labels = _labels(deployment, group.engine.port)
    own = {**labels, "app.kubernetes.io/component": workload.name}
    template = pod(deployment, group, workload, launch, answers=True)
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": f"{deployment.slug}-{workload.name}", "labels": own},
        "spec": {
            "replicas": len(workload.replicas),
            "strategy": {"type": "Recreate"},
            "selector": {"matchLabels": own},
            "template": {"metadata": {"labels": own}, "spec": template["spec"]},
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
