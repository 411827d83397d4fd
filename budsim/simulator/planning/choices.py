"""What may be chosen on a cluster.

Engines on groups of equal devices, values to try, and tables of chosen values.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields, replace
from typing import Final

import numpy as np

from budsim.commons.precision import Precision
from budsim.engine_ops.base import Knob, ServingEngine
from budsim.engine_ops.engine_profile import EngineProfile, version_pair
from budsim.engine_ops.limits import DEFAULT_MAX_LORA_RANK
from budsim.engine_ops.releases import release_year
from budsim.hardware_ops.cluster import HardwareMode
from budsim.hardware_ops.device import DeviceKind
from budsim.performance.candidates import Floats, Integers
from budsim.performance.limits import MOST_REQUESTS
from budsim.simulator.planning.hardware_groups import HardwareGroup, with_whole_nodes
from budsim.simulator.planning.host_memory import host_bytes_per_device
from budsim.simulator.planning.kv_stores import StoreLink, store_link
from budsim.simulator.planning.question import Question

# The deploying service launches with a maximum length of 1.1 x (input + output) tokens: one such
# sequence must fit.
CONTEXT_MARGIN: Final = 1.1
# Pipeline sizes tried: even cuts of the usual 24 to 128 layers; deeper ones only add bubbles.
PIPELINES: Final = frozenset({1, 2, 3, 4, 6, 8, 12, 16})
# Sequences a replica may run over the requests it is planned for: a quarter more may come at once
# (the p99 of a Poisson number of 80 is 101) without waiting for a place.
BURST_ROOM: Final = 1.25
# Columns of `Choices` name a number format by its place here.
PRECISIONS: Final = tuple(Precision)
# Hardware on which engines document attention ranks (DP) inside a group of devices that share
# experts.
SPLIT_ATTENTION: Final = frozenset({DeviceKind.CUDA, DeviceKind.ROCM})


@dataclass(frozen=True, slots=True, kw_only=True)
class ServingOption:
    """One engine on one group of equal devices, and the values to try of every setting there.

    Values ascend, except formats (best quality first) and ``memory_fraction`` (the engine's default
    first): of candidates that do equally well the search keeps the first. With
    ``follows_requests`` a replica's ``max_num_seqs`` is the number of its requests: of a rate, the
    most that targets allow. Every replica has ``max_loras`` slots for LoRA adapters of at most
    ``max_lora_rank``, and each device ``host_bytes`` of host memory for KV cache. Replicas may
    share the store behind ``store``.
    """

    group: HardwareGroup
    engine: ServingEngine
    profile: EngineProfile
    tp: tuple[int, ...]
    pp: tuple[int, ...]
    ep: tuple[bool, ...]
    dp: tuple[int, ...]
    weights: tuple[Precision, ...]
    kv: tuple[Precision, ...]
    max_num_seqs: tuple[int, ...]
    max_num_batched_tokens: tuple[int, ...]
    memory_fraction: tuple[float, ...]
    follows_requests: bool = False
    max_loras: int = 0
    max_lora_rank: int = DEFAULT_MAX_LORA_RANK
    host_bytes: float = 0.0
    store: StoreLink | None = None

    def attention_ranks(self, tp: int) -> tuple[int, ...]:
        """Return the numbers of attention ranks (DP) that ``tp`` devices may have here.

        With adapters it is one or all of them: vLLM 0.32 does not start experts that are spread
        beside attention ranks of several devices each (``lora/layers/fused_moe.py``, _ep_check).
        """
        return tuple(dp for dp in self.dp if tp % dp == 0 and (not self.max_loras or dp in {1, tp}))

    @property
    def release_year(self) -> float:
        """When the engine's version came out, as a calendar year with its fraction."""
        return release_year(self.engine.name, self.engine.version)

    def least_attention_ranks(self, tp: int) -> int:
        """Return the fewest attention ranks of ``tp`` devices, so that each stays in its node."""
        group = self.group
        if not group.is_wide(tp) or group.is_linked(tp):
            return 1
        ranks = self.attention_ranks(tp)
        return next((dp for dp in ranks if tp // dp <= group.whole_node), max(ranks))

    @property
    def default_limits(self) -> tuple[int, int]:
        """Tokens of a step and running sequences the engine allows on this device by default."""
        version = version_pair(self.engine.version)
        device = self.group.device
        return (
            self.profile.limits_on(device, version) if version else self.profile.limits_on(device)
        )


def make_option(
    question: Question, group: HardwareGroup, engine: ServingEngine, weights: tuple[Precision, ...]
) -> ServingOption:
    """Return what may be chosen of ``engine`` on ``group`` with weights in some formats.

    With `Question.analytic_only` the engine's knobs keep their defaults: few enough combinations to
    try all of them. A KV cache of fewer bits than the model's own is quantization too: only a
    question that allows it gets one.
    """
    device, architecture = group.device, question.architecture
    profile = engine.profile(device.kind)
    knobs = {knob.name: knob for knob in engine.knobs(device.kind) if device.kind in knob.kinds}

    def values(name: str, default: float) -> tuple[float, ...]:
        """Return the values to try for a knob; only the default in an analytic-only question."""
        return _values(knobs.get(name), default, fixed=question.analytic_only)

    # DP ranks live inside one tensor-parallel group, so the largest TP bounds them.
    tp, pp = _layouts(question, group, engine)
    formats = engine.kv_precisions(architecture, device)
    budgets = values("max_num_batched_tokens", profile.max_num_batched_tokens)
    least = float(engine.min_batched_tokens(architecture))
    option = ServingOption(
        group=group,
        engine=engine,
        profile=profile,
        tp=tp,
        pp=pp,
        ep=(False, True) if architecture.is_moe else (False,),
        dp=engine.dp_sizes(architecture, tp[-1]) if device.kind in SPLIT_ATTENTION else (1,),
        weights=weights,
        kv=formats if question.may_quantize else formats[:1],
        max_num_seqs=_whole(values("max_num_seqs", profile.max_num_seqs)),
        max_num_batched_tokens=_whole(sorted({max(budget, least) for budget in budgets})),
        memory_fraction=_default_first(
            device.startable_shares(values("memory_fraction", profile.memory_fraction)),
            profile.memory_fraction,
        ),
        max_loras=question.max_loras,
        max_lora_rank=question.max_lora_rank,
        host_bytes=host_bytes_per_device(question, group, engine),
        store=store_link(question, group, engine),
    )
    return _as_deployed(question, option)


def _as_deployed(question: Question, option: ServingOption) -> ServingOption:
    """Return an option with the values its deployer passes in place of searched ones."""
    fixed, engine = question.fixed_knobs, option.engine
    if fixed is None or engine.name not in fixed.engines:
        return option
    if not question.max_loras and engine.metadata(question.architecture).supports_lora:
        option = replace(option, max_loras=fixed.max_loras, max_lora_rank=fixed.max_lora_rank)
    # Scoring cuts the limit to the requests of each replica: that is what is launched. How many a
    # rate makes is ours to say: as many as its targets allow, within what engines are asked for.
    most = option.max_num_seqs[-1] if question.traffic.is_open else MOST_REQUESTS
    option = replace(option, max_num_seqs=(most,), follows_requests=True)
    if option.group.device.kind is DeviceKind.CPU:  # its cache is a size, not a share of the memory
        return option
    return replace(option, memory_fraction=(fixed.memory_fraction,))


def one_replica_each(
    option: ServingOption, layouts: Sequence[tuple[int, int]], concurrency: int
) -> Choices:
    """Return one replica of each layout (tp, pp) of ``option``, every knob at its first value."""
    rows = len(layouts)

    def column(value: int) -> Integers:
        """Return the same value for every row."""
        return np.full(rows, value, dtype=np.int64)

    return Choices(
        option=column(0),
        tp=np.array([tp for tp, _ in layouts], dtype=np.int64),
        pp=np.array([pp for _, pp in layouts], dtype=np.int64),
        ep=column(1),
        dp=column(1),
        weights=column(PRECISIONS.index(option.weights[0])),
        kv=column(PRECISIONS.index(option.kv[0])),
        max_num_seqs=column(option.max_num_seqs[0]),
        max_num_batched_tokens=column(option.max_num_batched_tokens[0]),
        memory_fraction=np.full(rows, option.memory_fraction[0]),
        replicas=column(1),
        concurrency=column(concurrency),
    )


def context_needed(question: Question) -> int:
    """Return the longest sequence a replica must hold, tokens."""
    # A margin the model has no positions for would be refused at launch.
    longest = math.ceil(CONTEXT_MARGIN * question.traffic.context_tokens)
    return min(longest, question.context_limit)


def with_burst_room(requests: Integers) -> Integers:
    """Return how many sequences a rank must allow to have room for bursts: 64 requests, 80."""
    return np.asarray(np.ceil(BURST_ROOM * requests).astype(np.int64))


def price_share(question: Question, group: HardwareGroup) -> float:
    """Return the share of a device's price a replica pays.

    Of a time-sliced one what it holds, of its own all.
    """
    return group.compute_share if question.mode is HardwareMode.SHARED else 1.0


def replica_counts(concurrency: int, capacity: int) -> list[int]:
    """Return the numbers of replicas to try, ascending, at most ``capacity``.

    Of all that give each replica equally many requests, only the least is tried. Ten requests: 1,
    2, 3, 4, 5 and 10 replicas with 10, 5, 4, 3, 2 and 1 requests each; 6 to 9 replicas would also
    get 2 each, at a higher price than 5.
    """
    found: list[int] = []
    replicas = 1
    while replicas <= min(concurrency, capacity):
        found.append(replicas)
        # Ceiling division: the fullest replica decides what its requests see.
        each = -(-concurrency // replicas)
        replicas = -(-concurrency // (each - 1)) if each > 1 else concurrency + 1
    return found


def _layouts(
    question: Question, group: HardwareGroup, engine: ServingEngine
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return the tensor- and pipeline-parallel sizes to try.

    The question's own layout, or those the devices hold.
    """
    if question.layout:
        return (question.layout.tp,), (question.layout.pp,)
    # Longer lists only slow the engine's own check: deeper pipelines are not tried.
    deepest = min(group.devices, max(PIPELINES))
    pipelines = engine.pp_sizes(question.architecture, deepest)
    return (
        (
            *engine.tp_sizes(question.architecture, group.largest_node),
            *_wide_sizes(question, group, engine),
        ),
        tuple(pp for pp in pipelines if pp in PIPELINES),
    )


def _wide_sizes(question: Question, group: HardwareGroup, engine: ServingEngine) -> tuple[int, ...]:
    """Return the sizes of groups over several nodes to try.

    Any inside a fast link domain. Over a network only experts are spread, with attention in ranks
    that stay within their nodes.
    """
    architecture, sizes = question.architecture, group.wide_sizes
    legal = set(engine.tp_sizes(architecture, max(sizes))) if sizes else set()
    return tuple(
        size
        for size in sizes
        if size in legal
        and (group.is_linked(size) or spreads_over_network(question, group, engine, size))
    )


def spanning_nodes(question: Question, groups: Iterable[HardwareGroup]) -> list[HardwareGroup]:
    """Return groups whose replicas may take several nodes, where the question allows that.

    Not on devices shared with others, and not where somebody else starts the engines, one process
    for the tensor ranks of a replica, or asks for a layout.
    """
    is_ours = question.fixed_knobs is None and question.layout is None
    may = is_ours and question.mode is HardwareMode.DEDICATED
    return [
        with_whole_nodes(group) if may and group.device.kind in SPLIT_ATTENTION else group
        for group in groups
    ]


def spreads_over_network(
    question: Question, group: HardwareGroup, engine: ServingEngine, size: int
) -> bool:
    """Return whether experts may be spread over ``size`` devices that a network connects."""
    if group.device.scale_out.bandwidth_bytes_per_s <= 0:
        return False
    ranks = engine.dp_sizes(question.architecture, size)
    inside = any(size // dp <= group.whole_node for dp in ranks)
    return inside and engine.ep_sizes(question.architecture, size)[-1] == size > 1


def _values(knob: Knob | None, default: float, *, fixed: bool) -> tuple[float, ...]:
    if knob is None or not knob.values:
        return (default,)
    if fixed:
        return (float(knob.default),) if float(knob.default) > 0 else (default,)
    return tuple(sorted({float(value) for value in knob.values}))


def _whole(values: Sequence[float]) -> tuple[int, ...]:
    return tuple(int(value) for value in values)


def _default_first(values: tuple[float, ...], default: float) -> tuple[float, ...]:
    """Put the engine's own default first, then the largest."""
    return tuple(sorted(values, key=lambda value: (value != default, -value)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Choices:
    """Chosen values, one row for each way to deploy equal replicas; arrays of shape (n,).

    ``option`` is the place of a `ServingOption` in the list they were chosen from; ``ep`` and
    ``dp`` count ranks inside a replica's ``tp`` devices; ``weights`` and ``kv`` are places in
    `PRECISIONS`; ``concurrency`` is one replica's.
    """

    option: Integers
    tp: Integers
    pp: Integers
    ep: Integers
    dp: Integers
    weights: Integers
    kv: Integers
    max_num_seqs: Integers
    max_num_batched_tokens: Integers
    memory_fraction: Floats
    replicas: Integers
    concurrency: Integers

    @property
    def devices(self) -> Integers:
        """Devices all replicas use."""
        return self.replicas * self.replica_devices

    @property
    def replica_devices(self) -> Integers:
        """Devices of one replica."""
        return self.tp * self.pp

    def rows(self, rows: Integers) -> Choices:
        """Return some of the rows."""
        return Choices(**{name: getattr(self, name)[rows] for name in COLUMNS})

    def followed_by(self, others: Choices) -> Choices:
        """Return these rows and others after them."""
        pairs = {name: [getattr(self, name), getattr(others, name)] for name in COLUMNS}
        return Choices(**{name: np.concatenate(pair) for name, pair in pairs.items()})


COLUMNS: Final = tuple(column.name for column in fields(Choices))
