"""Node groups: equal replicas as callers deploy them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic import BaseModel, Field

from budsim.commons.precision import Precision
from budsim.commons.units import KILO
from budsim.engine_ops.base import PoolRole, ReplicaConfig
from budsim.engine_ops.llmc import Llmc, job_for, schemes
from budsim.engine_ops.shared.images import with_own_image
from budsim.hardware_ops.cluster import HardwareMode, Node
from budsim.hardware_ops.device import Device
from budsim.model_ops.architecture import Architecture
from budsim.performance.serving import replay
from budsim.performance.traffic import Traffic
from budsim.simulator.planning import plans
from budsim.simulator.planning.energy import energy_of
from budsim.simulator.planning.plans import Figure, ReplicaGroup
from budsim.simulator.planning.question import Question
from budsim.simulator.wire.explanations import Explanation, explanation_of
from budsim.simulator.wire.fields import finite_or_none, gigabytes, is_none
from budsim.simulator.wire.guesses import GuessedTokens
from budsim.simulator.wire.kv_stores import SharedKvStore

CHANCE = Field(None, description="chance of meeting all targets, 0 to 1; null where it is unknown")
COST_PER_H = Field(None, description="USD per hour of all devices; null where it is unknown")
PRICE_BASIS = Field(None, description="rent or own; null where it is unknown")
COST_PER_MONTH = Field(None, description="USD per month of 730 hours; null where it is unknown")
BLENDED = Field(
    None, description="USD per million tokens, input and output together; null where it is unknown"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class LaunchOverrides:
    """What a request and a site say about launching that the plan does not.

    Attributes
    ----------
    path : str or None
        What a pod loads; None: the model's name.
    method : str
        How the checkpoint is to be quantized; empty: the best method of the scheme.
    images : mapping
        The site's own images; see `with_own_image`.
    """

    path: str | None = None
    method: str = ""
    images: Mapping[str, str] = field(default_factory=dict)

    def loaded(self, served: str, question: Question) -> str:
        """Return what a pod loads in place of ``served``, the name of this or a quantized model."""
        name = question.architecture.model_id
        return served if self.path is None else self.path + served.removeprefix(name)


AS_PLANNED = LaunchOverrides()


class EngineMetadata(BaseModel):
    """Facts about engine and model that callers need beside the command."""

    engine_version: str | None = None
    tool_calling_parser_type: str | None = None
    reasoning_parser_type: str | None = None
    architecture_family: str | None = None
    chat_template: str | None = None
    supports_lora: bool = False
    supports_pipeline_parallelism: bool = False


class Labels(BaseModel):
    """Labels of a node group; all of them text."""

    device_name: str
    concurrency: str = Field(
        description="requests at a time that a replica is started for; at a rate, with its bursts"
    )


class Range(BaseModel):
    """An 80 % prediction interval, in the unit of the figure it belongs to."""

    low: float
    high: float


class Confidence(BaseModel):
    """How sure the figures beside it are; ``bases`` tells of TTFT and TPOT apart."""

    basis: str
    in_range: bool
    bound_by: str
    ttft: Range
    throughput_per_user: Range
    e2e_latency: Range
    bases: dict[str, str] = Field(default_factory=dict)


class Spread(BaseModel):
    """Mean and percentiles of what single requests see; null where none was counted."""

    mean: float | None
    p50: float | None
    p90: float | None
    p95: float | None
    p99: float | None


class ReplayedRequests(BaseModel):
    """What single requests of one replica see, by a replay of the traffic request by request.

    ``ttft``, ``itl`` (between two tokens) and ``tpot`` are in ms, ``e2e_latency`` in s.
    ``good_share`` is the share of requests within the limits of `target_goodput`. ``running`` and
    ``waiting`` are mean numbers of requests, ``utilisation`` the share of time the engine computes.
    For requests that come at a rate, ``largest_stable_rate`` is the most a replica carries in the
    long run, requests/s, and ``margin`` the share of it that is left.
    """

    ttft: Spread
    itl: Spread
    tpot: Spread
    e2e_latency: Spread
    requests_per_s: float
    good_share: float
    running: float
    waiting: float
    utilisation: float
    largest_stable_rate: float | None
    margin: float | None


class NodeShare(BaseModel):
    """Devices of one node that a replica uses.

    ``first`` is the number of the pool's first device among those of its kind on the node.
    """

    node: str
    devices: int = Field(ge=1, le=1024)
    first: int = Field(0, ge=0, le=1_000_000)


class DevicePrice(BaseModel):
    """What an hour of one device costs, USD.

    ``basis`` is rent or own. ``kind`` is published, estimated, computed (cost of ownership), given
    (a price file) or inventory; ``date`` is that of the price, null where unknown.
    """

    usd_per_h: float = Field(description="USD per hour of one device")
    basis: str = Field(description="what the price pays for, or the prediction is based on")
    kind: str = Field(description="how the price is known")
    date: str | None = Field(None, description="day, month or year of the price")
    source: str = Field(description="providers or file, and the arithmetic")


class Compression(BaseModel):
    """The job that quantizes the checkpoint before it is served: LLM Compressor's recipe and needs.

    It runs on one device of the node group's kind; hours and cost are estimates.
    """

    checkpoint: str
    scheme: str
    method: str
    recipe: str
    device_memory_gb: float
    host_memory_gb: float
    hours: float
    cost_usd: float


class ServiceFigures(BaseModel):
    """Predicted service and its cost; figures that are unknown are null.

    TTFT is in ms, throughput in output tokens/s, latency in s. ``cost_per_million_tokens`` is USD
    per million output tokens, ``cost_per_million_tokens_blended`` per million of all tokens.
    """

    ttft: float | None
    throughput_per_user: float | None
    e2e_latency: float | None
    error_rate: float
    chance: float | None = CHANCE
    cost_per_million_tokens: float
    cost_per_million_tokens_blended: float | None = BLENDED
    cost_usd_per_h: float | None = COST_PER_H


class NodeGroup(ServiceFigures, EngineMetadata):
    """Equal replicas, ready to deploy.

    ``model`` is the checkpoint's name and ``args.model`` what a pod loads; ``placements`` has the
    nodes of each replica, in the order of its pipeline; ``requests_per_s`` is what all replicas
    finish. Pooling models generate no tokens (``throughput_per_user`` 0): their cost counts the
    tokens they read.
    """

    config_id: str
    name: str
    labels: Labels
    type: str
    engine_type: str
    tp_size: int
    pp_size: int
    envs: dict[str, str]
    args: dict[str, str | int | float | bool]
    replicas: int
    image: str
    memory: float
    hardware_mode: HardwareMode
    requests_per_s: float | None = None
    device_name: str
    device_model: str
    raw_name: str
    weight_memory_gb: float
    kv_cache_memory_gb: float
    cores: int | None = None
    socket_cores: int | None = None
    role: PoolRole | None = Field(
        None,
        exclude_if=is_none,
        description="part of each request that these workers serve; absent where each replica "
        "serves whole requests",
    )
    # Callers read a null as a number of adapters, and an absent key as their own default.
    max_loras: int | None = Field(None, exclude_if=is_none)
    model: str | None = None
    placements: list[list[NodeShare]] = []
    compression: Compression | None = None
    confidence: Confidence | None = None
    explanation: Explanation | None = None
    requests: ReplayedRequests | None = None
    speculation: GuessedTokens | None = Field(
        None, description="how tokens are guessed ahead; null: they are not"
    )
    kv_store: SharedKvStore | None = Field(
        None, description="store of KV cache that replicas share, to be started first; null: none"
    )
    price: DevicePrice | None = Field(None, description="price of one device and its origin")
    power_w: float | None = Field(
        None, description="W that the group takes from the grid, with servers and cooling"
    )
    kwh_per_million_tokens: float | None = Field(
        None, description="kWh per million tokens that cost counts"
    )
    g_co2_per_million_tokens: float | None = Field(
        None, description="g CO2 per million tokens that cost counts"
    )


def node_group(
    group: ReplicaGroup, question: Question, overrides: LaunchOverrides = AS_PLANNED
) -> NodeGroup:
    """Return a replica group as callers deploy it."""
    launch = with_own_image(group.launch, group.engine, group.kind, overrides.images)
    label, config, memory = group.label, group.config, group.memory
    return NodeGroup(
        config_id=group.config_id,
        name=label.name,
        labels=Labels(device_name=label.name, concurrency=str(_started_for(group, question))),
        type=label.wire_type,
        engine_type=group.engine,
        tp_size=config.tp,
        pp_size=config.pp,
        envs=dict(launch.envs),
        args={"model": overrides.loaded(launch.model, question), **launch.args},
        replicas=group.replicas,
        image=launch.image,
        hardware_mode=question.mode,
        requests_per_s=group.replicas * group.service.requests_per_s.value,
        device_name=label.name,
        device_model=label.device_model,
        raw_name=label.raw_name,
        memory=gigabytes(memory.total_bytes),
        weight_memory_gb=gigabytes(memory.weight_bytes),
        kv_cache_memory_gb=gigabytes(memory.kv_cache_bytes),
        cores=config.cores or None,
        socket_cores=config.device.compute_units if config.cores else None,
        role=None if group.role is PoolRole.WHOLE else group.role,
        max_loras=config.max_loras or None,
        model=launch.model,
        placements=_placements(group, question),
        compression=_compression(question.architecture, config, overrides),
        confidence=_confidence(group),
        explanation=explanation_of(group.explanation),
        requests=_requests(group.replayed) if group.replayed else None,
        speculation=GuessedTokens.of(group.speculation) if group.speculation else None,
        kv_store=SharedKvStore.of(config.kv_store) if config.kv_store else None,
        price=_price(config.device),
        **_figures(group, question),
        **_energy(question, group),
        **_metadata(group),
    )


def _figures(group: ReplicaGroup, question: Question) -> dict[str, Any]:
    """Return the fields of `ServiceFigures`."""
    service, cost_usd = group.service, group.cost_per_million_tokens_usd
    return {
        "ttft": service.ttft_s.value * KILO,
        "throughput_per_user": service.tokens_per_s_per_user.value,
        "e2e_latency": service.e2e_s.value,
        "error_rate": group.error_rate,
        "chance": round(group.chance, 4),
        "cost_per_million_tokens": cost_usd,
        "cost_per_million_tokens_blended": cost_usd * output_share(question.traffic),
        "cost_usd_per_h": group.cost_usd_per_h,
    }


def _started_for(group: ReplicaGroup, question: Question) -> int:
    """Return the requests at a time that callers start a replica for.

    Of requests at a rate more than are in flight on average, where callers take it for the limit.
    """
    knobs, is_open = question.fixed_knobs, question.traffic.is_open
    is_limit = knobs is not None and group.engine in knobs.engines and is_open
    is_whole = group.config.role is PoolRole.WHOLE
    return group.config.max_num_seqs if is_limit and is_whole else group.config.concurrency


def _metadata(group: ReplicaGroup) -> dict[str, Any]:
    """Return the facts about engine and model that `EngineMetadata` has fields for."""
    return {name: getattr(group.metadata, name) for name in EngineMetadata.model_fields}


def _energy(question: Question, group: ReplicaGroup) -> dict[str, Any]:
    found = energy_of(question, [group])
    return {
        "power_w": round(found.power_w, 1),
        "kwh_per_million_tokens": found.kwh_per_million_tokens,
        "g_co2_per_million_tokens": found.g_co2_per_million_tokens,
    }


def _price(device: Device) -> DevicePrice | None:
    origin = device.price_origin
    if origin is None:
        return None
    return DevicePrice(
        usd_per_h=device.price_usd_per_h,
        basis=origin.basis,
        kind=origin.kind,
        date=origin.date or None,
        source=origin.source,
    )


def output_share(traffic: Traffic) -> float:
    """Return the share of all tokens that cost counts: output tokens, or all of a pooling model."""
    if not traffic.output_tokens:
        return 1.0
    return traffic.output_tokens / (traffic.input_tokens + traffic.output_tokens)


def checkpoint_precision(architecture: Architecture) -> Precision:
    """Return the format of the checkpoint's own weights."""
    quantization = architecture.quantization
    return quantization.precision if quantization else architecture.native_precision


