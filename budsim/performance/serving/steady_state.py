"""Continuous batching in its steady state: from step times to TTFT and TPOT of a closed loop.

``concurrency`` requests are always in flight. While a request decodes its output, every other one's
prompt passes through the same steps: for each decoded token of ``running`` sequences, ``running x
input / output`` prompt tokens are prefilled. A request's own prompt is over by then and does not
slow its tokens. A new request waits for the step under way, for prompts before it, and for a place
when the cache or ``max_num_seqs`` is full. Pooling models generate nothing: every step is full of
prompts, and those a step does not hold wait.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import numpy as np

from budsim.engine_ops.engine_profile import AttendedTokens, Batching, EngineProfile
from budsim.performance.candidates import Booleans, Candidates, Floats
from budsim.performance.physics.operators import StepTime, step_time, with_prompts
from budsim.performance.physics.ranks import Ranks
from budsim.performance.predictions import MemoryUse

# Share of its steps an engine is taken to have free of prompts at least. An M/D/1 queue grows
# without bound as that share goes to 0, a closed loop's does not; chosen by us, not fitted.
LEAST_IDLE_SHARE = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class Modelled:
    """The analytic model's answer and the terms it was made of; arrays of shape (n,), seconds.

    Attributes
    ----------
    ttft_s, tpot_s : mean time to first token, and mean time per further output token
    queue_s, service_s : what TTFT is made of
    solo_prefill_s, solo_decode_s : one prompt, and one token, on an idle engine
    running : sequences that decode at a time, of the whole replica
    chunk : prompt tokens in one step
    prefill_share : steps with prompts for each step that decodes
    decode, mixed : time of a step without, and with, prompts
    """

    ttft_s: Floats
    tpot_s: Floats
    queue_s: Floats
    service_s: Floats
    solo_prefill_s: Floats
    solo_decode_s: Floats
    running: Floats
    chunk: Floats
    prefill_share: Floats
    decode: StepTime
    mixed: StepTime


@dataclass(frozen=True, slots=True, kw_only=True)
class _Load:
    """Traffic of one of ``pp`` micro-batches that follow each other through the pipeline, (n,).

    ``places`` is how many sequences cache and ``max_num_seqs`` admit; ``prompt`` the tokens of one
    that are not in the prefix cache; ``steps`` the decode steps of its output, of which each yields
    ``pace`` tokens; ``budget`` the tokens of one step; ``arrival_s`` host time.
    """

    concurrency: Floats
    places: Floats
    prompt: Floats
    steps: Floats
    pace: Floats
    budget: Floats
    context: Floats
    arrival_s: Floats


@dataclass(frozen=True, slots=True, kw_only=True)
class _Mix:
    """How prompts and running sequences share the steps, arrays of shape (n,).

    Engines that prefill first (``prefill_first``) stop decoding for a step with prompts; others
    decode along. ``limit`` is how many sequences can run, ``steps_per_prompt`` how many steps one
    prompt takes.
    """

    prefill_first: Booleans
    limit: Floats
    running: Floats
    chunk: Floats
    steps_per_prompt: Floats
    prefill_share: Floats
    decode: StepTime
    mixed: StepTime

    def mean_step_s(self, share: Floats) -> Floats:
        """Return the time between two tokens of a sequence where ``share`` prompt steps come.

        A prompt step costs what it lasts longer than a decode step, or its whole time where
        decoding stops; at most every decode step can carry prompts along.
        """
        longer = np.maximum(self.mixed.total_s - self.decode.total_s, 0.0)
        pause = np.where(self.prefill_first, self.mixed.total_s, longer)
        pauses = np.where(self.prefill_first, share, np.minimum(share, 1.0))
        return np.asarray(self.decode.total_s + pauses * pause, dtype=np.float64)


def steady_state(ranks: Ranks, memory: MemoryUse) -> Modelled:
    """Return the modelled service of each candidate, arrays of shape (n,)."""
    table = ranks.candidates
    load = _load(ranks, memory)
    mix = _mix(ranks, load)
    others = np.maximum(mix.running - 1.0, 0.0) / mix.running
    service = mix.steps_per_prompt * mix.mixed.total_s + load.arrival_s
    crowd = _wait_for_place(load, mix)
    queue = _wait_for_prompts(ranks, load, mix, service) + crowd
    modelled = Modelled(
        ttft_s=queue + service,
        tpot_s=mix.mean_step_s(others * mix.prefill_share) / load.pace,
        queue_s=queue,
        service_s=service,
        solo_prefill_s=mix.steps_per_prompt
        * _prompt_step(ranks, load, np.minimum(load.prompt, load.budget)).total_s,
        solo_decode_s=_step(ranks, load, np.zeros_like(mix.chunk), np.ones_like(mix.chunk)).total_s
        / load.pace,
        running=mix.running * table.pp,
        chunk=mix.chunk,
        prefill_share=mix.prefill_share,
        decode=mix.decode,
        mixed=mix.mixed,
    )
    if not table.output_tokens.all():
        modelled = _with_pooling(ranks, load, modelled)
    return _with_static_batches(ranks, load, modelled) if table.static_batch.any() else modelled


def _load(ranks: Ranks, memory: MemoryUse) -> _Load:
    table = ranks.candidates
    context = table.input_tokens + table.output_tokens / 2.0
    # Guesses need slots in the cache, too.
    cached = np.maximum(memory.kv_running_tokens / (context + table.draft_tokens), 1.0)
    places = np.maximum(np.minimum(cached, table.max_num_seqs * table.dp), 1.0)
    prompt = np.maximum(table.input_tokens * (1.0 - table.prefix_hit_share), 1.0)
    whole = np.maximum(table.token_budget, prompt)
    budget = np.where(table.chunked_prefill, table.token_budget, whole) * table.dp
    tokenized = ranks.constants.token_latency_s * table.input_tokens
    return _Load(
        concurrency=table.concurrency / table.pp,
        places=places / table.pp,
        prompt=prompt,
        steps=np.maximum(table.output_tokens / table.tokens_per_step, 1.0),
        pace=table.tokens_per_step,
        budget=np.maximum(budget, 1.0),
        context=context,
        arrival_s=ranks.host.request_s + tokenized,
    )


def _mix(ranks: Ranks, load: _Load) -> _Mix:
    """Return how prompts and running sequences share the steps.

    Where prompts come faster than steps take them, sequences end before others can follow: at most
    ``steps x budget / prompt`` run. An engine that prefills first has no such bound.
    """
    engines = ranks.candidates.engines
    prefill_first = _of_engines(
        ranks.candidates, [engine.batching is Batching.PREFILL_FIRST for engine in engines]
    )
    saturated = np.where(prefill_first, np.inf, load.steps * load.budget / load.prompt)
    limit = np.maximum(np.minimum(load.places, saturated), 1.0)
    running = np.minimum(load.concurrency, limit)
    chunk = np.minimum(load.budget, load.prompt * np.maximum(1.0, running / load.steps))
    steps_per_prompt = load.prompt / chunk
    decode = _step(ranks, load, np.zeros_like(chunk), running)
    return _Mix(
        prefill_first=prefill_first,
        limit=limit,
        running=running,
        chunk=chunk,
        steps_per_prompt=steps_per_prompt,
        prefill_share=running / load.steps * steps_per_prompt,
        decode=decode,
        mixed=_mixed_step(ranks, load, chunk, np.where(prefill_first, 0.0, running), decode),
    )


def _wait_for_prompts(ranks: Ranks, load: _Load, mix: _Mix, service: Floats) -> Floats:
    """Return seconds until the prompts before a new request are done.

    The mean length of an M/D/1 queue is busy / (1 - busy) / 2; in a closed loop half of the other
    requests at most can be before one. The steps an engine awaits come on top.
    """
    busy = np.minimum(load.concurrency / load.steps * mix.steps_per_prompt, 1.0)
    queue = busy / np.maximum(1.0 - busy, LEAST_IDLE_SHARE) / 2.0
    before = np.minimum(queue, np.maximum(load.concurrency - 1.0, 0.0) / 2.0)
    step = mix.mean_step_s(mix.prefill_share)
    return np.asarray(ranks.host.awaited_steps * step + before * service, dtype=np.float64)


def _wait_for_place(load: _Load, mix: _Mix) -> Floats:
    """Return seconds until all requests without a place have one: one of ``limit`` ends a turn."""
    without = np.maximum(load.concurrency - mix.limit, 0.0)
    turn = load.steps * mix.mean_step_s(mix.prefill_share) / np.maximum(mix.limit, 1.0)
    return np.asarray(without * turn, dtype=np.float64)


def _with_pooling(ranks: Ranks, load: _Load, modelled: Modelled) -> Modelled:
    """Replace the service of rows that generate nothing.

    By Little's law a request takes as long as all in flight with it. Its own step counts as
    service, those before it as queue.
    """
    pooling = ranks.candidates.output_tokens == 0
    in_step = np.minimum(load.places, np.maximum(load.budget / load.prompt, 1.0))
    together = np.minimum(load.concurrency, in_step)
    step = _prompt_step(ranks, load, together * load.prompt)
    queue = (np.maximum(load.concurrency / together, 1.0) - 1.0) * step.total_s
    service = step.total_s + load.arrival_s
    mixed = {
        part.name: np.where(pooling, getattr(step, part.name), getattr(modelled.mixed, part.name))
        for part in fields(step)
    }
    return replace(
        modelled,
        ttft_s=np.where(pooling, queue + service, modelled.ttft_s),
        tpot_s=np.where(pooling, 0.0, modelled.tpot_s),
        queue_s=np.where(pooling, queue, modelled.queue_s),
        service_s=np.where(pooling, service, modelled.service_s),
        mixed=StepTime(**mixed),
    )


def _with_static_batches(ranks: Ranks, load: _Load, modelled: Modelled) -> Modelled:
    """Replace the service of static batches: all prompts are one batch, then decode together."""
    static, concurrency = ranks.candidates.static_batch, load.concurrency
    token = _step(ranks, load, np.zeros_like(concurrency), concurrency).total_s / load.pace
    return replace(
        modelled,
        ttft_s=np.where(static, _whole_batch(ranks, load), modelled.ttft_s),
        tpot_s=np.where(static, token, modelled.tpot_s),
        running=np.where(static, concurrency * ranks.candidates.pp, modelled.running),
        prefill_share=np.where(static, 0.0, modelled.prefill_share),
    )


def _whole_batch(ranks: Ranks, load: _Load) -> Floats:
    """Return seconds to prefill one static batch."""
    tokens = load.concurrency * load.prompt
    chunk = np.minimum(np.maximum(load.budget, load.prompt), tokens)
    step = _prompt_step(ranks, load, chunk).total_s
    return np.asarray(tokens / chunk * step, dtype=np.float64)


def _prompt_step(ranks: Ranks, load: _Load, prefill: Floats) -> StepTime:
    """Return a step of prompt tokens alone."""
    nothing = np.zeros_like(prefill)
    none = StepTime(**{part.name: nothing for part in fields(StepTime)})
    return with_prompts(ranks, none, _step(ranks, load, prefill, nothing))


def _mixed_step(
    ranks: Ranks, load: _Load, prefill: Floats, running: Floats, decode: StepTime
) -> StepTime:
    """Return a step of prompt tokens beside the sequences that run, whose own step is ``decode``.

    One of ``running`` is the request whose prompt it is: a lone one decodes beside nobody.
    """
    others = np.clip(running - 1.0, 0.0, 1.0)
    beside = {part.name: getattr(decode, part.name) * others for part in fields(StepTime)}
    return with_prompts(ranks, StepTime(**beside), _step(ranks, load, prefill, running))


def _step(ranks: Ranks, load: _Load, prefill: Floats, decode: Floats) -> StepTime:
    """Return a step of so many prompt tokens and running sequences of this traffic.

    A prompt token looks back at half of its prompt and at the whole cached prefix; in an encoder at
    the whole prompt.
    """
    table = ranks.candidates
    before = table.input_tokens * (1.0 + table.prefix_hit_share) / 2.0
    both_ways = ranks.model.bidirectional[table.architecture] > 0
    seen, attended = np.where(both_ways, table.input_tokens, before), None
    if any(map(_multiplies_masked, table.engines)):
        seen, attended = _attended(ranks, load, prefill, decode)
    return step_time(
        ranks,
        prefill=prefill,
        decode=decode,
        prefill_context=seen,
        decode_context=load.context,
        decode_attended=attended,
    )


def _multiplies_masked(engine: EngineProfile) -> bool:
    return engine.attended is not AttendedTokens.PAST


def _attended(ranks: Ranks, load: _Load, prefill: Floats, decode: Floats) -> tuple[Floats, Floats]:
    """Return the cached tokens a prompt token and a running sequence multiply, masked ones too.

    A prompt token then multiplies its whole step. In a cache that all sequences share it multiplies
    all that is in it: half of the prompts while they come in, everyone's context when they decode.
    """
    table = ranks.candidates
    masked = _of_engines(table, [_multiplies_masked(engine) for engine in table.engines])
    shared = _of_engines(table, [e.attended is AttendedTokens.CACHE for e in table.engines])
    past = table.input_tokens * (1.0 + table.prefix_hit_share) / 2.0
    step = np.where(shared, prefill, np.minimum(prefill, load.prompt)) / 2.0
    others = shared * np.maximum(load.concurrency - 1.0, 0.0)
    contexts = 1.0 + shared * np.maximum(decode - 1.0, 0.0)
    return past + masked * step + others * table.input_tokens / 2.0, load.context * contexts


def _of_engines(table: Candidates, flags: list[bool]) -> Booleans:
    """Spread one flag for each distinct engine over the rows."""
    return np.asarray(flags, dtype=bool)[table.engine]
