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
    launch_of,
    notes_of,
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
    found = groups_of(deployment, "llm-d")
    return yaml_text(notes, *(_values(deployment, *each) for each in found))


def _values(deployment: Deployment, group: Group, workload: Workload) -> Manifest:
    launch = launch_of(group, workload)
    main = container(group, workload, launch, answers=True)
    cpu_only = group.kind is DeviceKind.CPU
    engine = {
        "name": group.engine.name,
        "image": launch.image,
        "modelCommand": "custom",
        "command": list(launch.command),
        "env": main["env"],
        "ports": [{"containerPort": group.engine.port, "name": "http", "protocol": "TCP"}],
        "resources": main["resources"],
        **{name: main[name] for name in ("startupProbe", "readinessProbe", "livenessProbe")},
        "mountModelVolume": False,
    }
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
        "decode": {
            "create": True,
            "replicas": len(workload.replicas),
            # The chart asks for tensor x dataLocal devices; the command says how they are used.
            "parallelism": {"tensor": 1 if cpu_only else workload.devices},
            "containers": [engine],
        },
        "prefill": {"create": False},
    }
