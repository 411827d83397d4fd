"""One run of the kernel: arrays in, the times of every request out."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from budsim.commons.errors import Unavailable
from budsim.performance.candidates import Floats
from budsim.performance.serving.arrivals import (
    ALWAYS_CACHED,
    Requests,
    rows_of_column,
    without_prefixes,
)
from budsim.performance.serving.replay import native
from budsim.performance.serving.replay.scheduling import Host, Router, Schedulers
from budsim.performance.serving.replay.step_tables import CONTEXTS, TOKENS, PartTables, StepTables
from budsim.performance.serving.steady_state import IMBALANCE


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """Times of each request of a run, seconds; arrays of shape (n,) but for the timeline.

    ``gap_counts`` and ``gap_sums_s`` are a histogram of the gaps between tokens: bins 3 % wide,
    with the number and the sum of the gaps in each. ``time_s``, ``running``, ``waiting`` and
    ``cached_tokens`` are the timeline, sampled evenly.
    """

    send_s: Floats
    admitted_s: Floats
    first_s: Floats
    done_s: Floats
    output_tokens: Floats
    measured: slice
    busy_s: float
    end_s: float
    steps: int
    preemptions: int
    loaded_tokens: float
    peak_waiting: float
    peak_cached_tokens: float
    gap_counts: Floats
    gap_sums_s: Floats
    time_s: Floats
    running: Floats
    waiting: Floats
    cached_tokens: Floats


@dataclass(frozen=True, slots=True, kw_only=True)
class Replica:
    """What serves a run: one row of the tables, and what its host and factors are.

    Replicas of one table with the same number ``alike`` serve the same requests alike.
    """

    tables: StepTables
    schedulers: Schedulers
    row: int
    host: Host
    router: Router
    prefill_factor: float = 1.0
    decode_factor: float = 1.0
    imbalance: float = IMBALANCE
    alike: int = 0

    @property
    def cache_tokens(self) -> float:
        """Tokens that the caches of all ranks and lanes hold."""
        return float(self.spread * self.schedulers.cache_tokens[self.row])

    @property
    def cache_tokens_of_request(self) -> float:
        """Tokens of cache the longest request may take: one rank's, of all lanes."""
        return float(self.schedulers.lanes[self.row] * self.schedulers.cache_tokens[self.row])

    def places(self, context_tokens: float) -> float:
        """Return how many requests of that mean length can run at a time, at least 1."""
        sequences = self.spread * self.schedulers.max_sequences[self.row]
        return float(max(min(sequences, self.cache_tokens / context_tokens), 1.0))

    @property
    def spread(self) -> int:
        """Attention ranks of all lanes, each with a cache of its own."""
        return int(self.schedulers.ranks[self.row] * self.schedulers.lanes[self.row])


def run(replica: Replica, requests: Requests) -> list[Run]:
    """Serve the requests, one run for each lane of the replica's pipeline that has any.

    A lane is a batch of its own that follows the others through the pipeline; requests take turns
    over the lanes.

    Raises
    ------
    Unavailable
        When the kernel is not compiled and cannot be, or memory is short.
    """
    if not replica.schedulers.keeps_prefixes[replica.row]:
        requests = without_prefixes(requests)
    lanes = int(replica.schedulers.lanes[replica.row])
    # A closed loop cannot fill more lanes than it has clients.
    if requests.concurrency:
        lanes = min(lanes, requests.concurrency)
    lanes = min(lanes, len(requests))
    return [_run(replica, _lane(requests, lane, lanes)) for lane in range(lanes)]