def _placements(group: ReplicaGroup, question: Question) -> list[list[NodeShare]]:
    """Return the nodes of each replica in pipeline order, one share for each pool of devices."""
    used = {part.node_id for replica in group.placements for part in replica}
    nodes = {
        node.node_id: node
        for cluster in question.clusters
        for node in cluster.nodes
        if node.node_id in used
    }
    firsts = {
        (node.node_id, pool): first
        for node in nodes.values()
        for pool, first in _first_devices(node)
    }
    return [
        [
            NodeShare(
                node=part.node_name,
                devices=part.devices,
                first=firsts.get((part.node_id, part.pool), 0),
            )
            for part in replica
        ]
        for replica in group.placements
    ]


def _first_devices(node: Node) -> Iterator[tuple[int, int]]:
    """Yield each pool's index and the number of its first device among those of its kind."""
    counted: Counter[str] = Counter()
    for index, pool in enumerate(node.pools):
        kind = pool.label.wire_type.removesuffix("_high")
        yield index, counted[kind]
        counted[kind] += pool.total


def _compression(
    architecture: Architecture, config: ReplicaConfig, overrides: LaunchOverrides
) -> Compression | None:
    job = job_for(architecture, config.weight_precision, config.device)
    if job is None:
        return None
    methods = schemes()[job.scheme].methods
    if overrides.method in methods:
        job = Llmc().job(architecture, job.scheme, device=config.device, method=overrides.method)
    return Compression(
        checkpoint=architecture.model_id,
        scheme=job.scheme,
        method=job.method,
        recipe=job.recipe_yaml,
        device_memory_gb=gigabytes(job.device_bytes),
        host_memory_gb=gigabytes(job.host_bytes),
        hours=round(job.hours, 3),
        cost_usd=round(job.cost_usd, 2),
    )


