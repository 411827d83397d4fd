"""A plan as values of the vLLM production stack's chart (August 2026)."""

from __future__ import annotations

from typing import Final

from budsim.hardware_ops.device import DeviceKind
from budsim.simulator.rendering.deployments import Deployment, Group
from budsim.simulator.rendering.platforms import SHM_GIB_PER_DEVICE, node_terms, platform_of
from budsim.simulator.rendering.pods import (
    TOKEN_SECRET,
    Manifest,
    Workload,
    container,
)
from budsim.simulator.rendering.stacks.shared import (
    flags_of,
    groups_of,
    launch_of,
    notes_of,
)
from budsim.simulator.rendering.writing import yaml_text

# The chart writes these flags itself, from fields or always.
_OF_THE_CHART: Final = ("tensor-parallel-size", "enable-prefix-caching", "port", "host")


def production_stack(deployment: Deployment) -> str:
    """Return the values: one entry of ``modelSpec`` for each group, behind the stack's router.

    Raises
    ------
    InvalidInput
        The plan needs another engine than vLLM, or replicas over several nodes.
    """
    notes = notes_of(
        deployment,
        "install: helm install NAME vllm/vllm-stack -f FILE",
        "edit: pvcStorage, where weights are to survive a restart",
    )
    found = groups_of(deployment, "production-stack", engines=("vllm",))
    values = {
        "servingEngineSpec": {
            "enableEngine": True,
            "modelSpec": [_model(deployment, *each) for each in found],
        },
        "routerSpec": {"enableRouter": True, "replicaCount": 1, "routingLogic": "roundrobin"},
    }
    return yaml_text(notes, values)


def _model(deployment: Deployment, group: Group, workload: Workload) -> Manifest:
    launch = launch_of(group, workload)
    repository, _, tag = launch.image.rpartition(":")
    main = container(group, workload, launch, answers=True)
    resource = platform_of(group.kind, group.device_name).resource
    shm_gib = SHM_GIB_PER_DEVICE * workload.devices + group.host_cache_gib(workload.devices)
    devices = (
        {"requestGPU": workload.devices, "requestGPUType": resource}
        if resource
        else {"requestGPU": 0}
    )
    # The chart's pods run under NVIDIA's runtime class unless told otherwise.
    runtime = {} if group.kind is DeviceKind.CUDA else {"runtimeClassName": ""}
    return {
        "name": f"{deployment.slug}-{workload.name}",
        "repository": repository,
        "tag": tag,
        "modelURL": group.launch.model,
        "replicaCount": len(workload.replicas),
        **devices,
        **runtime,
        "resources": main["resources"],
        "shmSize": f"{shm_gib}Gi",
        "hf_token": {"secretName": TOKEN_SECRET, "secretKey": "token"},
        "env": [{"name": name, "value": value} for name, value in launch.envs.items()],
        "nodeSelectorTerms": node_terms(workload.nodes),
        "vllmConfig": {
            "tensorParallelSize": int(group.launch.args.get("tensor-parallel-size", 1)),
            "enablePrefixCaching": bool(group.launch.args.get("enable-prefix-caching", True)),
            "extraArgs": flags_of(group, without=_OF_THE_CHART),
        },
    }
