"""A plan as shell commands: one for each process, below a line that says on which node it runs."""

from __future__ import annotations

import shlex
from collections.abc import Iterator

from budsim.engine_ops.base import PoolRole
from budsim.simulator.rendering.deployments import Deployment, Group, Process
from budsim.simulator.rendering.platforms import platform_of, visible_devices
from budsim.simulator.rendering.stores import store_commands, store_notes
from budsim.simulator.rendering.writing import comments


def commands(deployment: Deployment) -> str:
    """Return one shell command for each process of each replica, with its node above it."""
    notes = [*heading(deployment), *store_notes(deployment), *device_notes(deployment)]
    parts = [comments(notes)]
    parts += [f"{comments([about])}{line}\n" for about, line in store_commands(deployment)]
    parts += [
        _command(group, process, replica[0])
        for group in deployment.groups
        for replica in group.replicas
        for process in replica
    ]
    if deployment.is_disaggregated:
        about = "the router before both pools: requests go to it, on any node that reaches all"
        program = f"pip install {_package(deployment)}, or image {deployment.pool_router.image}"
        told = shlex.join(deployment.pool_router_command())
        parts.append(f"{comments([about, program])}{told}\n")
    return "\n".join(parts)


def _package(deployment: Deployment) -> str:
    router = deployment.pool_router
    return f"{router.package}=={router.version}"


def heading(deployment: Deployment) -> Iterator[str]:
    """Yield what the person who starts the deployment has to know."""
    yield f"budsim: {deployment.model}"
    if deployment.is_at_provider:
        proxy = "budsim render --format litellm"
        yield f"the model runs at its provider: only LiteLLM's proxy is started here ({proxy})"
    for group in deployment.groups:
        engine = f"{group.engine.name} {group.engine.version}"
        part = "" if group.role is PoolRole.WHOLE else f" ({group.role} workers)"
        replicas = f"{len(group.replicas)} x {engine} on {group.device_name}{part}"
        yield f"{group.name}: {replicas}, configuration {group.config_id}"
    if deployment.is_disaggregated:
        yield "KV caches go over the network: give each container its RDMA devices"
    yield from _warnings(deployment)


def _warnings(deployment: Deployment) -> Iterator[str]:
    """Yield what has to be done first, and what the commands leave to whoever starts them."""
    made = (group.launch.model for group in deployment.groups if group.compression)
    for checkpoint in dict.fromkeys(made):
        yield f"{checkpoint} has to be made first: budsim render --format recipe"
    if any("enable-lora" in group.launch.args for group in deployment.groups):
        yield "LoRA adapters take memory from the KV cache that the prediction does not count"


def device_notes(deployment: Deployment) -> Iterator[str]:
    """Yield what to check where devices are chosen by number, not by a cluster's scheduler."""
    if any(platform_of(each.kind, each.device_name).by_uuid for each in deployment.groups):
        yield "set CUDA_VISIBLE_DEVICES of each command to the UUID of its MIG slice: nvidia-smi -L"
    if any(platform_of(each.kind, each.device_name).visible for each in deployment.groups):
        yield (
            "devices are numbered as in the inventory, devices in use by others last:"
            " check that your driver numbers them so"
        )


def _command(group: Group, process: Process, first: Process) -> str:
    launch = group.launched_as(process.role)
    platform = platform_of(group.kind, group.device_name)
    envs = {**launch.envs, **visible_devices(platform.visible, process.devices)}
    settings = [f"{name}={shlex.quote(value)}" for name, value in envs.items()]
    serves = (
        f"answers at http://{process.node}:{process.role.port}/v1"
        if process is first
        else f"works for {first.node}"
    )
    where = f"{process.name} on {process.node}: {len(process.devices)} x {group.device_name}"
    about = f"{where}, image {launch.image}, {serves}"
    return f"{comments([about])}{' '.join([*settings, shlex.join(launch.command)])}\n"