def _confidence(group: ReplicaGroup) -> Confidence:
    service = group.service
    return Confidence(
        basis=service.basis,
        bases={name: str(basis) for name, basis in service.bases.items()},
        in_range=service.in_range,
        bound_by=service.bound_by,
        ttft=_range(service.ttft_s, KILO),
        throughput_per_user=_range(service.tokens_per_s_per_user, 1.0),
        e2e_latency=_range(service.e2e_s, 1.0),
    )


def _requests(found: plans.ReplayedRequests) -> ReplayedRequests:
    return ReplayedRequests(
        ttft=_spread(found.ttft_s, KILO),
        itl=_spread(found.itl_s, KILO),
        tpot=_spread(found.tpot_s, KILO),
        e2e_latency=_spread(found.e2e_s, 1.0),
        requests_per_s=found.requests_per_s,
        good_share=found.good_share,
        running=found.running,
        waiting=found.waiting,
        utilisation=found.utilisation,
        largest_stable_rate=finite_or_none(found.largest_stable_rate),
        margin=finite_or_none(found.margin),
    )


def _spread(found: replay.Spread, factor: float) -> Spread:
    return Spread(
        mean=finite_or_none(found.mean * factor),
        p50=finite_or_none(found.p50 * factor),
        p90=finite_or_none(found.p90 * factor),
        p95=finite_or_none(found.p95 * factor),
        p99=finite_or_none(found.p99 * factor),
    )


def _range(figure: Figure, factor: float) -> Range:
    return Range(low=figure.low80 * factor, high=figure.high80 * factor)
