"""What may be chosen on one cluster: engines on devices, the genomes that spell candidates there, and how good each one is."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import ArrayLike

from budsim.commons.precision import Precision
from budsim.commons.units import GIB
from budsim.engine_ops.base import Knob, ReplicaConfig, ServingEngine
from budsim.engine_ops.engine_profile import EngineProfile
from budsim.engine_ops.releases import release_year
from budsim.hardware_ops.cluster import HardwareMode
from budsim.hardware_ops.device import DeviceKind
from budsim.model_ops.architecture import Architecture
from budsim.performance.candidates import Candidates, Floats, Integers
from budsim.performance.predictions import MemoryUse
from budsim.performance.predictor import Predictor
from budsim.performance.workload import Workload
from budsim.simulator.evolution import Scores
from budsim.simulator.planning.cost import usd_per_h, usd_per_million_tokens
from budsim.simulator.planning.placement import HardwareGroup
from budsim.simulator.planning.question import Question

GENES = tuple(
    "offer tp pp ep dp weights kv max_num_seqs max_num_batched_tokens memory_fraction replicas".split()
)
OFFER, TP, PP, EP, DP, WEIGHTS, KV, SEQS, BUDGET, FRACTION, REPLICAS = range(len(GENES))
CONTEXT_MARGIN = 1.1
"""Callers launch with a maximum length of 1.1 x (input + output) tokens (shared/contract.md): one such sequence must fit."""
PIPELINES = frozenset({1, 2, 3, 4, 6, 8, 12, 16})
"""Pipeline sizes tried: even cuts of the usual 24 to 128 layers; deeper ones only add bubbles."""
CPU_CACHE_BYTES = float(GIB)
"""vLLM takes the CPU's cache in whole GiB (VLLM_CPU_KVCACHE_SPACE): less than one is none."""
PRECISIONS = tuple(Precision)
SPLIT_ATTENTION = frozenset({DeviceKind.CUDA, DeviceKind.ROCM})
"""Hardware on which attention is split over ranks that share experts; nobody documents it elsewhere."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """One engine on one group of equal devices, and the values worth trying there, ascending or best first."""

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

    @property
    def release_year(self) -> float:
        """When the engine's version came out, as a calendar year with its fraction."""
        return release_year(self.engine.name, self.engine.version)


def make_offer(
    question: Question, group: HardwareGroup, engine: ServingEngine, weights: tuple[Precision, ...]
) -> Offer:
    """Return what ``engine`` offers on ``group`` for the question's model in the formats ``weights``.

    With `Question.analytic_only` knobs keep their defaults: a grid coarse enough to enumerate. A cache of fewer bits than
    the model's own is quantization too: only a question that allows it gets one.
    """
    device, architecture = group.device, question.architecture
    profile = engine.profile(device.kind)
    knobs = {knob.name: knob for knob in engine.knobs(device.kind) if device.kind in knob.kinds}

    def values(name: str, default: float) -> tuple[float, ...]:
        return _values(knobs.get(name), default, fixed=question.analytic_only)

    tp, pp = _layouts(question, group, engine)
    return Offer(
        group=group,
        engine=engine,
        profile=profile,
        tp=tp,
        pp=pp,
        ep=(False, True) if architecture.is_moe else (False,),
        dp=engine.dp_sizes(architecture, tp[-1]) if device.kind in SPLIT_ATTENTION else (1,),
        weights=weights,
        kv=engine.kv_precisions(device)
        if question.may_quantize
        else engine.kv_precisions(device)[:1],
        max_num_seqs=tuple(int(value) for value in values("max_num_seqs", profile.max_num_seqs)),
        max_num_batched_tokens=tuple(
            int(value) for value in values("max_num_batched_tokens", profile.max_num_batched_tokens)
        ),
        memory_fraction=_default_first(
            values("memory_fraction", profile.memory_fraction), profile.memory_fraction
        ),
    )


