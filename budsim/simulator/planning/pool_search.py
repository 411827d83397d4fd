"""Which prefill and decode workers to pair, and how many of each.

Pools are bounded first: a pair of worker types and a number of decode workers finish so many
requests per second at most, for which so many prefill workers are enough. Numbers near these are
tried, all at once in closed form. The product of all layouts is never enumerated.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from typing import Final

import numpy as np

from budsim.performance.candidates import Booleans, Floats, Integers
from budsim.performance.learned.pool_intervals import pool_predictions
from budsim.performance.physics.memory import memory_use
from budsim.performance.physics.ranks import prepare
from budsim.performance.predictions import MemoryUse, Predictions
from budsim.performance.serving.pools.closed_loops import replay_loops
from budsim.performance.serving.pools.pool_replay import replay_pools
from budsim.performance.serving.pools.pool_times import Pools, PoolTimes, joined_times
from budsim.performance.serving.pools.queues import PoolService, TokenTimes, steady_pools
from budsim.performance.serving.pools.rates import pools_at_rate
from budsim.performance.serving.replay import ReplayedService
from budsim.simulator.planning.chances import Judged, judge, only_stable
from budsim.simulator.planning.choices import Choices, replica_counts, with_burst_room
from budsim.simulator.planning.cost import pipeline_effort, usd_per_million_tokens
from budsim.simulator.planning.hardware_groups import HardwareGroup
from budsim.simulator.planning.placement import EqualReplicas
from budsim.simulator.planning.pool_workers import (
    DecodeWorkers,
    PrefillWorkers,
    tabulated_decode,
    tabulated_prefill,
)
from budsim.simulator.planning.question import Question
from budsim.simulator.planning.replays import ReplayedRows, figures_of_replay, limits_of
from budsim.simulator.planning.scoring import Scoring
from budsim.simulator.planning.targets import Figures, figures_of

# Load of the prefill workers, over what they carry, for which their number is tried. The load is of
# the most requests per second that the decode workers finish, so that above 1 fewer are finished,
# and prompts wait. A queue grows with the load, and idle workers cost money.
BUSY: Final = (1.6, 1.25, 0.95, 0.8, 0.6, 0.4, 0.2, 0.1)


# Numbers of decode workers tried where requests come at a rate.
MOST_COUNTS: Final = 24


@dataclass(frozen=True, slots=True, kw_only=True)
class PairedPools:
    """Disaggregated deployments, one a row: a worker of each pool, and how many there are.

    ``link_bytes_per_s`` is one device's way to a worker of the other pool.
    """

    prefill: PrefillWorkers
    decode: DecodeWorkers
    prefill_count: Integers
    decode_count: Integers
    link_bytes_per_s: float

    def __len__(self) -> int:
        """Return the number of deployments."""
        return len(self.prefill_count)

    def rows(self, rows: Integers) -> PairedPools:
        """Return some of the rows."""
        return replace(
            self,
            prefill=self.prefill.rows(rows),
            decode=self.decode.rows(rows),
            prefill_count=self.prefill_count[rows],
            decode_count=self.decode_count[rows],
        )

    @property
    def usd_per_h(self) -> Floats:
        """Return what all workers cost per hour, USD, (n,)."""
        prefill = self.prefill_count * self.prefill.usd_per_h
        return np.asarray(prefill + self.decode_count * self.decode.usd_per_h)

    @property
    def pool_devices(self) -> tuple[Integers, Integers]:
        """Return the devices of all prefill workers and of all decode workers, (n,) each."""
        prefill = self.prefill_count * self.prefill.choices.replica_devices
        return prefill, self.decode_count * self.decode.choices.replica_devices

    @property
    def devices(self) -> Integers:
        """Return the devices of all workers, (n,)."""
        prefill, decode = self.pool_devices
        return np.asarray(prefill + decode)

    def sets(self, row: int) -> list[EqualReplicas]:
        """Return the workers of both pools of a row as sets of equal replicas."""
        pools = (self.prefill.choices, self.prefill_count), (self.decode.choices, self.decode_count)
        return [
            EqualReplicas(tp=int(each.tp[row]), pp=int(each.pp[row]), replicas=int(count[row]))
            for each, count in pools
        ]

    def pools(self, concurrency: int) -> Pools:
        """Return the deployments as the performance model reads them."""
        rows = np.ones(len(self))
        return Pools(
            prefill=self.prefill.table,
            decode=self.decode.table,
            prefill_workers=self.prefill_count.astype(np.float64),
            decode_workers=self.decode_count.astype(np.float64),
            concurrency=rows * concurrency,
            link_bytes_per_s=rows * self.link_bytes_per_s,
        )

    def times(self, pools: Pools) -> PoolTimes:
        """Return the tabulated times of the workers, joined."""
        return joined_times(pools, self.prefill.times, self.decode.places * self.decode_count)

    def token_times(self) -> TokenTimes:
        """Return the tabulated times between tokens."""
        return self.decode.curves.of(np.arange(len(self)))


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgedPools:
    """Deployments, what they do, and how far that is within the targets; arrays of shape (n,).

    ``usd_per_million_tokens`` is their cost; ``replayed`` is what single requests see, where that
    was asked. Rows ``by_means`` alone, None for none of them, are ranked after all others.
    """

    paired: PairedPools
    pools: Pools
    served: PoolService
    predictions: Predictions
    judged: Judged
    usd_per_million_tokens: Floats
    replayed: ReplayedRows | None = None
    by_means: Booleans | None = None

    @property
    def figures(self) -> Figures:
        """What is compared with targets."""
        return self.replayed.figures if self.replayed else figures_of(self.predictions.service)

    def ranking(self) -> Integers:
        """Return the rows, least shortfall first, then cheapest, fewest devices and fastest.

        Pipelines count as plans of them do; see `cost.pipeline_effort`.
        """
        e2e = self.served.e2e_s(self.pools.decode.output_tokens)
        last = np.zeros(len(e2e), dtype=bool) if self.by_means is None else self.by_means
        effort = pipeline_effort(self.paired.prefill.choices.pp)
        cost, miss = effort * self.usd_per_million_tokens, effort * self.judged.shortfall
        keys = (e2e, self.paired.devices, cost, miss, last)
        return np.asarray(np.lexsort(keys))


def pair_workers(
    question: Question,
    prefill: PrefillWorkers,
    decode: DecodeWorkers,
    groups: tuple[HardwareGroup, HardwareGroup],
    link_bytes_per_s: float,
    *,
    same_ranks: bool = False,
) -> PairedPools:
    """Return deployments of every pair of workers of one format, with numbers worth a look.

    ``groups`` are the devices of the prefill and of the decode workers; they may be the same. With
    ``same_ranks`` attention is split over equally many devices in both pools.
    """
    at, counts = _decode_counts(question, decode, groups[1])
    rates = _largest_rates(question, decode.rows(at), counts)
    if question.traffic.is_open:
        carried = np.flatnonzero(rates > question.traffic.rate)
        at, counts = at[carried], counts[carried]
        rates = np.full(len(carried), question.traffic.rate)
    first, second = np.meshgrid(np.arange(len(prefill)), np.arange(len(at)), indexing="ij")
    pairs = np.stack([first.ravel(), second.ravel()], axis=1)
    both = prefill.choices.rows(pairs[:, 0]), decode.choices.rows(at[pairs[:, 1]])
    pairs = pairs[_alike(*both) & (not same_ranks or _equally_split(*both))]
    load = rates[pairs[:, 1]] * prefill.times.prompt_s[pairs[:, 0]]
    taken = counts[pairs[:, 1]] * decode.choices.replica_devices[at[pairs[:, 1]]]
    layouts = zip(prefill.choices.tp.tolist(), prefill.choices.pp.tolist(), strict=True)
    most = np.array([groups[0].capacity(tp, pp) for tp, pp in layouts], dtype=int)
    room = _left_devices(groups, taken) // prefill.choices.replica_devices[pairs[:, 0]]
    room = np.minimum(room, most[pairs[:, 0]])
    tried = [np.column_stack([pairs, each]) for each in _prefill_counts(question, load, room)]
    p, d, workers = np.unique(np.concatenate(tried), axis=0).T
    paired = PairedPools(
        prefill=prefill.rows(p),
        decode=decode.rows(at[d]),
        prefill_count=workers,
        decode_count=counts[d],
        link_bytes_per_s=link_bytes_per_s,
    )
    return paired.rows(np.flatnonzero(_have_room(paired, groups)))


def judge_pools(question: Question, paired: PairedPools) -> JudgedPools:
    """Predict means of deployments and compare them with targets on means."""
    pools = paired.pools(question.concurrency)
    known = (paired.times(pools), paired.token_times())
    if question.traffic.is_open:
        rates = np.full(len(paired), question.traffic.rate)
        served = pools_at_rate(pools, rates, *known)
        # Little's law: what comes in the time that one request takes.
        pools = replace(pools, concurrency=rates * served.e2e_s(pools.decode.output_tokens))
    else:
        served = steady_pools(pools, *known)
    predictions = pool_predictions(pools, served)
    service = predictions.service
    per_s = pools.concurrency / service.e2e_s * question.traffic.counted_tokens
    judged = judge(question.mean_targets, figures_of(service), predictions, question.chance)
    return JudgedPools(
        paired=paired,
        pools=pools,
        served=served,
        predictions=predictions,
        judged=judged,
        usd_per_million_tokens=np.asarray(usd_per_million_tokens(paired.usd_per_h, per_s)),
    )


def replayed_pools(question: Question, means: JudgedPools) -> JudgedPools:
    """Return deployments with what their requests see one by one; ask for few rows.

    Rows that do not carry the traffic miss without limit.
    """
    pools, paired = means.pools, means.paired
    served, seen = _replayed(question, means)
    replayed = ReplayedRows(served=served, figures=figures_of_replay(served))
    predictions = pool_predictions(pools, seen)
    judged = judge(question.targets, replayed.figures, predictions, question.chance)
    per_s = np.nan_to_num(served.requests_per_s) * question.traffic.counted_tokens
    cost = usd_per_million_tokens(paired.usd_per_h, per_s)
    return replace(
        means,
        served=seen,
        predictions=predictions,
        judged=only_stable(judged, replayed.stable),
        usd_per_million_tokens=np.asarray(cost),
        replayed=replayed,
    )


def with_replayed_rows(question: Question, means: JudgedPools, rows: Integers) -> JudgedPools:
    """Return deployments of which some rows are judged by what their requests see."""
    seen = replayed_pools(question, judge_pools(question, means.paired.rows(rows)))

    def put(old: Floats, new: Floats) -> Floats:
        changed = old.copy()
        changed[rows] = new
        return changed

    judged, cost = means.judged, means.usd_per_million_tokens
    by_means = np.ones(len(cost), dtype=bool)
    by_means[rows] = False
    return replace(
        means,
        judged=Judged(
            **{
                each.name: put(getattr(judged, each.name), getattr(seen.judged, each.name))
                for each in fields(Judged)
            }
        ),
        usd_per_million_tokens=put(cost, seen.usd_per_million_tokens),
        by_means=by_means,
    )


def _replayed(question: Question, means: JudgedPools) -> tuple[ReplayedService, PoolService]:
    """Return what single requests see, and means of it.

    What a request waits beyond prefill and transfer is a queue.
    """
    pools, paired, traffic = means.pools, means.paired, question.traffic
    times, limits = paired.times(pools), limits_of(question.targets)
    if traffic.is_open:
        alone = replace(times, transfer_s=means.served.transfer_s)
        curves = paired.decode.curves
        served = replay_pools(pools, alone, curves, traffic, limits=limits, seed=question.seed)
        known = means.served
    else:
        loops = replay_loops(
            pools, times, paired.token_times(), traffic, limits=limits, seed=question.seed
        )
        served, runs = loops.service, loops.runs
        known = replace(
            means.served,
            transfer_s=runs.transfer_s,
            running=runs.running,
            prefill_busy=runs.prefill_busy,
        )
    ttft, tpot = np.nan_to_num(served.ttft_s.mean), np.nan_to_num(served.tpot_s.mean)
    unqueued = known.prefill_s + known.transfer_s
    queue = np.maximum(ttft - unqueued - known.place_s, 0.0)
    return served, replace(known, ttft_s=ttft, tpot_s=tpot, queue_s=queue)


def as_launched(scoring: Scoring, paired: PairedPools, in_flight: Floats) -> PairedPools:
    """Return deployments with the numbers of workers and the limits they are launched with.

    A worker allows its share of the requests ``in_flight`` (n,), and room for bursts, as far as it
    starts with so many.
    """
    requests = np.ceil(in_flight).astype(np.int64)
    first, second = (
        _launched(scoring, workers.choices, count, requests)
        for workers, count in (
            (paired.prefill, paired.prefill_count),
            (paired.decode, paired.decode_count),
        )
    )
    return replace(
        paired,
        prefill=tabulated_prefill(scoring, first),
        decode=tabulated_decode(scoring, second),
    )


def memory_of_workers(paired: PairedPools) -> tuple[MemoryUse, MemoryUse]:
    """Return what prefill and decode workers hold: plans show it, and starts are judged by it.

    Workers of both pools are told the same drafter: it keeps a cache of prompts, too.
    """
    first, second = paired.prefill.table, paired.decode.table
    first = replace(first, speculations=second.speculations, speculation=second.speculation)
    return memory_use(prepare(first)), memory_use(prepare(second))


def starting(scoring: Scoring, paired: PairedPools) -> Booleans:
    """Return which deployments start: a worker of either pool holds the longest sequence."""
    choices = paired.prefill.choices, paired.decode.choices
    pools = zip(choices, memory_of_workers(paired), strict=True)
    excess = [scoring.violation(chosen, memory) for chosen, memory in pools]
    return np.asarray(np.maximum(*excess) <= 0)


def _launched(scoring: Scoring, choices: Choices, workers: Integers, requests: Integers) -> Choices:
    shared = replace(choices, replicas=workers, concurrency=-(-requests // workers))
    allowed = np.minimum(_roomy(scoring, shared), choices.max_num_seqs)
    return replace(shared, max_num_seqs=allowed)


def _roomy(scoring: Scoring, choices: Choices) -> Integers:
    """Return the least ``max_num_seqs`` with room for the requests of a rank and bursts."""
    wanted = with_burst_room(-(-choices.concurrency // choices.dp))
    lists = [scoring.options[option].max_num_seqs for option in choices.option.tolist()]
    return np.array(
        [
            next((value for value in values if value >= least), values[-1])
            for values, least in zip(lists, wanted.tolist(), strict=True)
        ],
        dtype=np.int64,
    )


def _decode_counts(
    question: Question, decode: DecodeWorkers, group: HardwareGroup
) -> tuple[Integers, Integers]:
    """Return numbers of workers to try of each row: places in ``decode``, and the numbers."""
    pairs = [
        (row, count)
        for row, tp in enumerate(decode.choices.tp.tolist())
        for count in _counts(question, group.capacity(tp, 1))
    ]
    at, counts = np.array(pairs, dtype=np.int64).reshape(-1, 2).T
    return at, counts


def _counts(question: Question, capacity: int) -> list[int]:
    """Return the numbers of workers to try; at a rate each of them, or evenly spread ones."""
    if not question.traffic.is_open:
        return replica_counts(question.concurrency, capacity)
    if capacity <= MOST_COUNTS:
        return list(range(1, capacity + 1))
    spread = np.geomspace(1, capacity, MOST_COUNTS).round()
    return [int(count) for count in np.unique(spread)]


def _left_devices(groups: tuple[HardwareGroup, HardwareGroup], taken: Integers) -> Integers:
    """Return the devices for prefill workers beside decode workers on ``taken`` devices, (n,)."""
    prefill, decode = groups
    return np.asarray(prefill.devices - (taken if prefill is decode else np.zeros_like(taken)))


def _prefill_counts(question: Question, load: Floats, room: Integers) -> Iterator[Integers]:
    """Yield numbers of prefill workers to try, (n,), where ``load`` (n,) keep as many busy.

    Clients of a closed loop wait for each other: fewer workers than the load needs are tried where
    there is ``room`` (n,) for no more. A rate has to be carried.
    """
    for busy in BUSY:
        count = np.maximum(np.ceil(load / busy), 1.0).astype(np.int64)
        if not question.traffic.is_open:
            yield np.maximum(np.minimum(count, room), 1)
        elif busy < 1.0:
            yield np.where(room > load, np.minimum(count, np.maximum(room, 1)), count)


def _largest_rates(question: Question, decode: DecodeWorkers, counts: Integers) -> Floats:
    """Return requests per second that decode workers finish at most, (n,).

    As many decode as are in flight, or as have a place: 64 that take 4 s each are 16 a second. At a
    rate more may be in flight than targets allow, which are missed then.
    """
    running = decode.places * counts
    if not question.traffic.is_open:
        running = np.minimum(question.concurrency, running)
    tpot = decode.curves.of(np.arange(len(counts)))(running / counts)
    further = max(question.traffic.output_tokens - 1.0, 1.0)
    return np.asarray(running / (further * tpot))


def _alike(prefill: Choices, decode: Choices) -> Booleans:
    """Return which rows have the same formats: a cache is handed over as it is."""
    return np.asarray((prefill.weights == decode.weights) & (prefill.kv == decode.kv))


def _equally_split(prefill: Choices, decode: Choices) -> Booleans:
    """Return which rows have as many devices in each attention rank."""
    return np.asarray(prefill.tp // prefill.dp == decode.tp // decode.dp)


def _have_room(paired: PairedPools, groups: tuple[HardwareGroup, HardwareGroup]) -> Booleans:
    """Return which rows have no more workers than there are devices."""
    prefill, decode = paired.pool_devices
    if groups[0] is groups[1]:
        return np.asarray(prefill + decode <= groups[0].devices)
    return np.asarray((prefill <= groups[0].devices) & (decode <= groups[1].devices))
