"""What all stacks ask of a plan: one engine process per replica, and its flags."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace
from typing import Any, Final

from budsim.commons.errors import InvalidInput
from budsim.engine_ops.base import ArgumentValue, Launch, PoolRole
from budsim.engine_ops.shared.arguments import command_line
from budsim.engine_ops.vllm.flags import STAGES_CONNECTOR
from budsim.hardware_ops.device import DeviceKind
from budsim.simulator.rendering.commands import heading
from budsim.simulator.rendering.deployments import Deployment, Group
from budsim.simulator.rendering.pods import OWN_ADDRESS, Manifest, Workload, workloads
from budsim.simulator.rendering.stores import refuse_file, start_notes

# Formats that start pools of every engine.
_ALL_POOLS: Final = "command, compose, kubernetes, dynamo or aibrix"


def groups_of(
    deployment: Deployment,
    form: str,
    *,
    engines: Collection[str] = ("vllm", "sglang"),
    kinds: Collection[DeviceKind] = tuple(DeviceKind),
    several_nodes: bool = False,
) -> Iterator[tuple[Group, Workload]]:
    """Yield the workloads of a plan that a stack can run.

    Parameters
    ----------
    deployment
        The plan.
    form : str
        Name of the format, for the reason.
    engines, kinds
        What the stack starts, and on which devices.
    several_nodes : bool
        Whether it starts replicas that span nodes.

    Raises
    ------
    InvalidInput
        The plan needs what the stack lacks; names it and a format that has it.
    """
    if not deployment.groups:
        raise _refused(form, "a model at its provider", "litellm")
    refuse_file(deployment, form)
    _refuse_pipelines(deployment, form)
    for group in deployment.groups:
        if group.engine.name not in engines:
            raise _refused(form, f"{group.engine.name} ({group.name})", "kubernetes")
        if group.kind not in kinds:
            raise _refused(form, f"{group.device_name} ({group.name})", "kubernetes")
        for workload in workloads(group):
            if workload.size > 1 and not several_nodes:
                raise _refused(form, f"replicas over {workload.size} nodes", "kubernetes")
            yield group, workload


def launch_of(group: Group, workload: Workload, **changes: ArgumentValue) -> Launch:
    """Return what starts one process on the engine's usual port, with some arguments changed.

    A pod tells workers of another pool its own address.
    """
    changed = replace(group, launch=replace(group.launch, args={**group.launch.args, **changes}))
    return launch_on(changed, workload, group.engine.port)


def launch_on(group: Group, workload: Workload, port: int) -> Launch:
    """Return what starts one process that listens on ``port``."""
    role = replace(workload.first.role, port=port, address=OWN_ADDRESS)
    return group.launched_as(role)


def pools_of(
    deployment: Deployment,
    form: str,
    *,
    kinds: Collection[DeviceKind] = tuple(DeviceKind),
    several_nodes: bool = False,
) -> tuple[tuple[Group, Workload], tuple[Group, Workload]]:
    """Return the prefill and the decode workers of a plan, of vLLM, each as one workload.

    Raises
    ------
    InvalidInput
        As `groups_of`.
    """
    for group in deployment.groups:
        if group.engine.name != "vllm":
            raise _refused(form, f"prefill and decode pools of {group.engine.name}", _ALL_POOLS)
    found = list(
        groups_of(deployment, form, engines=("vllm",), kinds=kinds, several_nodes=several_nodes)
    )
    if len(found) != len(deployment.groups):
        raise _refused(form, "workers of one pool that are not alike", _ALL_POOLS)
    by_role = {group.role: (group, workload) for group, workload in found}
    return by_role[PoolRole.PREFILL], by_role[PoolRole.DECODE]


def where_of(spec: Manifest) -> Manifest:
    """Return the fields of a pod that keep it on the plan's nodes."""
    kept = ("nodeSelector", "affinity", "topologySpreadConstraints")
    return {name: spec[name] for name in kept if name in spec}


def flags_of(group: Group, *, without: Collection[str] = (), **changes: ArgumentValue) -> list[str]:
    """Return the engine's flags as words, without those that the stack sets by itself."""
    args = {name: value for name, value in group.launch.args.items() if name not in without}
    return list(command_line(group.engine.name, {**args, **changes}))


def engine_keywords(args: Mapping[str, ArgumentValue]) -> dict[str, Any]:
    """Return arguments as Python takes them: names with underscores, JSON objects as mappings."""
    return {name.replace("-", "_"): _object_in(name, value) for name, value in args.items()}


def _object_in(name: str, value: ArgumentValue) -> Any:
    # The command line has no mappings: there vLLM reads `--speculative-config` from JSON.
    is_object = isinstance(value, str) and value.startswith("{")
    try:
        return json.loads(str(value)) if is_object else value
    except (ValueError, RecursionError) as error:
        raise InvalidInput(name, "is no JSON", "an object, as its engine takes it") from error


def notes_of(deployment: Deployment, *notes: str) -> list[str]:
    """Return the heading of a file: what is started, then what to know about the stack."""
    return [*heading(deployment), *start_notes(deployment), *notes]


def _refuse_pipelines(deployment: Deployment, form: str) -> None:
    """Refuse vLLM's pools whose prefill workers are pipelines.

    The routers of stacks were read for NIXL's connector.
    """
    if any(STAGES_CONNECTOR in str(each.launch.args) for each in deployment.groups):
        what = "prefill workers of vLLM that are pipelines"
        raise _refused(form, what, "command, compose, kubernetes")


def _refused(form: str, what: str, instead: str) -> InvalidInput:
    return InvalidInput("format", f"{form} does not start {what}", f"{instead}, or another plan")
