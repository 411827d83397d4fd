"""Workers of disaggregated deployments: ways to run one, tabulated, and those worth pairing.

What a prefill worker does depends on no decode worker, and the other way round. So each pool's
workers are predicted once, and only those that no other of the same pool beats are paired.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import product
from typing import Final

import numpy as np

from budsim.performance.candidates import Booleans, Candidates, Floats, Integers, rows_of
from budsim.performance.physics.memory import memory_use
from budsim.performance.physics.ranks import prepare
from budsim.performance.serving.found_prefixes import with_found_prefixes
from budsim.performance.serving.host_tier import FoundShares, found_shares
from budsim.performance.serving.pools.pool_times import (
    PrefillTimes,
    decode_places,
    prefill_times,
)
from budsim.performance.serving.pools.token_curves import TokenCurves, token_curves
from budsim.performance.serving.shared_store import store_tier, with_store
from budsim.simulator.planning.choices import PRECISIONS, Choices, ServingOption, with_burst_room
from budsim.simulator.planning.scoring import Scoring

# Workers of as many devices, of one pool, that are paired with those of the other pool.
KEPT_OF_A_SIZE: Final = 6
# Times between tokens, from the fastest worker's to the slowest's, at which decode workers are
# compared.
SPEEDS_COMPARED: Final = 12
# Stages of prefill workers that are tried; what a pipeline saves of a prompt's seconds at least is
# what it has to save of the cost to be shown (`taste.FILLER`).
PIPELINES: Final = frozenset({1, 2, 4, 8, 16})
LEAST_SAVED: Final = 0.05
# Steps that a prefill worker's cache holds: one that is read, and one that is handed over.
STEPS_HELD: Final = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class PrefillWorkers:
    """Ways to run a prefill worker, one row each; ``usd_per_h`` (n,) is the price of one."""

    choices: Choices
    table: Candidates
    times: PrefillTimes
    usd_per_h: Floats

    def __len__(self) -> int:
        """Return the number of ways."""
        return len(self.usd_per_h)

    def rows(self, rows: Integers) -> PrefillWorkers:
        """Return some of the rows."""
        return PrefillWorkers(
            choices=self.choices.rows(rows),
            table=rows_of(self.table, rows),
            times=self.times.rows(rows),
            usd_per_h=self.usd_per_h[rows],
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class DecodeWorkers:
    """Ways to run a decode worker, one row each.

    ``places`` (n,) are the sequences one holds at a time, ``curves`` the times between its tokens.
    """

    choices: Choices
    table: Candidates
    curves: TokenCurves
    places: Floats
    usd_per_h: Floats

    def __len__(self) -> int:
        """Return the number of ways."""
        return len(self.usd_per_h)

    def rows(self, rows: Integers) -> DecodeWorkers:
        """Return some of the rows."""
        curves = TokenCurves(loads=self.curves.loads, seconds=self.curves.seconds[rows])
        return DecodeWorkers(
            choices=self.choices.rows(rows),
            table=rows_of(self.table, rows),
            curves=curves,
            places=self.places[rows],
            usd_per_h=self.usd_per_h[rows],
        )


def prefill_workers(scoring: Scoring, number: int) -> PrefillWorkers:
    """Return the prefill workers of option ``number`` that no other one of their size beats.

    Each size of steps is compared by itself: slower prompts leave fewer sequences that decode. A
    pipeline has to read prompts faster than a worker of as many devices without one.
    """
    choices = prefill_ways(scoring, number)
    workers = tabulated_prefill(scoring, choices)
    costs = np.stack([workers.times.prompt_s, workers.times.lone_prompt_s], axis=1)
    kept = np.flatnonzero(_saves(choices, workers.times.prompt_s))
    groups = _sizes(choices.rows(kept), choices.max_num_batched_tokens[kept], choices.pp[kept])
    best = [kept[rows[_front(costs[kept[rows]])]] for rows in groups]
    return workers.rows(np.concatenate([np.zeros(0, dtype=np.int64), *best]))


def decode_workers(scoring: Scoring, number: int) -> DecodeWorkers:
    """Return the decode workers of option ``number`` that run most at some speed, of each size."""
    choices = worker_ways(scoring, number)
    workers = tabulated_decode(scoring, choices)
    best = [rows[_best_at_some_speed(workers.rows(rows))] for rows in _sizes(choices)]
    return workers.rows(np.concatenate([np.zeros(0, dtype=np.int64), *best]))


def prefill_ways(scoring: Scoring, number: int) -> Choices:
    """Return every layout of a prefill worker of option ``number`` that holds what it reads.

    A step's prompts are in the cache while they are read, and stay until they are handed over,
    beside those of the next step. Steps of the engine's own size are read as far as they fit.
    """
    choices = worker_ways(scoring, number, prefill_pipelines(scoring, number))
    steps = choices.max_num_batched_tokens
    held = memory_use(prepare(scoring.linked_candidates(choices))).kv_capacity_tokens
    usual = steps == steps.min(initial=np.iinfo(np.int64).max)
    return choices.rows(np.flatnonzero(usual | (held >= STEPS_HELD * steps)))


def prefill_pipelines(scoring: Scoring, number: int) -> tuple[int, ...]:
    """Return the numbers of stages that prefill workers of option ``number`` may have."""
    if why_no_pipelines(scoring, number):
        return (1,)
    return tuple(pp for pp in scoring.options[number].pp if pp in PIPELINES)


def why_no_pipelines(scoring: Scoring, number: int) -> str:
    """Return why prefill workers of option ``number`` are no pipelines, or nothing."""
    question, option = scoring.question, scoring.options[number]
    besides = {
        "guessed tokens": bool(question.speculations),
        "images, video and audio": bool(question.traffic.media),
        "KV cache in host memory": option.host_bytes > 0 or option.store is not None,
    }
    for what, asked in besides.items():
        if asked:
            return f"pipelines of prefill workers beside {what} are not modelled"
    device = option.group.device
    return option.engine.why_no_prefill_pipelines(question.architecture, device) or ""


def worker_ways(scoring: Scoring, number: int, pipelines: tuple[int, ...] = (1,)) -> Choices:
    """Return every layout of a worker of option ``number`` that holds the longest sequence.

    Each is told to run as many sequences as leave room for that one, no more than one worker of all
    requests needs: they take memory from the cache.
    """
    limits, question = scoring.options[number].max_num_seqs, scoring.question
    if not question.traffic.is_open:
        most = with_burst_room(np.array(question.concurrency))
        limits = limits[: int(np.searchsorted(limits, most)) + 1]
    least = _ways(scoring, number, limits[0], pipelines)
    left = np.flatnonzero(_fits(scoring, least))
    found = least.rows(left[:0])
    for limit in limits[::-1]:
        ways = _ways(scoring, number, limit, pipelines).rows(left)
        fits = _fits(scoring, ways)
        found, left = found.followed_by(ways.rows(np.flatnonzero(fits))), left[~fits]
        if not len(left):
            break
    return found


def tabulated_prefill(
    scoring: Scoring, choices: Choices, *, further_tiers: bool = True
) -> PrefillWorkers:
    """Return prefill workers with their times: they read prompts and guess nothing.

    Without ``further_tiers`` their caches are those of their devices alone. A shared store is read
    where a worker then takes less time for each prompt.
    """
    linked = scoring.linked_candidates(choices)
    plain = replace(linked, speculations=(), speculation=None)
    if not further_tiers:
        plain = replace(plain, tier_bytes=None, store_bytes=None)
    table, times = _read_prompts(plain)
    if plain.store_bytes is not None and plain.store_bytes.any():
        _, without = _read_prompts(replace(plain, store_bytes=None))
        gains = times.prompt_s < without.prompt_s
        kept = replace(plain, store_bytes=np.where(gains, plain.store_bytes, 0.0))
        table, times = _read_prompts(kept)
    return PrefillWorkers(
        choices=choices,
        table=table,
        times=times,
        usd_per_h=scoring.usd_per_h(choices, choices.replica_devices),
    )


def _read_prompts(table: Candidates) -> tuple[Candidates, PrefillTimes]:
    """Return prefill workers with the prefixes they find, and the times of their prompts."""
    table, waited_s, busy_s = _with_held_prefixes(table)
    return table, prefill_times(table).loading(waited_s, busy_s)


def prefixes_held(table: Candidates) -> FoundShares:
    """Return where the prefixes of prompts are found on prefill workers, (n,)."""
    reading = _reading(table)
    memory = memory_use(prepare(reading))
    return with_store(reading, found_shares(reading, memory), store_tier(reading, memory))


def _with_held_prefixes(table: Candidates) -> tuple[Candidates, Floats, Floats]:
    """Return prefill workers with the prefixes they still hold.

    With seconds that loads from the host add to a prompt: of its own, and of its worker.
    """
    reading = _reading(table)
    ranks = prepare(reading)
    found, waited_s, busy_s = with_found_prefixes(ranks, memory_use(ranks))
    return replace(table, prefix_hit_share=found.candidates.prefix_hit_share), waited_s, busy_s


def _reading(table: Candidates) -> Candidates:
    """Return prefill workers that run the prompts of one step, or of one a stage of a pipeline.

    They hand their caches on.
    """
    at_once = np.maximum(np.floor(table.token_budget / table.input_tokens), 1.0) * table.dp
    running = np.minimum(at_once * table.pp, np.maximum(table.concurrency, 1.0))
    return replace(table, concurrency=running, output_tokens=np.zeros(len(table)))


def tabulated_decode(scoring: Scoring, choices: Choices) -> DecodeWorkers:
    """Return decode workers with the times between their tokens, up to the places they have."""
    table = replace(scoring.linked_candidates(choices), tier_bytes=None, store_bytes=None)
    places = decode_places(table)
    return DecodeWorkers(
        choices=choices,
        table=table,
        curves=token_curves(table, float(places.max(initial=1.0))),
        places=places,
        usd_per_h=scoring.usd_per_h(choices, choices.replica_devices),
    )


def _ways(scoring: Scoring, number: int, max_num_seqs: int, pipelines: tuple[int, ...]) -> Choices:
    """Return one worker of every layout and format of an option; pipelines have no other ranks."""
    option = scoring.options[number]
    # Somebody else may start the engines with as many sequences as there are requests.
    running = min(max_num_seqs, scoring.question.concurrency)
    rows = [
        (tp, pp, ep, dp, PRECISIONS.index(weights), PRECISIONS.index(kv), budget)
        for tp, pp in product(option.tp, pipelines)
        if option.group.capacity(tp, pp)
        for ep, dp in _spreads(scoring, option, tp)
        if pp == 1 or dp == 1
        for weights, kv in product(option.weights, option.kv)
        for budget in _budgets(scoring, option, pp)
    ]
    tp, pp, ep, dp, weights, kv, budget = np.array(rows, dtype=np.int64).reshape(-1, 7).T
    ones = np.ones(len(rows), dtype=np.int64)
    return Choices(
        option=ones * number,
        tp=tp,
        pp=pp,
        ep=ep,
        dp=dp,
        weights=weights,
        kv=kv,
        max_num_seqs=ones * max_num_seqs,
        max_num_batched_tokens=np.maximum(budget, running),
        memory_fraction=np.full(len(rows), option.memory_fraction[0]),
        replicas=ones,
        concurrency=ones * scoring.question.concurrency,
    )


def _spreads(scoring: Scoring, option: ServingOption, tp: int) -> list[tuple[int, int]]:
    """Return the legal spreads of experts and attention ranks of ``tp`` devices."""
    experts = option.engine.ep_sizes(scoring.question.architecture, tp)
    least = option.least_attention_ranks(tp)
    ranks = [dp for dp in option.attention_ranks(tp) if dp >= least]
    # Over a network experts are spread: see `SearchSpace`.
    return [(ep, dp) for ep, dp in product(experts, ranks) if ep > 1 or least == 1]


def _budgets(scoring: Scoring, option: ServingOption, pp: int) -> tuple[int, ...]:
    """Return the token budgets tried: the engine's own, and the largest.

    A pipeline also cuts a prompt so that each stage has a part of it, or half of one.
    """
    usual = option.default_limits[0]
    values = option.max_num_batched_tokens
    nearest = min(values, key=lambda value: abs(value - usual))
    found = {nearest, values[-1]}
    if pp > 1:
        prompt = scoring.question.traffic.input_tokens
        wanted = (prompt / pp, prompt / pp / 2.0)
        found |= {min(v for v in values if v >= least or v == values[-1]) for least in wanted}
    return tuple(sorted(found))


def _fits(scoring: Scoring, choices: Choices) -> Booleans:
    memory = memory_use(prepare(scoring.linked_candidates(choices)))
    return np.asarray(scoring.violation(choices, memory) <= 0)


def _sizes(choices: Choices, *more: Integers) -> list[Integers]:
    """Return the rows of each format, size and width of attention, told apart by ``more``, too.

    Both pools must have the same formats, and some models' attention as wide. A larger worker is
    cheaper per token and leaves fewer devices for the other pool: both are paired.
    """
    keys = (choices.weights, choices.kv, choices.tp, choices.tp // choices.dp, *more)
    groups, of_row = np.unique(np.stack(keys, axis=1), axis=0, return_inverse=True)
    return [np.flatnonzero(of_row.ravel() == group) for group in range(len(groups))]


def _saves(choices: Choices, prompt_s: Floats) -> Booleans:
    """Return which rows are no pipelines, or read prompts faster by `LEAST_SAVED` at least.

    Than every worker of as many devices and of the same format that is none.
    """
    keys = (choices.weights, choices.kv, choices.replica_devices)
    _, size = np.unique(np.stack(keys, axis=1), axis=0, return_inverse=True)
    plain = np.full(size.max(initial=0) + 1, np.inf)
    np.minimum.at(plain, size.ravel(), np.where(choices.pp == 1, prompt_s, np.inf))
    return np.asarray((choices.pp == 1) | (prompt_s * (1.0 + LEAST_SAVED) < plain[size.ravel()]))


def _front(costs: Floats) -> Integers:
    """Return the rows (n,) that no other row beats in every column, the cheapest first."""
    order = np.lexsort(costs.T[::-1])
    kept: list[int] = []
    for row in order.tolist():
        if not _is_beaten(costs[row], costs[kept]):
            kept.append(row)
    return np.array(kept[:KEPT_OF_A_SIZE], dtype=np.int64)


def _is_beaten(row: Floats, others: Floats) -> bool:
    return bool((others <= row).all(axis=1).any())


def _best_at_some_speed(workers: DecodeWorkers) -> Integers:
    """Return the workers, all of one size, that run the most sequences at some speed.

    A worker's load at a speed is the most sequences whose tokens come no slower, within its places.
    """
    loads, seconds = workers.curves.loads, workers.curves.seconds
    held = np.minimum(loads, workers.places[:, None])
    kept = [
        int(np.argmax(np.where(seconds <= token_s * (1.0 + 1e-9), held, 0.0).max(axis=1)))
        for token_s in np.geomspace(seconds.min(), seconds.max(), SPEEDS_COMPARED)
    ]
    return np.array(list(dict.fromkeys(kept))[:KEPT_OF_A_SIZE], dtype=np.int64)
