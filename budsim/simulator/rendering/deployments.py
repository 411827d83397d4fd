"""From a plan document to processes: which command runs on which node, with which devices, ports and cores."""

from __future__ import annotations

import json
import math
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from budsim.commons.errors import InvalidInput
from budsim.engine_ops import routers, serving_engines
from budsim.engine_ops.base import ArgumentValue, Launch, ReplicaProcess, ServingEngine
from budsim.engine_ops.limits import DEFAULT_MAX_LORA_RANK
from budsim.engine_ops.shared.cores import core_ranges
from budsim.hardware_ops.cluster import HardwareMode
from budsim.hardware_ops.device import DeviceKind
from budsim.simulator.schemas import Compression, NodeGroup, NodeShare

PORT_STEP = 100
"""Ports of replicas that share a node are this far apart: SGLang also uses some beside the one it listens on."""
RENDEZVOUS_PORT = 29500
SECONDS_PER_MINUTE = 60.0
LARGEST = 1e9
DOCUMENT = "what `budsim simulate --json` prints, or the answer of POST /simulator/configurations or /simulator/benchmark-config"


@dataclass(frozen=True, slots=True, kw_only=True)
class Additions:
    """What whoever starts a plan adds to it.

    ``fallbacks`` are provider models LiteLLM tries when every replica fails; ``max_loras`` adapters of at most ``max_lora_rank``
    are served at a time, 0 for none.
    """

    fallbacks: tuple[str, ...] = ()
    max_loras: int = 0
    max_lora_rank: int = DEFAULT_MAX_LORA_RANK


@dataclass(frozen=True, slots=True, kw_only=True)
class Process:
    """One process of a replica: its node, the numbers of its devices there, and where it sits."""

    name: str
    node: str
    devices: tuple[int, ...]
    seat: ReplicaProcess


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Equal replicas of a plan; ``replicas`` has the processes of each, the one that answers requests first."""

    name: str
    kind: DeviceKind
    engine: ServingEngine
    launch: Launch
    mode: HardwareMode
    replicas: tuple[tuple[Process, ...], ...]
    memory_gib: float
    weight_gib: float
    cores: int
    socket_cores: int
    requests_per_s: float
    config_id: str
    device_name: str
    compression: Compression | None

    def seated(self, seat: ReplicaProcess) -> Launch:
        """Return what starts one process of a replica."""
        return self.engine.launch_process(self.launch, seat)


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployment:
    """A plan as it is started: groups of replicas behind a router, or a provider's model behind it.

    ``model`` is the name callers ask for; tokens of a request are means, 0 where the document does not tell them.
    """

    model: str
    groups: tuple[Group, ...]
    is_at_provider: bool
    fallbacks: tuple[str, ...]
    tokens_per_request: int

    @property
    def slug(self) -> str:
        """The model's name as DNS allows it, at most 40 characters."""
        return slug(self.model.rpartition("/")[2])[:40].strip("-")

    def nodes(self) -> tuple[str, ...]:
        """Return the nodes the deployment uses, each once."""
        parts = (part for group in self.groups for replica in group.replicas for part in replica)
        return tuple(dict.fromkeys(part.node for part in parts))


def read_deployment(text: str, number: int, additions: Additions) -> Deployment:
    """Return plan ``number``, counted from 1, of a plan document.

    Raises
    ------
    InvalidInput
        Text that is no such document, no plan of that number, or one that cannot be started; names the field.
    """
    document = _parsed(text)
    groups = _node_groups(_chosen(document, number))
    serving = [group for group in groups if group.engine_type not in routers]
    desk = _Desk()
    found = tuple(
        _group(group, f"g{n}", desk, additions) for n, group in enumerate(serving, start=1)
    )
    providers = [
        str(group.args.get("model", "")) for group in groups if group.engine_type in routers
    ]
    return Deployment(
        model=_public_name(found, providers),
        groups=found,
        is_at_provider=not found,
        fallbacks=additions.fallbacks,
        tokens_per_request=_tokens(document),
    )


def slug(text: str) -> str:
    """Return text in lower case letters, digits and dashes, as names of services and pods allow."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-") or "model"


def _parsed(text: str) -> Mapping[str, Any]:
    try:
        document = json.loads(text)
    except ValueError as error:
        raise InvalidInput("PLAN", f"not JSON ({error})", DOCUMENT) from None
    if not isinstance(document, dict):
        raise InvalidInput("PLAN", f"a JSON {type(document).__name__}, not an object", DOCUMENT)
    return document


def _chosen(document: Mapping[str, Any], number: int) -> Mapping[str, Any]:
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
        raise InvalidInput("--number", f"there is no plan {number}", known)
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


def _tokens(document: Mapping[str, Any]) -> int:
    counts = (document.get(name) for name in ("input_tokens", "output_tokens"))
    return sum(count for count in counts if isinstance(count, int))


def _node_groups(plan: Mapping[str, Any]) -> list[NodeGroup]:
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
    if group.engine_type not in {**serving_engines, **routers}:
        known = ", ".join([*serving_engines, *routers])
        raise InvalidInput(
            f"{where}.engine_type", f"{group.engine_type!r} is no engine", f"one of {known}"
        )
    if group.engine_type in routers:
        return
    kind = _kind(group)
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
    if not group.placements or len(group.placements) != group.replicas:
        problem = f"{len(group.placements)} placements for {group.replicas} replicas"
        raise InvalidInput(f"{where}.placements", problem, "one for each replica")
    if not group.labels.concurrency.isdigit():
        raise InvalidInput(
            f"{where}.labels.concurrency",
            f"{group.labels.concurrency!r} is no number",
            "requests per replica",
        )
    _check_numbers(group, where)
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


def _kind(group: NodeGroup) -> str:
    return group.type.lower().removesuffix("_high")


def _public_name(groups: Sequence[Group], providers: Sequence[str]) -> str:
    """Return the name callers ask for: the checkpoint's, also where what is loaded is quantized from it."""
    if not groups:
        return providers[0]
    first = groups[0]
    return first.compression.checkpoint if first.compression else first.launch.model


