"""Reads a plan document and refuses what no engine would start."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, Final

from pydantic import ValidationError

from budsim.commons.errors import InvalidInput
from budsim.engine_ops import routers, serving_engines
from budsim.hardware_ops.device import DeviceKind
from budsim.simulator.schemas import NodeGroup

# Bound of every figure of a document: larger ones are mistakes.
LARGEST: Final = 1e9

DOCUMENT: Final = (
    "what `budsim simulate --json` prints, or the answer of POST /simulator/configurations or"
    " /simulator/benchmark-config"
)


def parsed_document(text: str) -> Mapping[str, Any]:
    """Return the JSON object of a plan document.

    Raises
    ------
    InvalidInput
        The text is no JSON object.
    """
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InvalidInput("PLAN", f"not JSON ({error})", DOCUMENT) from None
    if not isinstance(document, dict):
        raise InvalidInput("PLAN", f"a JSON {type(document).__name__}, not an object", DOCUMENT)
    return document


def chosen_plan(document: Mapping[str, Any], number: int) -> Mapping[str, Any]:
    """Return plan ``number`` of a document, counted from 1.

    Raises
    ------
    InvalidInput
        The document has no such plan.
    """
    plans = document.get("configurations", [document] if "node_groups" in document else None)
    if plans is None:
        raise InvalidInput("PLAN", "it has neither configurations nor node_groups", DOCUMENT)
    if not isinstance(plans, list) or not all(isinstance(plan, dict) for plan in plans):
        raise InvalidInput("PLAN.configurations", "not a list of objects", DOCUMENT)
    if not plans:
        raise InvalidInput(
            "PLAN.configurations", f"it has no plan: {_reasons(document)}", "at least one"
        )
    if not 1 <= number <= len(plans):
        known = "1, the only plan" if len(plans) == 1 else f"1 to {len(plans)}, best first"
        raise InvalidInput("number", f"there is no plan {number}", known)
    chosen: Mapping[str, Any] = plans[number - 1]
    return chosen


def _reasons(document: Mapping[str, Any]) -> str:
    reasons = document.get("reasons")
    told = (
        [str(each.get("reason")) for each in reasons if isinstance(each, dict)]
        if isinstance(reasons, list)
        else []
    )
    return "; ".join(told[:3]) or "nothing fits"


def tokens_per_request(document: Mapping[str, Any]) -> int:
    """Return the mean tokens of a request, 0 where the document does not say them."""
    counts = (document.get(name) for name in ("input_tokens", "output_tokens"))
    return sum(count for count in counts if isinstance(count, int))


def node_groups_of(plan: Mapping[str, Any]) -> list[NodeGroup]:
    """Return the node groups of a plan.

    Raises
    ------
    InvalidInput
        There are none, or one of them cannot be started; names the field.
    """
    entries = plan.get("node_groups")
    if not isinstance(entries, list) or not entries:
        raise InvalidInput("PLAN.node_groups", "there are none", "at least one group of replicas")
    groups = []
    for index, entry in enumerate(entries):
        try:
            groups.append(NodeGroup.model_validate(entry))
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(part) for part in (f"node_groups[{index}]", *first["loc"]))
            raise InvalidInput(
                f"PLAN.{where}", first["msg"], "a node group as budsim writes it"
            ) from None
        _check_group(groups[-1], f"PLAN.node_groups[{index}]")
    return groups


def _check_group(group: NodeGroup, where: str) -> None:
    _check_engine(group, where)
    if group.engine_type in routers:
        return
    _check_device_and_model(group, where)
    _check_replicas(group, where)
    _check_numbers(group, where)
    _check_devices_of_replicas(group, where)


def _check_engine(group: NodeGroup, where: str) -> None:
    if group.engine_type not in {**serving_engines, **routers}:
        known = ", ".join([*serving_engines, *routers])
        raise InvalidInput(
            f"{where}.engine_type", f"{group.engine_type!r} is no engine", f"one of {known}"
        )


def _check_device_and_model(group: NodeGroup, where: str) -> None:
    kind = device_kind(group)
    if kind not in set(DeviceKind):
        raise InvalidInput(
            f"{where}.type",
            f"{group.type!r} is no kind of device",
            "cuda, rocm, hpu, cpu or cpu_high",
        )
    if not group.model:
        raise InvalidInput(
            f"{where}.model", "it is not told", "a document written by this version of budsim"
        )


def _check_replicas(group: NodeGroup, where: str) -> None:
    if not group.placements or len(group.placements) != group.replicas:
        problem = f"{len(group.placements)} placements for {group.replicas} replicas"
        raise InvalidInput(f"{where}.placements", problem, "one for each replica")
    if not group.labels.concurrency.isdigit():
        raise InvalidInput(
            f"{where}.labels.concurrency",
            f"{group.labels.concurrency!r} is no number",
            "requests per replica",
        )


def _check_devices_of_replicas(group: NodeGroup, where: str) -> None:
    wanted = group.tp_size * group.pp_size
    for index, replica in enumerate(group.placements):
        devices = sum(share.devices for share in replica)
        if devices != wanted:
            raise InvalidInput(
                f"{where}.placements[{index}]", f"{devices} devices", f"{wanted}, tp_size x pp_size"
            )


def _check_numbers(group: NodeGroup, where: str) -> None:
    for name in (
        "throughput_per_user",
        "e2e_latency",
        "memory",
        "weight_memory_gb",
        "cores",
        "socket_cores",
    ):
        if not 0 <= (getattr(group, name) or 0) < LARGEST:
            raise InvalidInput(
                f"{where}.{name}", f"{getattr(group, name)} is out of range", "a number from 0 on"
            )
    for name in group.envs:
        if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
            raise InvalidInput(
                f"{where}.envs",
                f"{name!r} is no name of a variable",
                "letters, digits and underscores",
            )


def device_kind(group: NodeGroup) -> str:
    """Return the kind of device of a group, in lower case; `cpu_high` is a CPU."""
    return group.type.lower().removesuffix("_high")