def _layouts(
    question: Question, group: HardwareGroup, engine: ServingEngine
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return the tensor- and pipeline-parallel sizes to try: the question's own layout, or those the devices hold."""
    if question.layout:
        return (question.layout.tp,), (question.layout.pp,)
    deepest = min(group.devices, max(PIPELINES))
    pipelines = engine.pp_sizes(question.architecture, deepest)
    return (
        engine.tp_sizes(question.architecture, group.largest_node),
        tuple(pp for pp in pipelines if pp in PIPELINES),
    )


def context_needed(architecture: Architecture, workload: Workload, cap: int | None) -> int:
    """Return the longest sequence a replica must hold, tokens."""
    limit = min(architecture.max_context_tokens, cap or architecture.max_context_tokens)
    return min(math.ceil(CONTEXT_MARGIN * workload.context_tokens), limit)


def _values(knob: Knob | None, default: float, *, fixed: bool) -> tuple[float, ...]:
    if knob is None or not knob.values:
        return (default,)
    if fixed:
        return (float(knob.default),) if float(knob.default) > 0 else (default,)
    return tuple(sorted({float(value) for value in knob.values}))


def _default_first(values: tuple[float, ...], default: float) -> tuple[float, ...]:
    """Of candidates that do equally well the first is kept: the engine's own default rather than an extreme."""
    return tuple(sorted(values, key=lambda value: (value != default, -value)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Choices:
    """The values genomes stand for, one row per genome."""

    offer: Integers
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
        return self.replicas * self.tp * self.pp

    def rows(self, rows: Integers) -> Choices:
        """Return some of them."""
        return Choices(**{column.name: getattr(self, column.name)[rows] for column in fields(self)})

    def joined(self, others: Choices) -> Choices:
        """Return these and others after them."""
        columns = [column.name for column in fields(self)]
        return Choices(
            **{
                name: np.concatenate([getattr(self, name), getattr(others, name)])
                for name in columns
            }
        )


class OfferSpace:
    """The legal genomes over some offers; see `budsim.simulator.evolution.Space`.

    A genome is legal when its indices exist, its pipeline fits the devices, experts are spread where the engine can and wherever
    it must, more sequences are not allowed for than can ever run, a step may hold all running sequences, and its number of
    replicas is the least that gives each so few requests. Illegal ones are repaired to a legal one that would behave alike where
    there is one.
    """

    def __init__(self, offers: Sequence[Offer], question: Question) -> None:
        self.offers = tuple(offers)
        self._question = question
        self._counts = np.array([_counts(offer) for offer in offers], dtype=np.int64)
        self._tp = _padded([offer.tp for offer in offers])
        self._pp = _padded([offer.pp for offer in offers])
        self._dp = _padded([offer.dp for offer in offers])
        self._seqs = _padded([offer.max_num_seqs for offer in offers])
        self._budgets = _padded([offer.max_num_batched_tokens for offer in offers])
        self._fractions = _padded([offer.memory_fraction for offer in offers]).astype(np.float64)
        self._weights = _padded([[PRECISIONS.index(p) for p in offer.weights] for offer in offers])
        self._kv = _padded([[PRECISIONS.index(p) for p in offer.kv] for offer in offers])
        spread = [
            [offer.engine.ep_sizes(question.architecture, tp) for tp in offer.tp]
            for offer in offers
        ]
        self._least_ep = _padded([[int(sizes[0] > 1) for sizes in of_tp] for of_tp in spread])
        self._most_ep = _padded([[int(sizes[-1] > 1) for sizes in of_tp] for of_tp in spread])
        self._fill_replicas()
        self._sizes = (
            len(offers),
            *(int(size) for size in self._counts[:, 1:].max(axis=0)),
            len(self._replicas),
        )

    def _fill_replicas(self) -> None:
        """Tabulate, for every offer and layout, how many replica counts are worth trying, and the deepest legal pipeline."""
        capacity = np.zeros(
            (len(self.offers), self._tp.shape[1], self._pp.shape[1]), dtype=np.int64
        )
        for number, offer in enumerate(self.offers):
            for t, tp in enumerate(offer.tp):
                capacity[number, t, : len(offer.pp)] = [
                    offer.group.capacity(tp, pp) for pp in offer.pp
                ]
        self._replicas = np.array(
            replica_steps(self._question.workload.concurrency, max(1, int(capacity.max()))),
            dtype=np.int64,
        )
        self._replica_counts = np.searchsorted(self._replicas, capacity, side="right")
        self._deepest = np.maximum((self._replica_counts > 0).sum(axis=2) - 1, 0)

    @property
    def count(self) -> int:
        """See `Space.count`."""
        return sum(self._count_of_layout(*layout) for layout in self._layouts())

    def _layouts(self) -> Iterator[tuple[int, int, int]]:
        """Yield the indices of offer, tp and pp of every legal layout."""
        for number, offer in enumerate(self.offers):
            for tp in range(len(offer.tp)):
                for pp in range(int(self._deepest[number, tp]) + 1):
                    yield number, tp, pp

    def _count_of_layout(self, offer: int, tp: int, pp: int) -> int:
        found, devices = self.offers[offer], int(self._tp[offer, tp])
        spread = int(self._most_ep[offer, tp] - self._least_ep[offer, tp]) + 1
        formats = len(found.weights) * len(found.kv) * len(found.memory_fraction) * spread
        ranks = [dp for dp in found.dp if devices % dp == 0 and (pp == 0 or dp == 1)]
        replicas = self._replicas[: self._replica_counts[offer, tp, pp]]
        running = -(-self._question.workload.concurrency // np.outer(ranks, replicas).ravel())
        seqs, budgets = np.array(found.max_num_seqs), np.array(found.max_num_batched_tokens)
        largest = np.minimum(np.searchsorted(seqs, running), len(seqs) - 1)
        roomy = len(budgets) - np.minimum(np.searchsorted(budgets, seqs), len(budgets) - 1)
        below = np.concatenate([[0], np.cumsum(roomy)])[largest]
        last = len(budgets) - np.minimum(
            np.searchsorted(budgets, np.minimum(seqs[largest], running)), len(budgets) - 1
        )
        return int(formats * (below + last).sum())

    @property
    def sizes(self) -> tuple[int, ...]:
        """See `Space.sizes`."""
        return self._sizes

    @property
    def knobs(self) -> tuple[int, ...]:
        """See `Space.knobs`."""
        return (SEQS, BUDGET, FRACTION)

    def niches(self, genomes: Integers) -> Integers:
        """Return a number for each genome's devices, offer, TP, DP and formats: the front has something of nearly each."""
        genes = [OFFER, TP, DP, WEIGHTS, KV]
        columns = (self.read(genomes).devices, *genomes[:, genes].T)
        return np.asarray(
            np.ravel_multi_index(columns, (int(columns[0].max()) + 1, *np.array(self.sizes)[genes]))
        )

    def repair(self, genomes: Integers) -> Integers:
        """See `Space.repair`."""
        fixed = genomes.copy()
        offer = fixed[:, OFFER]
        fixed[:, 1:REPLICAS] %= self._counts[offer][:, 1:]
        fixed[:, PP] = np.minimum(fixed[:, PP], self._deepest[offer, fixed[:, TP]])
        tp, pp = fixed[:, TP], fixed[:, PP]
        fixed[:, EP] = np.clip(fixed[:, EP], self._least_ep[offer, tp], self._most_ep[offer, tp])
        dp = self._dp[offer, fixed[:, DP]]
        fixed[:, DP] = np.where((self._tp[offer, tp] % dp == 0) & (pp == 0), fixed[:, DP], 0)
        dp = self._dp[offer, fixed[:, DP]]
        fixed[:, REPLICAS] = np.minimum(fixed[:, REPLICAS], self._replica_counts[offer, tp, pp] - 1)
        replicas = self._replicas[fixed[:, REPLICAS]]
        concurrency = -(-self._question.workload.concurrency // (replicas * dp))
        enough = (self._seqs[offer] < concurrency[:, None]).sum(axis=1)
        fixed[:, SEQS] = np.minimum(
            fixed[:, SEQS], np.minimum(enough, self._counts[offer, SEQS] - 1)
        )
        running = np.minimum(self._seqs[offer, fixed[:, SEQS]], concurrency)
        roomy = (self._budgets[offer] < running[:, None]).sum(axis=1)
        fixed[:, BUDGET] = np.maximum(
            fixed[:, BUDGET], np.minimum(roomy, self._counts[offer, BUDGET] - 1)
        )
        return fixed

    def starts(self, limit: int) -> Integers:
        """Return every layout in every format, knobs at generous values; where those are many, at some numbers of replicas."""
        layouts = list(self._layouts())
        formats = self._counts[[offer for offer, _, _ in layouts], EP:SEQS].prod(axis=1).sum()
        most = max(2, limit // int(formats))
        return np.concatenate([self._generous(*layout, most) for layout in layouts])

    def _generous(self, offer: int, tp: int, pp: int, most: int) -> Integers:
        found, counts = self.offers[offer], int(self._replica_counts[offer, tp, pp])
        values: dict[int, ArrayLike] = {
            SEQS: [len(found.max_num_seqs) - 1],
            BUDGET: [len(found.max_num_batched_tokens) // 2],
            FRACTION: [int(np.argmax(found.memory_fraction))],
            REPLICAS: np.unique(np.linspace(0, counts - 1, min(counts, most)).round()),
        }
        return self._of_layout(offer, tp, pp, values)

    def legal(self, limit: int) -> Integers | None:
        """See `Space.legal`."""
        if self.count > limit:
            return None
        return np.concatenate([self._of_layout(*layout, {}) for layout in self._layouts()])

    def _of_layout(self, offer: int, tp: int, pp: int, chosen: Mapping[int, ArrayLike]) -> Integers:
        """Return the legal genomes of a layout, of some genes only the values ``chosen``."""
        counts = [
            1,
            1,
            1,
            *self._counts[offer, EP:].tolist(),
            int(self._replica_counts[offer, tp, pp]),
        ]
        values: dict[int, ArrayLike] = {
            **dict(enumerate(map(np.arange, counts))),
            OFFER: [offer],
            TP: [tp],
            PP: [pp],
            **chosen,
        }
        genomes = (
            np.stack(np.meshgrid(*values.values(), indexing="ij"), axis=-1)
            .reshape(-1, len(GENES))
            .astype(np.int64)
        )
        return np.asarray(np.unique(self.repair(genomes), axis=0))

    def read(self, genomes: Integers) -> Choices:
        """Return the values legal genomes stand for."""
        offer = genomes[:, OFFER]
        tp = self._tp[offer, genomes[:, TP]]
        replicas = self._replicas[genomes[:, REPLICAS]]
        return Choices(
            offer=offer,
            tp=tp,
            pp=self._pp[offer, genomes[:, PP]],
            ep=np.where(genomes[:, EP] > 0, tp, 1),
            dp=self._dp[offer, genomes[:, DP]],
            weights=self._weights[offer, genomes[:, WEIGHTS]],
            kv=self._kv[offer, genomes[:, KV]],
            max_num_seqs=self._seqs[offer, genomes[:, SEQS]],
            max_num_batched_tokens=np.maximum(
                self._budgets[offer, genomes[:, BUDGET]], self._whole_prompt
            ),
            memory_fraction=self._fractions[offer, genomes[:, FRACTION]],
            replicas=replicas,
            concurrency=-(-self._question.workload.concurrency // replicas),
        )

    def candidates(self, choices: Choices) -> Candidates:
        """Return the replicas the choices describe, each with its share of the traffic, as the predictor's table."""
        rows, asked, workload = len(choices.tp), self._question, self._question.workload
        groups = [offer.group for offer in self.offers]
        devices = tuple(dict.fromkeys(group.device for group in groups))
        engines = tuple(dict.fromkeys(offer.profile for offer in self.offers))
        cores = [float(free_cores(group)) for group in groups]
        constant = np.ones(rows)
        years = np.array([offer.release_year for offer in self.offers])[choices.offer]
        return Candidates(
            architectures=(asked.architecture,),
            devices=devices,
            engines=engines,
            precisions=PRECISIONS,
            architecture=np.zeros(rows, dtype=np.int64),
            device=np.array([devices.index(group.device) for group in groups])[choices.offer],
            engine=np.array([engines.index(offer.profile) for offer in self.offers])[choices.offer],
            weight_precision=choices.weights,
            kv_precision=choices.kv,
            tp=choices.tp,
            pp=choices.pp,
            ep=choices.ep,
            dp=choices.dp,
            input_tokens=constant * workload.input_tokens,
            output_tokens=constant * workload.output_tokens,
            concurrency=choices.concurrency.astype(np.float64),
            prefix_hit_share=constant * workload.prefix_hit_share,
            token_budget=choices.max_num_batched_tokens.astype(np.float64),
            max_num_seqs=choices.max_num_seqs.astype(np.float64),
            memory_fraction=choices.memory_fraction,
            chunked_prefill=np.full(rows, self._whole_prompt == 0),
            cores=np.array(cores)[choices.offer],
            compute_share=np.array([group.compute_share for group in groups])[choices.offer],
            memory_free_bytes=np.array([group.memory_free_bytes for group in groups])[
                choices.offer
            ],
            admission_steps=np.zeros(rows),
            stack_year=years,
            engine_year=years,
            burst_share=np.zeros(rows),
            cold_start=np.zeros(rows, dtype=bool),
            static_batch=np.zeros(rows, dtype=bool),
            speculative=np.zeros(rows, dtype=bool),
            adapter_ranks=constant * asked.max_loras * asked.max_lora_rank
            if asked.max_loras
            else None,
        )

    def cache_bytes(self, choices: Choices, row: int, memory: MemoryUse) -> float:
        """Return the KV cache one device keeps: what is left of its memory or, where it is stated, what all sequences can fill.

        It is stated in whole GiB (VLLM_CPU_KVCACHE_SPACE).
        """
        left, profile = float(memory.kv_bytes[row]), self.offers[int(choices.offer[row])].profile
        if not profile.cache_is_stated:
            return left
        tokens = (
            -(-self.context_tokens // profile.block_tokens)
            * profile.block_tokens
            * int(choices.max_num_seqs[row])
        )
        return min(
            left,
            max(math.ceil(tokens * float(memory.kv_bytes_per_token[row]) / GIB), 1) * float(GIB),
        )

    def config(self, choices: Choices, row: int, kv_space_bytes: float) -> ReplicaConfig:
        """Return one row as an engine launches it."""
        group = self.offers[int(choices.offer[row])].group
        on_cpu = group.device.kind is DeviceKind.CPU
        return ReplicaConfig(
            device=group.device,
            tp=int(choices.tp[row]),
            pp=int(choices.pp[row]),
            ep=int(choices.ep[row]),
            dp=int(choices.dp[row]),
            weight_precision=PRECISIONS[int(choices.weights[row])],
            kv_precision=PRECISIONS[int(choices.kv[row])],
            concurrency=int(choices.concurrency[row]),
            context_tokens=self.context_tokens,
            memory_fraction=float(choices.memory_fraction[row]),
            max_num_seqs=int(choices.max_num_seqs[row]),
            max_num_batched_tokens=int(choices.max_num_batched_tokens[row]),
            kv_space_bytes=kv_space_bytes if on_cpu else 0.0,
            cores=free_cores(group),
            max_loras=self._question.max_loras,
            max_lora_rank=self._question.max_lora_rank,
        )

    @property
    def _whole_prompt(self) -> int:
        """The least tokens a step must take: a pooling model's prompt is not cut."""
        return self.context_tokens if self._question.architecture.is_embedding else 0

    @property
    def context_tokens(self) -> int:
        """Longest sequence a replica must hold."""
        return context_needed(
            self._question.architecture, self._question.workload, self._question.max_context_tokens
        )

    def score(self, genomes: Integers, predictor: Predictor) -> Scores:
        """Return objectives and violation of legal genomes; one prediction for all of them."""
        choices = self.read(genomes)
        memory, predictions = predictor.predict(self.candidates(choices))
        service = predictions.service
        per_h = usd_per_h(choices.devices, *self.prices(choices))
        workload = self._question.workload
        cost = usd_per_million_tokens(
            per_h, workload.concurrency * workload.counted_tokens / service.e2e_s
        )
        judged = self._question.judged(predictions)
        ratios = self._question.targets.ratios(judged)
        worst = np.max(ratios, axis=0) if len(ratios) else judged.e2e_s
        objectives = np.stack(
            [self._question.targets.missed_by(judged), cost, choices.devices, worst], axis=1
        )
        return Scores(objectives=objectives, violation=self.violation(choices, memory))

    def prices(self, choices: Choices) -> tuple[Floats, Floats]:
        """Return the price of one whole device of each row, USD per hour, and the share of it that is paid."""
        prices = np.array([offer.group.device.price_usd_per_h for offer in self.offers])
        shares = np.array([paid_share(self._question, offer.group) for offer in self.offers])
        return prices[choices.offer], shares[choices.offer]

    def violation(self, choices: Choices, memory: MemoryUse) -> Floats:
        """Return by how much (relative) choices exceed the memory there is; 0 where they fit."""
        on_cpu = np.array([offer.group.device.kind is DeviceKind.CPU for offer in self.offers])[
            choices.offer
        ]
        cache_missing = np.where(
            on_cpu, np.maximum(1.0 - memory.kv_bytes / CPU_CACHE_BYTES, 0.0), 0.0
        )
        return np.maximum(shortage(memory, self.context_tokens), cache_missing)


def free_cores(group: HardwareGroup) -> int:
    """Return the physical cores of one socket left to a replica; 0 for accelerators."""
    return (
        max(1, int(group.device.compute_units * group.compute_share))
        if group.device.kind is DeviceKind.CPU
        else 0
    )


def paid_share(question: Question, group: HardwareGroup) -> float:
    """Return the share of a device's price a replica pays: what it holds of a time-sliced one, all of one it owns."""
    return group.compute_share if question.mode is HardwareMode.SHARED else 1.0


def replica_steps(concurrency: int, capacity: int) -> list[int]:
    """Return the replica counts worth trying, ascending: of those that give each replica equally many requests, the least."""
    found: list[int] = []
    replicas = 1
    while replicas <= min(concurrency, capacity):
        found.append(replicas)
        share = -(-concurrency // replicas)
        replicas = -(-concurrency // (share - 1)) if share > 1 else concurrency + 1
    return found


def shortage(memory: MemoryUse, context_tokens: int) -> Floats:
    """Return by how much (relative) a candidate exceeds its budget with one sequence of ``context_tokens``; 0 when it fits."""
    fits = memory.fits & (memory.kv_capacity_tokens >= context_tokens)
    needed = (
        memory.weight_bytes
        + memory.activation_bytes
        + memory.reserved_bytes
        + context_tokens * memory.kv_bytes_per_token
    )
    excess = needed / np.maximum(memory.budget_bytes, 1.0) - 1.0
    return np.where(fits, 0.0, np.maximum(excess, 1e-6))


def _counts(offer: Offer) -> tuple[int, ...]:
    return (
        1,
        len(offer.tp),
        len(offer.pp),
        len(offer.ep),
        len(offer.dp),
        len(offer.weights),
        len(offer.kv),
        len(offer.max_num_seqs),
        len(offer.max_num_batched_tokens),
        len(offer.memory_fraction),
    )


def _padded(rows: Sequence[Sequence[float]]) -> Integers:
    """Return rows of unequal length as one array, each filled up with its last value."""
    width = max(len(row) for row in rows)
    return np.array([[*row, *[row[-1]] * (width - len(row))] for row in rows])
