"""Continuous batching in its steady state: from step times to TTFT and TPOT of a closed loop.

``concurrency`` requests are always in flight. While a request decodes its output, every other one's prompt passes through
the same steps, so for each decoded token of ``running`` sequences ``running x input / output`` prompt tokens are prefilled; a
request's own prompt is over by then and does not slow its tokens.
A newcomer waits for the step under way, for prompts before it, and, when the cache or ``max_num_seqs`` is full, for a place.
Pooling models generate nothing: every step is full of prompts, and what waits is what a step does not hold.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import numpy as np

from budsim.engine_ops.base import Attended, Batching, EngineProfile
from budsim.performance.candidates import Floats
from budsim.performance.physics.operators import Ranks, StepTime, step_time
from budsim.performance.predictions import MemoryUse


@dataclass(frozen=True, slots=True, kw_only=True)
class Modelled:
    """The analytic model's answer and the terms it was made of; arrays of shape (n,), seconds unless named otherwise.

    ``running`` sequences decode at a time (of the whole replica); ``chunk`` prompt tokens go into one step; ``prefill_share``
    is the share of steps that carry prompt tokens.
    """

    ttft_s: Floats
    tpot_s: Floats
    burst_s: Floats
    queue_s: Floats
    service_s: Floats
    solo_prefill_s: Floats
    solo_decode_s: Floats
    running: Floats
    chunk: Floats
    prefill_share: Floats
    decode: StepTime
    mixed: StepTime


@dataclass(frozen=True, slots=True)
class _Load:
    """Traffic of one of ``pp`` micro-batches that follow each other through the pipeline."""

    concurrency: Floats
    places: Floats
    prompt: Floats
    output: Floats
    budget: Floats
    context: Floats


def steady_state(ranks: Ranks, memory: MemoryUse) -> Modelled:
    """Return the modelled service of each candidate."""
    load = _load(ranks, memory)
    prefill_first = ranks.candidates.by_engine(
        [float(e.batching is Batching.PREFILL_FIRST) for e in ranks.candidates.engines]
    )
    arrival = (
        ranks.coefficients.request_s
        + ranks.coefficients.token_latency_s * ranks.candidates.input_tokens
    )
    saturated = np.where(prefill_first > 0, np.inf, load.output * load.budget / load.prompt)
    limit = np.maximum(np.minimum(load.places, saturated), 1.0)
    running = np.minimum(load.concurrency, limit)
    chunk = np.minimum(load.budget, load.prompt * np.maximum(1.0, running / load.output))
    decode = _step(ranks, load, np.zeros_like(chunk), running)
    mixed = _step(ranks, load, chunk, running * (1.0 - prefill_first))
    steps_per_prompt = load.prompt / chunk
    share = running / load.output * steps_per_prompt
    pause = np.where(
        prefill_first > 0, mixed.total_s, np.maximum(mixed.total_s - decode.total_s, 0.0)
    )
    step = decode.total_s + np.where(prefill_first > 0, share, np.minimum(share, 1.0)) * pause
    others = np.maximum(running - 1.0, 0.0) / running
    tpot = (
        decode.total_s
        + np.where(prefill_first > 0, others * share, np.minimum(others * share, 1.0)) * pause
    )
    service = steps_per_prompt * mixed.total_s + arrival
    asked = np.minimum(load.concurrency / load.output * steps_per_prompt, 1.0)
    ahead = np.minimum(
        asked / np.maximum(1.0 - asked, 0.05) / 2.0, np.maximum(load.concurrency - 1.0, 0.0) / 2.0
    )
    waiting = ranks.coefficients.awaited_steps * step + ahead * service
    crowd = np.maximum(load.concurrency - limit, 0.0) * load.output * step / np.maximum(limit, 1.0)
    queue = waiting + crowd
    first_wave = ranks.coefficients.first_wave_s + arrival + 0.5 * crowd
    burst = _burst(ranks, load, prefill_first) * ranks.coefficients.burst_factor + first_wave
    solo_prefill = (
        steps_per_prompt
        * _step(ranks, load, np.minimum(load.prompt, load.budget), np.zeros_like(chunk)).total_s
    )
    solo_decode = _step(ranks, load, np.zeros_like(chunk), np.ones_like(chunk)).total_s
    table = ranks.candidates
    steady = queue + service
    modelled = Modelled(
        ttft_s=table.burst_share * burst + (1.0 - table.burst_share) * steady,
        tpot_s=tpot,
        burst_s=burst,
        queue_s=queue,
        service_s=service,
        solo_prefill_s=solo_prefill,
        solo_decode_s=solo_decode,
        running=running * table.pp,
        chunk=chunk,
        prefill_share=share,
        decode=decode,
        mixed=mixed,
    )
    if not table.output_tokens.all():
        modelled = _with_pooling(ranks, load, modelled)
    return _with_static_batches(ranks, load, modelled) if table.static_batch.any() else modelled


def _with_pooling(ranks: Ranks, load: _Load, modelled: Modelled) -> Modelled:
    """Replace the service of rows that generate nothing: by Little's law a request takes as long as all in flight with it.

    Its own step counts as service, those before it as queue.
    """
    pooling = ranks.candidates.output_tokens == 0
    arrival = (
        ranks.coefficients.request_s
        + ranks.coefficients.token_latency_s * ranks.candidates.input_tokens
    )
    together = np.minimum(
        load.concurrency, np.minimum(load.places, np.maximum(load.budget / load.prompt, 1.0))
    )
    step = _step(ranks, load, together * load.prompt, np.zeros_like(together))
    queue = (np.maximum(load.concurrency / together, 1.0) - 1.0) * step.total_s

    service = step.total_s + arrival
    return replace(
        modelled,
        ttft_s=np.where(pooling, queue + service, modelled.ttft_s),
        tpot_s=np.where(pooling, 0.0, modelled.tpot_s),
        queue_s=np.where(pooling, queue, modelled.queue_s),
        service_s=np.where(pooling, service, modelled.service_s),
        mixed=StepTime(
            **{
                part.name: np.where(
                    pooling, getattr(step, part.name), getattr(modelled.mixed, part.name)
                )
                for part in fields(step)
            }
        ),
    )


def _with_static_batches(ranks: Ranks, load: _Load, modelled: Modelled) -> Modelled:
    """Replace the service of static batches: all prompts prefilled as one batch, then decoded together."""
    static, concurrency = ranks.candidates.static_batch, load.concurrency
    return replace(
        modelled,
        ttft_s=np.where(static, _whole_batch(ranks, load), modelled.ttft_s),
        tpot_s=np.where(
            static,
            _step(ranks, load, np.zeros_like(concurrency), concurrency).total_s,
            modelled.tpot_s,
        ),
        running=np.where(static, concurrency * ranks.candidates.pp, modelled.running),
        prefill_share=np.where(static, 0.0, modelled.prefill_share),
    )


def _load(ranks: Ranks, memory: MemoryUse) -> _Load:
    table = ranks.candidates
    context = table.input_tokens + table.output_tokens / 2.0
    slots = np.maximum(memory.kv_capacity_tokens / context, 1.0)
    places = np.maximum(np.minimum(slots, table.max_sequences * table.dp), 1.0)
    prompt = np.maximum(table.input_tokens * (1.0 - table.prefix_hit_share), 1.0)
    budget = (
        np.where(table.chunked_prefill, table.token_budget, np.maximum(table.token_budget, prompt))
        * table.dp
    )
    return _Load(
        concurrency=table.concurrency / table.pp,
        places=places / table.pp,
        prompt=prompt,
        output=np.maximum(table.output_tokens, 1.0),
        budget=np.maximum(budget, 1.0),
        context=context,
    )


def _step(ranks: Ranks, load: _Load, prefill: Floats, decode: Floats) -> StepTime:
    table = ranks.candidates
    before = table.input_tokens / 2.0 + table.prefix_hit_share * table.input_tokens / 2.0
    seen = np.where(ranks.model.bidirectional[table.architecture] > 0, table.input_tokens, before)
    attended = (
        _attended(ranks, load, prefill, decode)
        if any(map(_multiplies_masked, ranks.candidates.engines))
        else (seen, None)
    )
    return step_time(
        ranks,
        prefill=prefill,
        decode=decode,
        prefill_context=attended[0],
        decode_context=load.context,
        decode_attended=attended[1],
    )


def _multiplies_masked(engine: EngineProfile) -> bool:
    return engine.attended is not Attended.PAST


def _attended(ranks: Ranks, load: _Load, prefill: Floats, decode: Floats) -> tuple[Floats, Floats]:
    """Return the cached tokens a prompt token and a running sequence multiply, masked ones too.

    A prompt token then multiplies its whole step; in a cache that all sequences share, all that is in it: half of what the
    prompts leave while they come in, everyone's context when they decode.
    """
    table = ranks.candidates
    masked = table.by_engine([float(_multiplies_masked(engine)) for engine in table.engines])
    shared = table.by_engine([float(engine.attended is Attended.CACHE) for engine in table.engines])
    past = table.input_tokens * (1.0 + table.prefix_hit_share) / 2.0
    step = np.where(shared > 0, prefill, np.minimum(prefill, load.prompt)) / 2.0
    others = shared * np.maximum(load.concurrency - 1.0, 0.0)
    return past + masked * step + others * table.input_tokens / 2.0, load.context * (
        1.0 + shared * np.maximum(decode - 1.0, 0.0)
    )


def _burst(ranks: Ranks, load: _Load, prefill_first: Floats) -> Floats:
    """Mean TTFT when everyone's prompt arrives at once: prompts queue behind each other in full steps."""
    together = np.minimum(load.concurrency, load.places)
    tokens = together * load.prompt
    chunk = np.minimum(load.budget, tokens)
    step = _step(
        ranks, load, chunk, together / 2.0 * (1.0 - prefill_first) * (tokens > load.budget)
    ).total_s
    return np.asarray(step * (tokens / chunk + 1.0) / 2.0, dtype=np.float64)


def _whole_batch(ranks: Ranks, load: _Load) -> Floats:
    """Time to prefill one static batch."""
    tokens = load.concurrency * load.prompt
    chunk = np.minimum(np.maximum(load.budget, load.prompt), tokens)
    return np.asarray(
        tokens / chunk * _step(ranks, load, chunk, np.zeros_like(chunk)).total_s, dtype=np.float64
    )