def _lane(requests: Requests, lane: int, lanes: int) -> Requests:
    """Return every ``lanes``-th request; what another lane computed is shared with it too."""
    if lanes == 1:
        return requests
    kept = slice(lane, None, lanes)
    source = requests.reused_from[kept]
    same = (source % lanes == lane) | (source < 0)
    return replace(
        requests,
        send_s=requests.send_s[kept],
        prompt_tokens=requests.prompt_tokens[kept],
        output_tokens=requests.output_tokens[kept],
        reused_from=np.where(source < 0, source, np.where(same, source // lanes, ALWAYS_CACHED)),
        reused_tokens=requests.reused_tokens[kept],
        reuse_distance=rows_of_column(requests.reuse_distance, kept),
        far_tokens=rows_of_column(requests.far_tokens, kept),
        far_distance=rows_of_column(requests.far_distance, kept),
        # Rounded up: the first lanes take the clients that do not divide evenly.
        concurrency=-(-(requests.concurrency - lane) // lanes),
        measured_from=-(-max(requests.measured_from - lane, 0) // lanes),
        measured_to=-(-max(requests.measured_to - lane, 0) // lanes),
    )


def _or_zeros(column: Floats | None, count: int) -> Floats:
    return np.zeros(count) if column is None else column


def _run(replica: Replica, requests: Requests) -> Run:
    count = len(requests)
    times = np.zeros((3, count))
    # Copied, because the kernel writes the send times of a closed loop into it.
    send = np.ascontiguousarray(requests.send_s, dtype=np.float64).copy()
    inputs = [
        np.ascontiguousarray(column, dtype=np.float64)
        for column in (
            requests.prompt_tokens,
            requests.output_tokens,
            requests.reused_tokens,
            _or_zeros(requests.reuse_distance, count),
            _or_zeros(requests.far_tokens, count),
            _or_zeros(requests.far_distance, count),
        )
    ]
    source = np.ascontiguousarray(requests.reused_from, dtype=np.int64)
    record = native.Record()
    status = native.kernel()(
        _tables(replica.tables, replica.row),
        _setting(replica, requests.first_wave_s),
        native.Requests(
            count,
            requests.concurrency,
            requests.measured_from,
            requests.measured_to,
            *(column.ctypes.data for column in (*inputs, source, send, *times)),
        ),
        record,
    )
    if status:
        raise Unavailable("replay: out of memory" if status == 1 else "replay: no progress")
    samples = record.samples
    return Run(
        send_s=send,
        admitted_s=times[0],
        first_s=times[1],
        done_s=times[2],
        output_tokens=inputs[1],
        measured=slice(requests.measured_from, requests.measured_to),
        busy_s=record.busy_s,
        end_s=record.end_s,
        steps=record.steps,
        preemptions=record.preemptions,
        loaded_tokens=record.loaded_tokens,
        peak_waiting=record.peak_waiting,
        peak_cached_tokens=record.peak_cached,
        gap_counts=np.array(record.gaps),
        gap_sums_s=np.array(record.gap_seconds),
        time_s=np.array(record.time[:samples]),
        running=np.array(record.running[:samples]),
        waiting=np.array(record.waiting[:samples]),
        cached_tokens=np.array(record.cached[:samples]),
    )


def _tables(tables: StepTables, row: int) -> native.Tables:
    def addresses(part: PartTables) -> native.Part:
        """Return the memory addresses of this row in each column of a part."""
        columns = (getattr(part, name) for name in native.PART_COLUMNS)
        return native.Part(*(column[row].ctypes.data for column in columns))

    return native.Tables(
        addresses(tables.rest),
        addresses(tables.traffic),
        tables.overlap[row],
        tables.multiplies_cache[row],
        tables.multiplies_step[row],
        len(TOKENS) - 1,
        len(CONTEXTS) - 1,
    )


def _setting(replica: Replica, first_wave_s: float) -> native.Setting:
    table, row, host = replica.schedulers, replica.row, replica.host
    # The replay's steps are tokens; a newcomer waits for whole steps of the engine.
    pace = float(replica.tables.tokens_per_step[row])
    return native.Setting(
        kind=table.kind[row],
        router=replica.router,
        ranks=table.ranks[row],
        whole_prompts=int(table.whole_prompts[row]),
        reserve_output=int(table.reserves_output[row]),
        both_ways=int(table.looks_both_ways[row]),
        loads_overlap=int(table.loads_overlap[row]),
        sharing=table.sharing[row],
        token_budget=table.token_budget[row],
        max_sequences=table.max_sequences[row],
        cache_tokens=table.cache_tokens[row],
        block_tokens=table.block_tokens[row],
        lag_steps=host.lag_steps * pace,
        receive_steps=table.receive_steps[row] * pace,
        imbalance=replica.imbalance,
        request_s=host.request_s,
        burst_s=host.burst_s,
        token_s=host.token_s,
        reply_s=host.reply_s,
        first_wave_s=first_wave_s,
        prefill_factor=replica.prefill_factor * replica.tables.prompt_factor[row],
        decode_factor=replica.decode_factor,
        step_floor_s=replica.tables.step_floor_s[row],
        prompt_step_floor_s=replica.tables.prompt_step_floor_s[row],
        tier_tokens=table.tier_tokens[row],
        tier_token_s=table.tier_token_s[row],
        store_tokens=table.store_tokens[row],
        store_rank_tokens=table.store_tokens[row] / replica.spread,
        store_token_s=table.store_token_s[row],
    )
