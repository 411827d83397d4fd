"""Times of one worker of each pool: prefill of a prompt, its transfer, and a decode step."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import numpy as np

from budsim.performance.candidates import Candidates, Floats, Integers
from budsim.performance.physics.memory import memory_use
from budsim.performance.physics.operators import StepTime, step_time, with_prompts
from budsim.performance.physics.ranks import Ranks, attention_ranks, prepare

# Share of a network's data sheet bandwidth that transfers of caches reach. Mooncake's README states
# 87 GB/s of 4 x 200 Gbit/s (0.87) and 190 of 8 x 400 (0.48); chosen between both by us.
TRANSFER_EFFICIENCY = 0.7

# Router, handshake between workers and the stream's way through both: fitted by hand to the TTFT of
# lone requests in InferenceX, which is 50 to 90 ms longer than prefill and transfer.
HANDSHAKE_S = 60e-3

# A prompt of a batch takes at least this share of its part of a full step.
LEAST_OF_PROMPT = 0.2

# A link is never said to be busier than this: a closed loop's queue is finite.
BUSIEST_LINK = 0.95


@dataclass(frozen=True, slots=True, kw_only=True)
class Pools:
    """Disaggregated deployments, one a row.

    Attributes
    ----------
    prefill, decode : Candidates
        One worker of each pool; same traffic columns. ``concurrency`` is one worker's share.
    prefill_workers, decode_workers : float arrays, shape (n,)
        Workers of each pool.
    concurrency : float array, shape (n,)
        Requests in flight in the whole deployment.
    link_bytes_per_s : float array, shape (n,), or None
        Between one device of each pool; None: the network that joins their nodes.
    most_decoding : float array, shape (n,), or None
        Sequences that all decode workers are told to run at most, which their caches then hold; inf
        where nothing is known; None: of no row.
    """

    prefill: Candidates
    decode: Candidates
    prefill_workers: Floats
    decode_workers: Floats
    concurrency: Floats
    link_bytes_per_s: Floats | None = None
    most_decoding: Floats | None = None

    def __len__(self) -> int:
        """Return the number of deployments."""
        return len(self.concurrency)


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolTimes:
    """What one worker of each pool takes and holds; arrays of shape (n,).

    Attributes
    ----------
    prompt_s : float array
        Seconds of a prefill worker for each prompt when it has many.
    lone_prompt_s : float array
        Seconds until the first token of a prompt that comes to an idle worker, host included.
    transfer_s : float array
        Seconds to move the cache of a prompt to a decode worker, alone on the link.
    link_share : float array
        Seconds the links of the smaller pool are busy with one prompt.
    places : float array
        Sequences the caches of all decode workers hold at a time.
    batches : PrefillBatches
        What a prefill worker reads at once.
    """

    prompt_s: Floats
    lone_prompt_s: Floats
    transfer_s: Floats
    link_share: Floats
    places: Floats
    batches: PrefillBatches

    def transfer_at(self, rate: Floats) -> Floats:
        """Return seconds that a cache takes while so many prompts come per second, (n,).

        Transfers share the links of the smaller pool, as jobs share a processor: on links that are
        busy for half of the time each takes twice as long.
        """
        busy = np.minimum(rate * self.link_share, BUSIEST_LINK)
        return np.asarray(HANDSHAKE_S + (self.transfer_s - HANDSHAKE_S) / (1.0 - busy))


@dataclass(frozen=True, slots=True, kw_only=True)
class PrefillTimes:
    """Prefill workers by themselves; arrays of shape (n,).

    Attributes
    ----------
    prompt_s, lone_prompt_s : float arrays
        See `PoolTimes`.
    cache_bytes : float array
        KV cache of one prompt on all ranks that hold a part of it.
    batches : PrefillBatches
        What a worker reads at once.
    """

    prompt_s: Floats
    lone_prompt_s: Floats
    cache_bytes: Floats
    batches: PrefillBatches

    def loading(self, own_s: Floats, worker_s: Floats) -> PrefillTimes:
        """Return the times where each prompt loads a prefix, seconds: its own, and its worker's."""
        return replace(
            self,
            prompt_s=self.prompt_s + worker_s,
            lone_prompt_s=self.lone_prompt_s + own_s,
            batches=replace(
                self.batches,
                batch_s=self.batches.batch_s + own_s - worker_s,
                each_s=self.batches.each_s + worker_s,
            ),
        )

    def rows(self, rows: Integers) -> PrefillTimes:
        """Return some of the rows."""
        return replace(
            self,
            prompt_s=self.prompt_s[rows],
            lone_prompt_s=self.lone_prompt_s[rows],
            cache_bytes=self.cache_bytes[rows],
            batches=self.batches.rows(rows),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class PrefillBatches:
    """How long a prefill worker takes for what it reads at once; arrays of shape (n,).

    Attributes
    ----------
    batch_s, each_s : float arrays
        Seconds of a batch, and of each of its prompts of mean length.
    most : float array
        Prompts of one batch at most: those that fit into a step, on all attention ranks.
    further : float array
        What a batch takes beyond those seconds to pass the further stages of a pipeline, over what
        it takes; the next one is read meanwhile. 0 without a pipeline.
    """

    batch_s: Floats
    each_s: Floats
    most: Floats
    further: Floats

    def rows(self, rows: Integers) -> PrefillBatches:
        """Return some of the rows."""
        return PrefillBatches(
            batch_s=self.batch_s[rows],
            each_s=self.each_s[rows],
            most=self.most[rows],
            further=self.further[rows],
        )


def pool_times(pools: Pools) -> PoolTimes:
    """Return the times of one worker of each pool, shape (n,)."""
    workers = prefill_times(pools.prefill)
    places = decode_places(pools.decode) * pools.decode_workers
    if pools.most_decoding is not None:
        told = pools.most_decoding
        places = np.where(np.isfinite(told), told, places)
    return joined_times(pools, workers, places)


def joined_times(pools: Pools, workers: PrefillTimes, places: Floats) -> PoolTimes:
    """Return the times of pools whose workers are known; ``places`` (n,) of all decode workers."""
    transfer = transfer_time(pools, workers.cache_bytes)
    smaller = np.minimum(pools.prefill_workers, pools.decode_workers)
    return PoolTimes(
        prompt_s=workers.prompt_s,
        lone_prompt_s=workers.lone_prompt_s,
        transfer_s=HANDSHAKE_S + transfer,
        link_share=transfer / smaller,
        places=places,
        batches=workers.batches,
    )


def prefill_times(workers: Candidates) -> PrefillTimes:
    """Return what one prefill worker of each row takes, and what it has to send."""
    ranks = prepare(workers)
    prompt, lone = _prompt_times(ranks)
    cached = ranks.attention.cached_bytes_per_token
    seen = np.minimum(workers.input_tokens[:, None], ranks.attention.window)
    each = (cached * seen).sum(axis=1) + ranks.attention.state_bytes
    whole = np.asarray(each * attention_ranks(workers), dtype=np.float64)
    return PrefillTimes(
        prompt_s=prompt, lone_prompt_s=lone, cache_bytes=whole, batches=_batches(ranks, lone)
    )


def _prompt_times(ranks: Ranks) -> tuple[Floats, Floats]:
    """Return seconds a prompt takes of a busy worker, and those of a lone one, (n,).

    A busy worker fills its step with whole prompts, one at least on each attention rank. A lone
    prompt is on one rank, whose attention nobody shares. A pipeline reads as many steps at a time
    as it has stages, and a lone prompt in parts that follow each other through it.
    """
    table, stage = ranks.candidates, _stage_share(ranks)
    prompt = _fresh_tokens(table)
    whole = _prompts_of_a_step(table) * table.dp
    waiting = np.maximum(table.concurrency / table.pp, 1.0)
    together = np.asarray(np.minimum(whole, waiting), dtype=np.float64)
    full = _reading_s(ranks, together * prompt) * stage
    alone, spread = _reading_s(ranks, prompt), _reading_s(ranks, prompt * table.dp)
    arrival = ranks.host.request_s + ranks.constants.token_latency_s * table.input_tokens
    through = stage * (1.0 + _further_stages(table))
    return full / together, (alone + spread) / 2.0 * through + arrival


def _fresh_tokens(table: Candidates) -> Floats:
    """Return the prompt tokens that no cache holds, at least one."""
    prompt = np.maximum(table.input_tokens * (1.0 - table.prefix_hit_share), 1.0)
    return np.asarray(prompt, dtype=np.float64)


def _stage_share(ranks: Ranks) -> Floats:
    """Return the part of a step that the longest stage of a pipeline takes: 14 of 40 layers."""
    layers = np.maximum(ranks.layers.all, 1.0)
    return np.asarray(np.ceil(layers / ranks.candidates.pp) / layers, dtype=np.float64)


def _parts(table: Candidates) -> Floats:
    """Return in how many steps a pipeline reads a prompt that is longer than one; else 1."""
    parts = np.maximum(np.ceil(_fresh_tokens(table) / table.token_budget), 1.0)
    return np.where(table.pp > 1, parts, 1.0)


def _reading_s(ranks: Ranks, tokens: Floats) -> Floats:
    """Return seconds of the steps in which a worker reads so many prompt tokens, (n,)."""
    parts = _parts(ranks.candidates)
    step = prefill_step(ranks, np.asarray(tokens / parts, dtype=np.float64))
    return np.asarray(parts * step.total_s, dtype=np.float64)


def _further_stages(table: Candidates) -> Floats:
    """Return over how many stages' time a prompt leaves a pipeline after its worker has read it.

    Its parts, one a step, follow each other: only the last of three passes the stages alone.
    """
    return np.asarray((table.pp - 1.0) / _parts(table), dtype=np.float64)


def _batches(ranks: Ranks, lone_s: Floats) -> PrefillBatches:
    """Return seconds of a batch and of each of its prompts, from a full step and a lone prompt.

    A lone prompt takes ``lone_s`` (n,). 4 prompts in 100 ms and one in 40 ms: 20 ms a batch and
    20 ms a prompt.
    """
    table, prompt = ranks.candidates, _fresh_tokens(ranks.candidates)
    most = np.asarray(_prompts_of_a_step(table) * table.dp, dtype=np.float64)
    further = _further_stages(table)
    lone = lone_s / (1.0 + further)
    full = _reading_s(ranks, most * prompt) * _stage_share(ranks)
    more = (full - lone) / np.maximum(most - 1.0, 1.0)
    each = np.clip(np.where(most > 1.0, more, full), LEAST_OF_PROMPT * full / most, lone)
    return PrefillBatches(
        batch_s=np.maximum(lone - each, 0.0), each_s=each, most=most, further=further
    )


def _prompts_of_a_step(workers: Candidates) -> Floats:
    """Return the whole prompts of one step on each attention rank, one at least, (n,)."""
    fitting = np.floor(workers.token_budget / _fresh_tokens(workers))
    return np.asarray(np.clip(fitting, 1.0, np.maximum(workers.max_num_seqs, 1.0)))


def prefill_step(ranks: Ranks, tokens: Floats) -> StepTime:
    """Return a step of so many prompt tokens (n,) alone, of the whole worker."""
    nothing = np.zeros_like(tokens)
    idle = StepTime(**{part.name: nothing for part in fields(StepTime)})
    table = ranks.candidates
    step = step_time(
        ranks,
        prefill=tokens,
        decode=nothing,
        prefill_context=table.input_tokens * (1.0 + table.prefix_hit_share) / 2.0,
        decode_context=nothing,
    )
    return with_prompts(ranks, idle, step)


def transfer_time(pools: Pools, cache_bytes: Floats) -> Floats:
    """Return seconds that the cache of one prompt takes from a prefill to a decode worker.

    All ranks that hold a part of the cache send it at once, each over its own network card, to as
    many ranks as the decode worker has. Prompt tokens x bytes a token / (ranks x bandwidth). The
    stages of a pipeline hold layers each, and send them at once, too.
    """
    senders = attention_ranks(pools.prefill) * pools.prefill.pp
    lanes = np.minimum(senders, attention_ranks(pools.decode))
    speed = pools.link_bytes_per_s
    if speed is None:
        speed = np.minimum(_network(pools.prefill), _network(pools.decode))
    return np.asarray(cache_bytes / (lanes * speed * TRANSFER_EFFICIENCY), dtype=np.float64)


def _network(table: Candidates) -> Floats:
    """Return bytes per second of one device's way to another worker."""
    return table.by_device([device.scale_out.bandwidth_bytes_per_s for device in table.devices])


def decode_places(workers: Candidates) -> Floats:
    """Return the sequences one decode worker of each row holds at a time, at least one."""
    memory = memory_use(prepare(workers))
    context = workers.input_tokens + workers.output_tokens / 2.0 + workers.draft_tokens
    cached = memory.kv_running_tokens / context
    # Weights that do not fit by the memory rule did fit when a row was measured: then nothing is
    # known of the cache.
    known = np.where(cached >= 1.0, cached, np.inf)
    held = np.minimum(known, workers.max_num_seqs * workers.dp)
    return np.asarray(np.maximum(held, 1.0), dtype=np.float64)


def token_time(decode: Ranks, running: Floats) -> Floats:
    """Return seconds between two tokens where each decode worker runs so many sequences, (n,)."""
    total = decode_step(decode, running).total_s
    return np.asarray(total / decode.candidates.tokens_per_step, dtype=np.float64)


def decode_step(decode: Ranks, running: Floats) -> StepTime:
    """Return the step of decode workers that run so many sequences each, (n,)."""
    table = decode.candidates
    nothing = np.zeros_like(running)
    return step_time(
        decode,
        prefill=nothing,
        decode=np.maximum(running, 1.0),
        prefill_context=nothing,
        decode_context=table.input_tokens + table.output_tokens / 2.0,
    )


def decode_ranks(workers: Candidates) -> Ranks:
    """Return one rank of each decode worker, for `token_time`."""
    return prepare(replace(workers, prefix_hit_share=np.zeros(len(workers))))
