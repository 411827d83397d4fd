"""How good chosen values are.

Their prediction, their cost, how far they exceed the memory, and the launch they make.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any, Final

import numpy as np

from budsim.commons.units import GIB
from budsim.engine_ops.base import Drafting, ReplicaConfig
from budsim.engine_ops.kv_store import KvStore
from budsim.hardware_ops.device import DeviceKind
from budsim.performance.candidates import Booleans, Candidates, Floats, Integers
from budsim.performance.predictions import MemoryUse, Predictions, Service
from budsim.performance.predictor import AnalyticPredictor, Predictor
from budsim.performance.speculation import Speculation
from budsim.simulator.planning.chances import judge
from budsim.simulator.planning.choices import (
    PRECISIONS,
    Choices,
    ServingOption,
    context_needed,
    one_replica_each,
    price_share,
)
from budsim.simulator.planning.cost import usd_per_h, usd_per_million_tokens
from budsim.simulator.planning.guessing import guessing_where_it_gains
from budsim.simulator.planning.hardware_groups import HardwareGroup
from budsim.simulator.planning.kv_stores import store_columns, storing_where_it_gains
from budsim.simulator.planning.question import Question
from budsim.simulator.planning.targets import figures_of
from budsim.simulator.search_result import Scores

# vLLM takes the CPU's KV cache in whole GiB (VLLM_CPU_KVCACHE_SPACE): less than one is none.
CPU_CACHE_BYTES: Final = float(GIB)
# Least share of a processor's memory left that its KV cache takes, so that prefixes stay.
SPARE_CACHE_SHARE: Final = 0.5
# Rounds in which the requests in flight of a rate settle: a fourth changes the end-to-end latency
# of eight of ten candidates by less than 1 %.
SETTLING_ROUNDS: Final = 3
# What a candidate exceeds the memory by at least when it does not fit, so that rounding never makes
# it fit.
LEAST_VIOLATION: Final = 1e-6


@dataclass(frozen=True, slots=True)
class Scoring:
    """What the values chosen from ``options`` mean for a question."""

    question: Question
    options: tuple[ServingOption, ...]

    @property
    def context_tokens(self) -> int:
        """Longest sequence a replica must hold."""
        return context_needed(self.question)

    def takes_whole_prompts(self, option: Integers) -> Booleans:
        """Return whether the engine of each row's option takes a prompt in one step.

        It does with pooling models, and on some devices.
        """
        model = self.question.architecture
        whole = [
            model.is_embedding or not each.engine.cuts_prompts(model, each.group.device)
            for each in self.options
        ]
        return np.array(whole, dtype=bool)[option]

    def least_step_tokens(self, option: Integers) -> Integers:
        """Return the fewest tokens a step of each row must take: the longest whole prompt."""
        return np.where(self.takes_whole_prompts(option), self.context_tokens, 0)

    def score(self, choices: Choices, predictor: Predictor) -> Scores:
        """Return objectives and violation of each row; one prediction for all of them."""
        memory, predictions = self.predict(choices, predictor)
        targets, service = self.question.mean_targets, predictions.service
        in_flight = self.in_flight(choices, service)
        tokens_per_s = in_flight * self.question.traffic.counted_tokens / service.e2e_s
        cost = usd_per_million_tokens(self.usd_per_h(choices, choices.devices), tokens_per_s)
        figures = figures_of(service)
        short = judge(targets, figures, predictions, self.question.chance).shortfall
        # Without targets the latency itself keeps faster deployments on the front.
        slowest = np.max(targets.ratios(figures), axis=0) if targets else service.e2e_s
        objectives = np.stack([short, cost, choices.devices, slowest], axis=1)
        return Scores(objectives=objectives, violation=self.violation(choices, memory))

    def predict(
        self, choices: Choices, predictor: Predictor, shares: Floats | float = 1.0
    ) -> tuple[MemoryUse, Predictions]:
        """Return memory and service of one replica of each row under its part of the traffic.

        ``shares`` (0..1] of the traffic go to the replicas of a row. Requests that come at a rate
        are in flight as long as each takes (Little's law); see `settled`.
        """
        candidates = self.candidates(choices)
        if not self.question.traffic.is_open:
            return predictor.predict(candidates)
        rates = self.rates(choices, shares)
        return predictor.predict(settled(candidates, predictor, rates, choices.concurrency))

    def rates(self, choices: Choices, shares: Floats | float = 1.0) -> Floats:
        """Return the requests/s that come to one replica of each row (n,); nan in a closed loop."""
        return np.asarray(self.question.traffic.rate * shares / choices.replicas)

    def in_flight(self, choices: Choices, service: Service) -> Floats | int:
        """Return the requests in flight on all replicas of each row."""
        if self.question.traffic.is_open:
            return choices.replicas * service.concurrency
        return self.question.concurrency

    def usd_per_h(self, choices: Choices, devices: Integers) -> Floats:
        """Return what so many devices of each row's type cost, USD per hour."""
        prices = np.array([option.group.device.price_usd_per_h for option in self.options])
        shares = np.array([price_share(self.question, option.group) for option in self.options])
        return usd_per_h(devices, prices[choices.option], shares[choices.option])

    def violation(self, choices: Choices, memory: MemoryUse) -> Floats:
        """Return by how much (relative) each row exceeds the memory there is; 0 where it fits."""
        cache_missing = np.maximum(1.0 - memory.kv_bytes / CPU_CACHE_BYTES, 0.0)
        short = np.maximum(
            memory_shortage(memory, self.context_tokens),
            np.where(self._on_cpu(choices), cache_missing, 0.0),
        )
        return np.maximum(short, self._cut_scales(choices))

    def _cut_scales(self, choices: Choices) -> Floats:
        """Return 1 where ranks would cut weights LLMC makes through a shared scale, else 0."""
        if not self.question.may_quantize:
            return np.zeros(len(choices.tp))
        columns = np.stack([choices.option, choices.weights, choices.tp, choices.ep], axis=1)
        layouts, rows = np.unique(columns, axis=0, return_inverse=True)
        cut = [
            self.options[option].engine.why_not_split(
                self.question.architecture, PRECISIONS[weights], tp, ep
            )
            for option, weights, tp, ep in layouts.tolist()
        ]
        return np.array([float(reason is not None) for reason in cut])[rows.ravel()]

    def candidates(self, choices: Choices) -> Candidates:
        """Return one replica of each row, with its share of the traffic, for the predictor."""
        return storing_where_it_gains(self.linked_candidates(choices))

    def linked_candidates(self, choices: Choices) -> Candidates:
        """Return `candidates` that all read the store they reach, whether or not that is faster."""
        rows = len(choices.tp)
        plain = Candidates(
            **self._device_columns(choices.option),
            **self._engine_columns(choices.option),
            **self._question_columns(rows),
            prefix_hit_share=self._prefix_hit_share(choices.option),
            prefix_caching=self._keeps_prefixes(choices.option),
            **self._prefix_columns(choices),
            precisions=PRECISIONS,
            weight_precision=choices.weights,
            kv_precision=choices.kv,
            tp=choices.tp,
            pp=choices.pp,
            ep=choices.ep,
            dp=choices.dp,
            concurrency=choices.concurrency.astype(np.float64),
            token_budget=choices.max_num_batched_tokens.astype(np.float64),
            max_num_seqs=self.max_num_seqs(choices).astype(np.float64),
            memory_fraction=choices.memory_fraction,
            chunked_prefill=~self.takes_whole_prompts(choices.option),
            # A question is about the server: what a benchmark's client adds is left out.
            admission_steps=np.zeros(rows),
            cold_start=np.zeros(rows, dtype=bool),
            static_batch=np.zeros(rows, dtype=bool),
            speculative=np.zeros(rows, dtype=bool),
        )
        ways = self.question.speculations
        if ways:
            plain = guessing_where_it_gains(plain, ways, self.question.mean_targets)
        return plain

    def kv_store(self, choices: Choices, row: int) -> KvStore | None:
        """Return the store that one row reads, or None."""
        link = self.options[int(choices.option[row])].store
        if link is None:
            return None
        stored = self.candidates(choices.rows(np.array([row]))).store_bytes
        return link.store if stored is not None and stored[0] else None

    def speculation(self, choices: Choices, row: int) -> Speculation | None:
        """Return how one row guesses tokens ahead, or None."""
        if not self.question.speculations:
            return None
        guessing = self.candidates(choices.rows(np.array([row])))
        if guessing.speculation is None:
            return None
        way = guessing.speculations[int(guessing.speculation[0])]
        return way if way.draft_tokens else None

    def _device_columns(self, option: Integers) -> dict[str, Any]:
        """Return the columns of `Candidates` that the devices of each row's option decide."""
        groups = [each.group for each in self.options]
        devices = tuple(dict.fromkeys(group.device for group in groups))
        return {
            "devices": devices,
            "device": np.array([devices.index(group.device) for group in groups])[option],
            "cores": self._of_option([free_cores(group) for group in groups], option),
            "compute_share": self._of_option([group.compute_share for group in groups], option),
            "memory_free_bytes": self._of_option(
                [group.memory_free_bytes for group in groups], option
            ),
        }

    def _engine_columns(self, option: Integers) -> dict[str, Any]:
        """Return the columns of `Candidates` that the engine of each row's option decides."""
        engines = tuple(dict.fromkeys(each.profile for each in self.options))
        years = self._of_option([each.release_year for each in self.options], option)
        adapters = [each.max_loras * each.max_lora_rank for each in self.options]
        return {
            "adapter_ranks": self._of_option(adapters, option) if any(adapters) else None,
            "engines": engines,
            "engine": np.array([engines.index(each.profile) for each in self.options])[option],
            "stack_year": years,
            "engine_year": years,
        }

    def _prefix_columns(self, choices: Choices) -> dict[str, Any]:
        """Return the columns that say whether caches hold the prefixes of the traffic."""
        traffic = self.question.traffic
        if not traffic.prefix_set_tokens():
            return {}
        sizes = {
            count: traffic.prefix_set_tokens(count) for count in set(choices.replicas.tolist())
        }
        met = np.array([sizes[count] for count in choices.replicas.tolist()])
        return {
            "unshared_tokens": np.full(len(choices.tp), traffic.unshared_tokens),
            "prefix_set_tokens": met,
            "tier_bytes": self._of_option(
                [option.host_bytes for option in self.options], choices.option
            ),
            **store_columns(
                [self.options[at].store for at in choices.option.tolist()],
                met / traffic.prefix_set_tokens(),
                choices.devices.tolist(),
            ),
        }

    def _prefix_hit_share(self, option: Integers) -> Floats:
        """Return the share of prompt tokens found in the cache; 0 where no prefix is kept."""
        return np.where(self._keeps_prefixes(option), self.question.traffic.prefix_hit_share, 0.0)

    def _keeps_prefixes(self, option: Integers) -> Booleans:
        """Return whether the engine of each row's option finds prefixes again."""
        model = self.question.architecture
        keeps = [each.engine.keeps_prefixes(model, each.group.device) for each in self.options]
        return np.array(keeps, dtype=bool)[option]

    def _question_columns(self, rows: int) -> dict[str, Any]:
        """Return the columns of `Candidates` that the question decides, the same in each row."""
        traffic, constant = self.question.traffic, np.ones(rows)
        return {
            "architectures": (self.question.architecture,),
            "architecture": np.zeros(rows, dtype=np.int64),
            "input_tokens": constant * traffic.input_tokens,
            "output_tokens": constant * traffic.output_tokens,
            "media": (traffic.media,) if traffic.media else (),
            "medium": np.zeros(rows, dtype=np.int64) if traffic.media else None,
        }

    def max_num_seqs(self, choices: Choices) -> Integers:
        """Return the running sequences each row is launched with; see `ServingOption`.

        Requests at a rate come in bursts: their mean in flight, where rows settle, leaves no room.
        """
        follows = np.array([option.follows_requests for option in self.options])[choices.option]
        is_open, question = self.question.traffic.is_open, self.question
        requests = -(-question.concurrency // choices.replicas) if is_open else choices.concurrency
        return np.where(follows, np.minimum(choices.max_num_seqs, requests), choices.max_num_seqs)

    def cache_bytes(self, choices: Choices, row: int, memory: MemoryUse) -> float:
        """Return the KV cache one device keeps.

        That is all the memory left or, where the engine is told a size in whole GiB
        (VLLM_CPU_KVCACHE_SPACE), what all its sequences can fill and at least half of what is left:
        for prefixes. The other half is for the system and its file cache.
        """
        left, profile = float(memory.kv_bytes[row]), self.options[int(choices.option[row])].profile
        if not profile.cache_is_stated:
            return left
        # The engine hands out whole blocks, and a stated size is in whole GiB.
        blocks = -(-self.context_tokens // profile.block_tokens)
        tokens = blocks * profile.block_tokens * int(self.max_num_seqs(choices)[row])
        filled = math.ceil(tokens * float(memory.kv_bytes_per_token[row]) / GIB)
        return min(left, max(filled, left * SPARE_CACHE_SHARE // GIB, 1.0) * GIB)

    def config(
        self,
        choices: Choices,
        row: int,
        cache_bytes: float,
        way: Speculation | None = None,
    ) -> ReplicaConfig:
        """Return one row as an engine launches it, with ``cache_bytes`` of KV cache a device.

        ``way`` is how it guesses tokens ahead; see `speculation`.
        """
        option = self.options[int(choices.option[row])]
        group = option.group
        model = self.question.architecture
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
            max_num_seqs=int(self.max_num_seqs(choices)[row]),
            max_num_batched_tokens=int(choices.max_num_batched_tokens[row]),
            kv_space_bytes=cache_bytes if group.device.kind is DeviceKind.CPU else 0.0,
            cores=free_cores(group),
            chunked_prefill=option.engine.cuts_prompts(model, group.device),
            prefix_caching=option.engine.keeps_prefixes(model, group.device),
            max_loras=option.max_loras,
            max_lora_rank=option.max_lora_rank,
            drafting=drafting_of(way) if way else None,
            media=self.question.traffic.media,
            kv_offload_bytes=_host_bytes(option, cache_bytes)
            * int(choices.tp[row] * choices.pp[row]),
            kv_store=self.kv_store(choices, row),
        )

    def _on_cpu(self, choices: Choices) -> Booleans:
        on_cpu = [option.group.device.kind is DeviceKind.CPU for option in self.options]
        return np.array(on_cpu)[choices.option]

    @staticmethod
    def _of_option(values: Sequence[float], option: Integers) -> Floats:
        """Return a figure of each row's option."""
        return np.array(values, dtype=np.float64)[option]


def settled(
    candidates: Candidates, predictor: Predictor, rates: Floats, most: Integers
) -> Candidates:
    """Return replicas with the requests in flight to which ``rates`` (n,), requests/s, settle.

    Requests are in flight as long as each takes (Little's law), which takes longer the more there
    are: a few rounds from the ``most`` that targets allow find how many. Prefixes that caches may
    drop are all found in the first round: so many requests would leave no room for them.
    """
    known = replace(candidates, prefix_set_tokens=None)
    for _ in range(SETTLING_ROUNDS):
        service = predictor.predict(known)[1].service
        known = replace(candidates, concurrency=np.clip(rates * service.e2e_s, 1.0, most))
    return known


def drafting_of(way: Speculation) -> Drafting:
    """Return a way to guess tokens ahead as engines are told it."""
    return Drafting(method=way.method, tokens=way.draft_tokens, model=way.drafter_name)


def _host_bytes(option: ServingOption, cache_bytes: float) -> float:
    """Return the host memory of one device beside ``cache_bytes`` on it.

    0 where the engine starts with more on the host than on the device only, and there is less.
    """
    rule = option.profile.host_tier
    too_small = rule is not None and rule.exceeds_device and option.host_bytes <= cache_bytes
    return 0.0 if too_small else option.host_bytes


def fitting_layouts_of(question: Question, option: ServingOption) -> set[tuple[int, int]]:
    """Return the layouts (tp, pp) of ``option`` that hold one sequence, knobs at first values."""
    pairs = [
        (tp, pp) for tp, pp in product(option.tp, option.pp) if option.group.capacity(tp, pp) > 0
    ]
    if not pairs:
        return set()
    scoring = Scoring(question, (option,))
    choices = one_replica_each(option, pairs, question.concurrency)
    memory, _ = AnalyticPredictor().predict(scoring.candidates(choices))
    short = memory_shortage(memory, scoring.context_tokens)
    return {pair for pair, missing in zip(pairs, short, strict=True) if missing <= 0}


def free_cores(group: HardwareGroup) -> int:
    """Return the physical cores of one socket left to a replica; 0 for accelerators."""
    if group.device.kind is not DeviceKind.CPU:
        return 0
    return max(1, int(group.device.compute_units * group.compute_share))


def memory_shortage(memory: MemoryUse, context_tokens: int) -> Floats:
    """Return the share by which one sequence of ``context_tokens`` exceeds the budget, or 0.

    Weights of 60 GB, activations and reserve of 10 GB and a cache of 20 GB for the sequence exceed
    a budget of 72 GB by 0.25.
    """
    fits = memory.fits & (memory.kv_capacity_tokens >= context_tokens)
    needed = (
        memory.weight_bytes
        + memory.activation_bytes
        + memory.reserved_bytes
        + context_tokens * memory.kv_bytes_per_token
    )
    # Rounding must not make a candidate fit that does not: the least excess is above 0.
    excess = needed / np.maximum(memory.budget_bytes, 1.0) - 1.0
    return np.where(fits, 0.0, np.maximum(excess, LEAST_VIOLATION))
