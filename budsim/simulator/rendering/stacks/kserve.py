"""A plan for KServe: `LLMInferenceService` for vLLM, `InferenceService` for any engine.

Fields as in KServe's CRDs of August 2026 (v1alpha2 and v1beta1).
"""

from __future__ import annotations

from typing import Final

from budsim.simulator.rendering.deployments import Deployment, Group
from budsim.simulator.rendering.pods import Manifest, Workload, part_labels, part_name, pod
from budsim.simulator.rendering.stacks.shared import (
    flags_of,
    groups_of,
    launch_of,
    notes_of,
    pools_of,
    where_of,
)
from budsim.simulator.rendering.writing import yaml_text

# Ports of KServe's own commands: of vLLM, and behind the proxy of decode workers.
USUAL_PORT: Final = 8000
DECODE_PORT: Final = 8001

# KServe's own command states these.
_OWN_FLAGS: Final = ("tensor-parallel-size", "served-model-name", "port")


def llm_inference_service(deployment: Deployment) -> str:
    """Return an `LLMInferenceService` for each group; vLLM, replicas on one node.

    KServe's own command starts vLLM; the flags of the plan follow it.

    Raises
    ------
    InvalidInput
        The plan needs another engine, or replicas over several nodes.
    """
    notes = notes_of(
        deployment,
        "apply: kubectl apply -f FILE, where KServe with LLMInferenceService is installed",
        "edit: gateway, storage (hf:// downloads on every start; pvc:// keeps weights)",
    )
    if deployment.is_disaggregated:
        return yaml_text(notes, _llm_service_of_pools(deployment))
    found = groups_of(deployment, "kserve-llm", engines=("vllm",))
    return yaml_text(notes, *(_llm_service(deployment, *each) for each in found))


def _llm_service_of_pools(deployment: Deployment) -> Manifest:
    """Return one `LLMInferenceService` whose main workers decode."""
    prefill, decode = pools_of(deployment, "kserve-llm")
    service = _llm_service(deployment, *decode, port=DECODE_PORT)
    service["spec"]["prefill"] = _llm_workers(deployment, *prefill, USUAL_PORT)
    return service


def _llm_service(
    deployment: Deployment, group: Group, workload: Workload, port: int = USUAL_PORT
) -> Manifest:
    return {
        "apiVersion": "serving.kserve.io/v1alpha2",
        "kind": "LLMInferenceService",
        "metadata": _metadata(deployment, group, workload),
        "spec": {
            "model": {"uri": f"hf://{group.launch.model}", "name": deployment.model},
            "router": {"scheduler": {}, "route": {}, "gateway": {}},
            **_llm_workers(deployment, group, workload, port),
        },
    }


def _llm_workers(deployment: Deployment, group: Group, workload: Workload, port: int) -> Manifest:
    """Return equal workers; KServe's own command makes them listen on ``port``."""
    launch = launch_of(group, workload)
    template = _pod_spec(deployment, group, workload)
    main = template["containers"][0]
    container = {
        "name": "main",
        "image": launch.image,
        "args": flags_of(group, without=_OWN_FLAGS),
        "env": main["env"],
        "resources": main["resources"],
        # The engine's images run as root, and KServe's template refuses that.
        "securityContext": {"runAsNonRoot": False, **main.get("securityContext", {})},
        "startupProbe": {**main["startupProbe"], "httpGet": {"path": "/health", "port": port}},
    }
    return {
        "replicas": len(workload.replicas),
        "parallelism": {"tensor": int(group.launch.args.get("tensor-parallel-size", 1))},
        "template": {**where_of(template), "containers": [container]},
    }


def inference_service(deployment: Deployment) -> str:
    """Return an `InferenceService` with the plan's own container for each group.

    Raises
    ------
    InvalidInput
        The plan has replicas over several nodes.
    """
    notes = notes_of(
        deployment, "apply: kubectl apply -f FILE, where KServe is installed (Standard mode)"
    )
    found = groups_of(deployment, "kserve")
    return yaml_text(notes, *(_service(deployment, *each) for each in found))


def _service(deployment: Deployment, group: Group, workload: Workload) -> Manifest:
    spec = _pod_spec(deployment, group, workload)
    main = {**spec["containers"][0], "name": "kserve-container"}
    count = len(workload.replicas)
    metadata = _metadata(deployment, group, workload)
    metadata["annotations"]["serving.kserve.io/deploymentMode"] = "Standard"
    return {
        "apiVersion": "serving.kserve.io/v1beta1",
        "kind": "InferenceService",
        "metadata": metadata,
        "spec": {
            "predictor": {
                "minReplicas": count,
                "maxReplicas": count,
                **where_of(spec),
                "enableServiceLinks": False,
                "containers": [main],
                "volumes": spec["volumes"],
            }
        },
    }


def _pod_spec(deployment: Deployment, group: Group, workload: Workload) -> Manifest:
    found: Manifest = pod(deployment, group, workload, launch_of(group, workload), answers=True)[
        "spec"
    ]
    return found


def _metadata(deployment: Deployment, group: Group, workload: Workload) -> Manifest:
    return {
        "name": part_name(deployment, workload.name),
        "labels": part_labels(deployment, workload.name),
        "annotations": {"budsim/configuration": group.config_id},
    }