class _Desk:
    """Gives out the devices and ports of nodes, in the order they are asked for."""

    def __init__(self) -> None:
        self._taken: defaultdict[tuple[str, DeviceKind, int], int] = defaultdict(int)
        self._ports: defaultdict[str, int] = defaultdict(int)

    def devices(self, kind: DeviceKind, share: NodeShare) -> tuple[int, ...]:
        """Return the numbers of the next devices of a node's pool."""
        pool = (share.node, kind, share.first)
        first = share.first + self._taken[pool]
        self._taken[pool] += share.devices
        return tuple(range(first, first + share.devices))

    def turn(self, node: str) -> int:
        """Return how many processes were given a port on the node before."""
        self._ports[node] += 1
        return self._ports[node] - 1


def _group(group: NodeGroup, name: str, desk: _Desk, additions: Additions) -> Group:
    engine = serving_engines[group.engine_type]
    args = {**_arguments(group), **_adapters(group, engine, additions)}
    kind = DeviceKind(_kind(group))
    concurrency = int(group.labels.concurrency)
    return Group(
        name=name,
        kind=kind,
        engine=engine,
        launch=Launch(
            image=group.image, model=group.model or "", command=(), args=args, envs=group.envs
        ),
        mode=group.hardware_mode,
        replicas=tuple(
            tuple(_processes(group, f"{name}-r{n + 1}", n, engine, desk))
            for n in range(group.replicas)
        ),
        memory_gib=group.memory,
        weight_gib=group.weight_memory_gb,
        cores=group.cores or 0,
        socket_cores=group.socket_cores or group.cores or 0,
        requests_per_s=concurrency / group.e2e_latency if group.e2e_latency else 0.0,
        config_id=group.config_id,
        device_name=group.device_name,
        compression=group.compression,
    )


def _arguments(group: NodeGroup) -> Mapping[str, ArgumentValue]:
    """Return the group's arguments.

    A quantized checkpoint is served under the name of the one it was made of. What is loaded
    stands in front of the command line, not among its arguments.
    """
    renamed = {"served-model-name": group.compression.checkpoint} if group.compression else {}
    args = {name: value for name, value in group.args.items() if name != "model"}
    return {**args, **renamed}


def _adapters(
    group: NodeGroup, engine: ServingEngine, additions: Additions
) -> Mapping[str, ArgumentValue]:
    if not additions.max_loras:
        return {}
    if not group.supports_lora:
        problem = f"{group.engine_type} serves no LoRA adapters of {group.architecture_family}"
        raise InvalidInput("--max-loras", problem, "0, or another plan")
    return engine.adapters(additions.max_loras, additions.max_lora_rank)


def _processes(
    group: NodeGroup, name: str, index: int, engine: ServingEngine, desk: _Desk
) -> Iterator[Process]:
    """Yield the processes of a replica: one where it lies on one node, else one for each equal piece of its pipeline.

    Engines spread a replica over processes of equally many devices: where its nodes hold unequal shares, the largest piece that
    divides all of them is a process, and a node has several.
    """
    kind = DeviceKind(_kind(group))
    parts = list(_pieces(kind, group.placements[index], desk))
    leader = parts[0][0]
    turns = [desk.turn(node) for node, _ in parts]
    for rank, ((node, devices), turn) in enumerate(zip(parts, turns, strict=True)):
        seat = ReplicaProcess(
            port=engine.port + PORT_STEP * turn,
            nodes=len(parts),
            rank=rank,
            leader=leader if len(parts) > 1 else "127.0.0.1",
            rendezvous_port=RENDEZVOUS_PORT + PORT_STEP * turns[0],
            cores=core_ranges(devices, group.cores or 0, group.socket_cores or 0)
            if kind is DeviceKind.CPU
            else (),
        )
        yield Process(
            name=name if len(parts) == 1 else f"{name}-n{rank}",
            node=node,
            devices=devices,
            seat=seat,
        )


def _pieces(
    kind: DeviceKind, shares: Sequence[NodeShare], desk: _Desk
) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Yield the node and devices of each process of a replica, in pipeline order."""
    nodes: list[tuple[str, tuple[int, ...]]] = []
    for share in shares:
        devices = desk.devices(kind, share)
        if nodes and nodes[-1][0] == share.node:
            nodes[-1] = (share.node, nodes[-1][1] + devices)
        else:
            nodes.append((share.node, devices))
    piece = math.gcd(*(len(devices) for _, devices in nodes))
    for node, devices in nodes:
        yield from ((node, devices[at : at + piece]) for at in range(0, len(devices), piece))
