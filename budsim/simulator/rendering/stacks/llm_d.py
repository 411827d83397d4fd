"""A plan as values of llm-d's chart `llm-d-modelservice` (0.4, April 2026)."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from budsim.hardware_ops.device import DeviceKind
from budsim.simulator.rendering.deployments import Deployment, Group
from budsim.simulator.rendering.pods import Manifest, Workload, container
from budsim.simulator.rendering.stacks.shared import (
    groups_of,
    launch_on,
    notes_of,
    pools_of,
)
from budsim.simulator.rendering.writing import yaml_text

ACCELERATORS: Final[Mapping[DeviceKind, str]] = MappingProxyType(
    {
        DeviceKind.CUDA: "nvidia",
        DeviceKind.ROCM: "amd",
        DeviceKind.HPU: "intel-gaudi",
        DeviceKind.CPU: "cpu",
    }
)

# Port of a decode worker behind its proxy, as in the chart's defaults.
DECODE_PORT: Final = 8200


def llm_d(deployment: Deployment) -> str:
    """Return one values file for each group, as YAML documents.

    Raises
    ------
    InvalidInput
        The plan has replicas over several nodes.
    """
    notes = notes_of(
        deployment,
        "install each document: helm install NAME llm-d-modelservice/llm-d-modelservice -f FILE",
        "edit: modelArtifacts.size, and the InferencePool or route that leads to these pods",
    )
    if deployment.is_disaggregated:
        return yaml_text(notes, _values_of_pools(deployment))
    found = groups_of(deployment, "llm-d")
    return yaml_text(notes, *(_values(deployment, *each) for each in found))


def _values_of_pools(deployment: Deployment) -> Manifest:
    """Return one values file for both pools; a proxy beside each decode worker asks for prefill.

    It listens on the service's port, and the decode worker on another.
    """
    prefill, decode = pools_of(deployment, "llm-d")
    values = _values(deployment, *decode, port=DECODE_PORT)
    proxy = {"enabled": True, "connector": "nixlv2", "targetPort": DECODE_PORT}
    routing = {"servicePort": prefill[0].engine.port, "proxy": proxy}
    return {
        **values,
        "fullnameOverride": f"{deployment.slug}-pools",
        "routing": routing,
        "prefill": _part(*prefill, prefill[0].engine.port),
    }


def _values(
    deployment: Deployment, group: Group, workload: Workload, port: int | None = None
) -> Manifest:
    return {
        "fullnameOverride": f"{deployment.slug}-{workload.name}",
        "modelArtifacts": {
            "name": deployment.model,
            "uri": f"hf://{group.launch.model}",
            "authSecretName": "",
            "labels": {
                "llm-d.ai/inference-serving": "true",
                "llm-d.ai/model": deployment.slug,
            },
        },
        "accelerator": {"type": ACCELERATORS[group.kind]},
        "multinode": False,
        "routing": {"servicePort": group.engine.port, "proxy": {"enabled": False}},
        "decode": _part(group, workload, port or group.engine.port),
        "prefill": {"create": False},
    }


def _part(group: Group, workload: Workload, port: int) -> Manifest:
    """Return the workers that decode, or read prompts, listening on ``port``."""
    launch = launch_on(group, workload, port)
    main = container(group, workload, launch, answers=True)
    cpu_only = group.kind is DeviceKind.CPU
    engine = {
        "name": group.engine.name,
        "image": launch.image,
        "modelCommand": "custom",
        "command": list(launch.command),
        "env": main["env"],
        "ports": [{"containerPort": port, "name": "http", "protocol": "TCP"}],
        "resources": main["resources"],
        **{name: main[name] for name in ("startupProbe", "readinessProbe", "livenessProbe")},
        "mountModelVolume": False,
    }
    return {
        "create": True,
        "replicas": len(workload.replicas),
        # The chart asks for tensor x dataLocal devices; the command says how they are used.
        "parallelism": {"tensor": 1 if cpu_only else workload.devices},
        "containers": [engine],
    }
