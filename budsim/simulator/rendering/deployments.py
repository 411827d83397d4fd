"""Lays a plan out: which process runs on which node, with which devices, ports and cores."""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from budsim.commons.errors import InvalidInput
from budsim.commons.units import MILLI
from budsim.engine_ops import routers, serving_engines
from budsim.engine_ops.base import (
    ArgumentValue,
    Launch,
    PoolRole,
    ReplicaProcess,
    ServingEngine,
)
from budsim.engine_ops.kv_store import KvStore
from budsim.engine_ops.limits import DEFAULT_MAX_LORA_RANK
from budsim.engine_ops.pool_router import PoolRouter
from budsim.engine_ops.shared.cores import core_ranges
from budsim.engine_ops.shared.offload import host_cache_gib
from budsim.hardware_ops.cluster import HardwareMode
from budsim.hardware_ops.device import DeviceKind
from budsim.simulator.rendering.plan_document import (
    chosen_plan,
    device_kind,
    node_groups_of,
    parsed_document,
    tokens_per_request,
)
from budsim.simulator.rendering.scaling import (
    USUAL_METRICS,
    Metrics,
    Scaling,
    scaling_of,
)
from budsim.simulator.schemas import Compression, NodeGroup, NodeShare

# Distance of the ports of replicas on one node: SGLang also uses ports near its own.
PORT_STEP = 100

RENDEZVOUS_PORT = 29500
SECONDS_PER_MINUTE = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Additions:
    """What the person who starts a plan adds to it.

    ``fallbacks`` are provider models that LiteLLM tries when every replica fails. At most
    ``max_loras`` adapters of at most ``max_lora_rank`` are served at a time, 0 for none.
    ``weights_claim`` names a persistent volume claim that keeps downloaded weights. ``metrics`` is
    what autoscalers ask.
    """

    fallbacks: tuple[str, ...] = ()
    max_loras: int = 0
    max_lora_rank: int = DEFAULT_MAX_LORA_RANK
    weights_claim: str = ""
    metrics: Metrics = USUAL_METRICS


@dataclass(frozen=True, slots=True, kw_only=True)
class Process:
    """One process of a replica: its node, the numbers of its devices there, and its role."""

    name: str
    node: str
    devices: tuple[int, ...]
    role: ReplicaProcess


@dataclass(frozen=True, slots=True, kw_only=True)
class PromisedLatency:
    """A predicted mean with its 80 % range and, where requests were replayed, the p99; seconds."""

    mean_s: float
    low_s: float
    high_s: float
    p99_s: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Equal replicas of a plan.

    ``replicas`` has the processes of each; the first of them answers requests. ``promised`` has
    the predicted TTFT and end-to-end latency, where the document states them; ``role`` is the part
    of each request that they serve.
    """

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
    promised: Mapping[str, PromisedLatency]
    role: PoolRole = PoolRole.WHOLE

    def host_cache_gib(self, devices: int) -> int:
        """Return the host memory of KV cache of so many of a replica's devices, GiB, rounded up."""
        of_replica = sum(len(process.devices) for process in self.replicas[0])
        each = host_cache_gib(self.launch.args, of_replica, self.launch.envs)
        return math.ceil(each * devices)

    def launched_as(self, role: ReplicaProcess) -> Launch:
        """Return what starts one process of a replica."""
        return self.engine.launch_process(self.launch, role)


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployment:
    """A plan as it is started: groups of replicas behind a router, or a provider's model behind it.

    ``model`` is the name callers ask for; ``tokens_per_request`` is a mean, 0 where the document
    does not say it; ``scaling`` is None where the document is not about a day. ``weights_claim``
    is the claim that keeps weights, empty for none. Replicas share ``kv_store``.
    """

    model: str
    groups: tuple[Group, ...]
    is_at_provider: bool
    fallbacks: tuple[str, ...]
    tokens_per_request: int
    weights_claim: str = ""
    scaling: Scaling | None = None
    metrics: Metrics = USUAL_METRICS
    kv_store: KvStore | None = None

    @property
    def slug(self) -> str:
        """The model's name as DNS allows it, at most 40 characters."""
        return slug(self.model.rpartition("/")[2])[:40].strip("-")

    @property
    def is_disaggregated(self) -> bool:
        """Whether prefill and decode have workers of their own."""
        return any(group.role is PoolRole.PREFILL for group in self.groups)

    def pool(self, role: PoolRole) -> Group:
        """Return the workers of one pool of a disaggregated deployment."""
        return next(group for group in self.groups if group.role is role)

    @property
    def pool_router(self) -> PoolRouter:
        """The router before both pools."""
        prefill = self.pool(PoolRole.PREFILL)
        return prefill.engine.pool_router_of(prefill.launch.args)

    def pool_router_command(self) -> tuple[str, ...]:
        """Return the command of the router before both pools, told every worker's node and port."""
        prefill, decode = (
            [f"http://{each[0].node}:{each[0].role.port}" for each in self.pool(role).replicas]
            for role in (PoolRole.PREFILL, PoolRole.DECODE)
        )
        return self.pool_router.command(prefill, decode)

    def nodes(self) -> tuple[str, ...]:
        """Return the nodes the deployment uses, each once: of replicas, and of their store."""
        parts = (part for group in self.groups for replica in group.replicas for part in replica)
        stored = self.kv_store.nodes if self.kv_store else ()
        return tuple(dict.fromkeys([*(part.node for part in parts), *stored]))


