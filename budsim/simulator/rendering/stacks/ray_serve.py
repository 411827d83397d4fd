"""A plan as a configuration of Ray Serve LLM (`serve deploy FILE`; Ray 2.5x docs)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Final

from budsim.engine_ops.base import PoolRole
from budsim.hardware_ops.device import DeviceKind
from budsim.simulator.rendering.deployments import Deployment, Group
from budsim.simulator.rendering.platforms import platform_of
from budsim.simulator.rendering.pods import Manifest, Workload
from budsim.simulator.rendering.stacks.shared import (
    engine_keywords,
    groups_of,
    launch_of,
    notes_of,
    pools_of,
)
from budsim.simulator.rendering.writing import yaml_text

# Ray's names of accelerators (ray.util.accelerators). Others are asked for as GPUs of any type.
ACCELERATORS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "A100-40GB": "A100-40G",
        "A100-80GB": "A100-80G",
        "A10G": "A10G",
        "B200-SXM": "B200",
        "B300-SXM": "B300",
        "H100-SXM": "H100",
        "H200-SXM": "H200",
        "L4": "L4",
        "L40S": "L40S",
        "MI300X": "AMD-Instinct-MI300X-OAM",
        "T4": "T4",
        "V100-SXM2-16GB": "V100",
        "V100-SXM2-32GB": "V100",
    }
)
# Ray Serve LLM knows GPUs, TPUs and CPUs, no Gaudi; its images hold vLLM for GPUs.
KINDS: Final = (DeviceKind.CUDA, DeviceKind.ROCM)
# What Ray Serve sets by itself.
_OF_RAY: Final = ("port", "host", "served-model-name")


def ray_serve(deployment: Deployment) -> str:
    """Return an application with one model entry for each group, or one for each of two pools.

    Groups of one model are told apart by a suffix, because Ray serves each entry under its own
    name.

    Raises
    ------
    InvalidInput
        The plan needs another engine than vLLM, or other devices than GPUs.
    """
    notes = notes_of(
        deployment,
        "start: serve deploy FILE, on a Ray cluster with ray[serve,llm]",
        "the cluster's image holds vLLM of its own version; predicted was the one above",
    )
    if deployment.is_disaggregated:
        found: Sequence[tuple[Group, Workload]] = pools_of(
            deployment, "ray-serve", kinds=KINDS, several_nodes=True
        )
    else:
        found = list(
            groups_of(deployment, "ray-serve", engines=("vllm",), kinds=KINDS, several_nodes=True)
        )
    for name in dict.fromkeys(group.device_name for group, _ in found if _is_sliced(group)):
        notes.append(f"Ray takes any GPU of its workers: start them with {name} devices only")
    builder, args = (
        ("build_pd_openai_app", _pools(deployment, found))
        if deployment.is_disaggregated
        else ("build_openai_app", _models(deployment, found))
    )
    application = {
        "name": deployment.slug,
        "route_prefix": "/",
        "import_path": f"ray.serve.llm:{builder}",
        "args": args,
    }
    return yaml_text(notes, {"applications": [application]})


def _models(deployment: Deployment, found: Sequence[tuple[Group, Workload]]) -> Manifest:
    names = _names(deployment, len(found))
    return {"llm_configs": [_model(name, *each) for name, each in zip(names, found, strict=True)]}


def _pools(deployment: Deployment, found: Sequence[tuple[Group, Workload]]) -> Manifest:
    """Return the workers of both pools under one name (Ray docs, prefill/decode disaggregation)."""
    prefill, decode = found
    return {
        "prefill_config": _model(deployment.model, *prefill),
        "decode_config": _model(deployment.model, *decode),
    }


def _devices(group: Group) -> int:
    """Return how many devices a replica has."""
    return sum(len(process.devices) for process in group.replicas[0])


def _is_sliced(group: Group) -> bool:
    return platform_of(group.kind, group.device_name).by_uuid


def _names(deployment: Deployment, count: int) -> list[str]:
    if count == 1:
        return [deployment.model]
    return [f"{deployment.model}-{number}" for number in range(1, count + 1)]


def _model(name: str, group: Group, workload: Workload) -> Manifest:
    count = len(workload.replicas)
    args = {key: value for key, value in group.launch.args.items() if key not in _OF_RAY}
    accelerator = ACCELERATORS.get(group.device_name)
    # Ray tells workers of pools where they agree on transfers.
    launch = launch_of(group, workload) if group.role is PoolRole.WHOLE else group.launch
    environment = dict(launch.envs)
    return {
        "model_loading_config": {"model_id": name, "model_source": group.launch.model},
        **({"accelerator_type": accelerator} if accelerator else {}),
        # Ray 2.5x takes names it does not know of NVIDIA's older GPUs for CPUs, unless told.
        "placement_group_config": {"bundles": [{"GPU": 1}] * _devices(group)},
        "deployment_config": {
            "autoscaling_config": {"min_replicas": count, "max_replicas": count},
            "max_ongoing_requests": int(group.launch.args.get("max-num-seqs", 256)),
        },
        **({"runtime_env": {"env_vars": environment}} if environment else {}),
        "engine_kwargs": engine_keywords(args),
    }