def read_deployment(text: str, number: int, additions: Additions) -> Deployment:
    """Return plan ``number``, counted from 1, of a plan document.

    Raises
    ------
    InvalidInput
        The text is no such document, has no such plan, or the plan cannot be started; names the
        field.
    """
    document = parsed_document(text)
    groups = node_groups_of(chosen_plan(document, number))
    serving = [group for group in groups if group.engine_type not in routers]
    allocator = _NodeAllocator()
    found = tuple(
        _group(group, f"g{n}", allocator, additions) for n, group in enumerate(serving, start=1)
    )
    providers = [
        str(group.args.get("model", "")) for group in groups if group.engine_type in routers
    ]
    return Deployment(
        model=_public_name(found, providers),
        groups=found,
        is_at_provider=not found,
        fallbacks=additions.fallbacks,
        tokens_per_request=tokens_per_request(document),
        weights_claim=_claim_name(additions.weights_claim),
        scaling=scaling_of(document),
        metrics=additions.metrics,
        kv_store=next((each.kv_store.value() for each in serving if each.kv_store), None),
    )


def _claim_name(name: str) -> str:
    if name and not re.fullmatch(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?", name):
        expected = "lower case letters, digits, dashes and dots, as names in Kubernetes"
        raise InvalidInput("weights_claim", f"{name!r} is no name of a claim", expected)
    return name


def slug(text: str) -> str:
    """Return text in lower case letters, digits and dashes, as names of services and pods allow."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-") or "model"


def _public_name(groups: Sequence[Group], providers: Sequence[str]) -> str:
    """Return the name callers ask for: the checkpoint's own, also of a quantized one."""
    if not groups:
        return providers[0]
    first = groups[0]
    return first.compression.checkpoint if first.compression else first.launch.model


class _NodeAllocator:
    """Hands out devices and ports of nodes, in the order they are asked for."""

    def __init__(self) -> None:
        self._taken: defaultdict[tuple[str, DeviceKind, int], int] = defaultdict(int)
        self._ports: defaultdict[str, int] = defaultdict(int)

    def devices(self, kind: DeviceKind, share: NodeShare) -> tuple[int, ...]:
        """Return the numbers of the next devices of a node's pool."""
        pool = (share.node, kind, share.first)
        first = share.first + self._taken[pool]
        self._taken[pool] += share.devices
        return tuple(range(first, first + share.devices))

    def port_step(self, node: str) -> int:
        """Return how many processes of the node have a port already."""
        self._ports[node] += 1
        return self._ports[node] - 1


def _group(group: NodeGroup, name: str, allocator: _NodeAllocator, additions: Additions) -> Group:
    engine = serving_engines[group.engine_type]
    parsers = engine.parsers(group.tool_calling_parser_type, group.reasoning_parser_type)
    args = {**_arguments(group), **parsers, **_adapters(group, engine, additions)}
    kind = DeviceKind(device_kind(group))
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
            tuple(_processes(group, f"{name}-r{n + 1}", n, engine, allocator))
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
        promised=_promised(group),
        role=PoolRole(group.role or PoolRole.WHOLE),
    )


def _promised(group: NodeGroup) -> Mapping[str, PromisedLatency]:
    """Return the latencies that a document states with their ranges, by name."""
    sure, replayed = group.confidence, group.requests
    if sure is None or not group.ttft or not group.e2e_latency:
        return {}
    ttft_p99_ms = replayed.ttft.p99 if replayed else None
    return {
        "ttft": PromisedLatency(
            mean_s=group.ttft * MILLI,
            low_s=sure.ttft.low * MILLI,
            high_s=sure.ttft.high * MILLI,
            p99_s=ttft_p99_ms * MILLI if ttft_p99_ms else None,
        ),
        "e2e": PromisedLatency(
            mean_s=group.e2e_latency,
            low_s=sure.e2e_latency.low,
            high_s=sure.e2e_latency.high,
            p99_s=replayed.e2e_latency.p99 if replayed else None,
        ),
    }


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
        raise InvalidInput("max_loras", problem, "0, or another plan")
    return engine.adapters(additions.max_loras, additions.max_lora_rank)


def _processes(
    group: NodeGroup, name: str, index: int, engine: ServingEngine, allocator: _NodeAllocator
) -> Iterator[Process]:
    """Yield the processes of a replica: one on one node, else several of equally many devices.

    The largest number that divides the devices of every node is a process. Nodes with 4 and 2
    devices of the replica run two processes and one process of 2 devices.
    """
    kind = DeviceKind(device_kind(group))
    parts = list(_pieces(kind, group.placements[index], allocator))
    leader = parts[0][0]
    turns = [allocator.port_step(node) for node, _ in parts]
    for rank, ((node, devices), turn) in enumerate(zip(parts, turns, strict=True)):
        role = ReplicaProcess(
            port=engine.port + PORT_STEP * turn,
            nodes=len(parts),
            rank=rank,
            leader=leader if len(parts) > 1 else "127.0.0.1",
            rendezvous_port=RENDEZVOUS_PORT + PORT_STEP * turns[0],
            cores=core_ranges(devices, group.cores or 0, group.socket_cores or 0)
            if kind is DeviceKind.CPU
            else (),
            address=node,
        )
        yield Process(
            name=name if len(parts) == 1 else f"{name}-n{rank}",
            node=node,
            devices=devices,
            role=role,
        )


def _pieces(
    kind: DeviceKind, shares: Sequence[NodeShare], allocator: _NodeAllocator
) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Yield the node and devices of each process of a replica, in pipeline order."""
    nodes: list[tuple[str, tuple[int, ...]]] = []
    for share in shares:
        devices = allocator.devices(kind, share)
        if nodes and nodes[-1][0] == share.node:
            nodes[-1] = (share.node, nodes[-1][1] + devices)
        else:
            nodes.append((share.node, devices))
    # Engines count processes of equally many devices, so a node with more of them runs several.
    piece = math.gcd(*(len(devices) for _, devices in nodes))
    for node, devices in nodes:
        yield from ((node, devices[at : at + piece]) for at in range(0, len(devices), piece))
