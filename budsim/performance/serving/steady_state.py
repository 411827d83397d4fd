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
from budsim.hardware_ops.device import DeviceKind
from budsim.performance.candidates import Booleans, Candidates, Floats
from budsim.performance.physics.operators import StepTime, step_time, with_prompts
from budsim.performance.physics.ranks import Ranks
from budsim.performance.predictions import MemoryUse, latency
from budsim.performance.serving.found_prefixes import with_found_prefixes

# Attention ranks wait for the fullest one in their attention, while experts see the mean load: the
# time of a step lies half-way between both. Chosen among 0, 0.5 and 1 on rows with attention ranks.
IMBALANCE = 0.5

# Keeps a queue of servers that are always busy from dividing by 0.
TINY = 1e-9


@dataclass(frozen=True, slots=True, kw_only=True)
class Modelled:
    """The analytic model's answer and the terms it was made of; arrays of shape (n,), seconds.

    Attributes
    ----------
    ttft_s, tpot_s : mean time to first token, and mean time per further output token
    queue_s, service_s : what TTFT is made of
    solo_prefill_s, solo_decode_s : one prompt, and one token, on an idle engine
    least_ttft_s, least_tpot_s : the same by the data sheet alone, which no accelerator is faster
        than; 0 on processors, where a share of the cores reaches more than its share of a sheet
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
    least_ttft_s: Floats
    least_tpot_s: Floats
    running: Floats
    chunk: Floats
    prefill_share: Floats
    decode: StepTime
    mixed: StepTime

    def least_s(self, output_tokens: Floats) -> dict[str, Floats]:
        """Return the least TTFT, TPOT and end-to-end latency, seconds, shape (n,) each."""
        least = {"ttft": self.least_ttft_s, "tpot": self.least_tpot_s}
        return least | {"e2e": latency(self.least_ttft_s, self.least_tpot_s, output_tokens)}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Load:
    """Traffic of one of ``pp`` micro-batches that follow each other through the pipeline, (n,).

    ``places`` is how many sequences cache and ``max_num_seqs`` admit; ``prompt`` the tokens of one
    that are not in the prefix cache; ``steps`` the decode steps of its output, of which each yields
    ``pace`` tokens; ``guesses`` says where tokens are guessed ahead; ``budget`` the tokens of one
    step; ``arrival_s`` host time. A step counts ``crowding`` times its tokens where there are fewer
    requests than attention ranks: the others wait for those that have one.
    """

    concurrency: Floats
    places: Floats
    prompt: Floats
    steps: Floats
    pace: Floats
    guesses: Booleans
    budget: Floats
    context: Floats
    arrival_s: Floats
    crowding: Floats


@dataclass(frozen=True, slots=True, kw_only=True)
class _Mix:
    """How prompts and running sequences share the steps, arrays of shape (n,).

    Engines that prefill first (``prefill_first``) stop decoding for a step with prompts; others
    decode along. ``inside`` is how many requests have a place, ``running`` how many of them can
    decode at most, ``steps_per_prompt`` how many steps one prompt takes.
    """

    prefill_first: Booleans
    inside: Floats
    running: Floats
    chunk: Floats
    steps_per_prompt: Floats
    prefill_share: Floats
    decode: StepTime
    mixed: StepTime

    @property
    def prompt_s(self) -> Floats:
        """Seconds of steps that one prompt takes."""
        return np.asarray(self.steps_per_prompt * self.mixed.total_s, dtype=np.float64)

    @property
    def delay_s(self) -> Floats:
        """Seconds by which the steps of one prompt delay sequences that decode.

        The whole step where decoding stops, else what it lasts longer than a decode step.
        """
        longer = np.maximum(self.mixed.total_s - self.decode.total_s, 0.0)
        pause = np.where(self.prefill_first, self.mixed.total_s, longer)
        return np.asarray(self.steps_per_prompt * pause, dtype=np.float64)


def steady_state(ranks: Ranks, memory: MemoryUse) -> Modelled:
    """Return the modelled service of each candidate, arrays of shape (n,)."""
    ranks, waited_s, busiest_s = with_found_prefixes(ranks, memory)
    table = ranks.candidates
    load = _load(ranks, memory)
    mix = _mix(ranks, load)
    turn = _turn(load, mix, ranks.host.awaited_steps)
    service = mix.prompt_s + load.arrival_s
    queue = turn.first_s - mix.prompt_s + _wait_for_place(load, mix, turn)
    on_sheet = table.by_device([float(d.kind is not DeviceKind.CPU) for d in table.devices])
    lone = np.minimum(load.prompt, load.budget)
    prompt = _prompt_step(ranks, load, lone)
    token = _step(ranks, load, np.zeros_like(mix.chunk), np.ones_like(mix.chunk))
    modelled = Modelled(
        ttft_s=queue + service + waited_s,
        tpot_s=turn.step_s / load.pace,
        queue_s=queue,
        service_s=service + waited_s,
        solo_prefill_s=mix.steps_per_prompt * prompt.total_s,
        solo_decode_s=token.total_s / load.pace,
        least_ttft_s=on_sheet * load.prompt / lone * prompt.ceiling_s,
        least_tpot_s=on_sheet * token.ceiling_s / (1.0 + table.draft_tokens),
        running=mix.running * table.pp,
        chunk=mix.chunk,
        prefill_share=mix.prefill_share,
        decode=mix.decode,
        mixed=mix.mixed,
    )
    if waited_s.any():
        modelled = _with_busy_link(table, modelled, busiest_s)
    if not table.output_tokens.all():
        modelled = _with_pooling(ranks, load, modelled)
    return _with_static_batches(ranks, load, modelled) if table.static_batch.any() else modelled


def _with_busy_link(table: Candidates, modelled: Modelled, load_s: Floats) -> Modelled:
    """Return the service with requests that wait for a link to caches, one after another.

    No turn of n requests that load for s seconds each takes less than n s.
    """
    turn_s = modelled.ttft_s + modelled.tpot_s * np.maximum(table.output_tokens - 1.0, 0.0)
    queue_s = np.maximum(table.concurrency / table.dp * load_s - turn_s, 0.0)
    return replace(modelled, ttft_s=modelled.ttft_s + queue_s, queue_s=modelled.queue_s + queue_s)


def places_of(table: Candidates, memory: MemoryUse) -> Floats:
    """Return how many sequences cache and ``max_num_seqs`` of a replica admit, shape (n,)."""
    context = table.input_tokens + table.output_tokens / 2.0
    # Guesses need slots in the cache, too.
    cached = np.maximum(memory.kv_running_tokens / (context + table.draft_tokens), 1.0)
    return np.maximum(np.minimum(cached, table.max_num_seqs * table.dp), 1.0)


def running_of(table: Candidates, memory: MemoryUse) -> Floats:
    """Return how many requests in flight have a place, shape (n,); the others wait for one."""
    return np.minimum(table.concurrency, places_of(table, memory))


def _load(ranks: Ranks, memory: MemoryUse) -> _Load:
    table = ranks.candidates
    context = table.input_tokens + table.output_tokens / 2.0
    places = places_of(table, memory)
    prompt = np.maximum(table.input_tokens * (1.0 - table.prefix_hit_share), 1.0)
    whole = np.maximum(table.token_budget, prompt)
    budget = np.where(table.chunked_prefill, table.token_budget, whole) * table.dp
    tokenized = ranks.constants.token_latency_s * table.input_tokens
    # Fewer requests than lanes: those lanes that have one have a whole one.
    concurrency = np.maximum(table.concurrency / table.pp, np.minimum(table.concurrency, 1.0))
    ranks_per_request = np.maximum(table.dp / np.maximum(concurrency, 1.0), 1.0)
    return _Load(
        concurrency=concurrency,
        places=places / table.pp,
        prompt=prompt,
        steps=np.maximum(table.output_tokens / table.tokens_per_step, 1.0),
        pace=table.tokens_per_step,
        guesses=table.draft_tokens > 0,
        budget=np.maximum(budget, 1.0),
        context=context,
        arrival_s=ranks.host.request_s + tokenized,
        crowding=1.0 + IMBALANCE * (ranks_per_request - 1.0),
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
    running = np.minimum(load.concurrency, np.maximum(np.minimum(load.places, saturated), 1.0))
    chunk = np.minimum(load.budget, load.prompt * np.maximum(1.0, running / load.steps))
    steps_per_prompt = load.prompt / chunk
    decode = _step(ranks, load, np.zeros_like(chunk), running)
    return _Mix(
        prefill_first=prefill_first,
        inside=np.minimum(load.concurrency, load.places),
        running=running,
        chunk=chunk,
        steps_per_prompt=steps_per_prompt,
        prefill_share=running / load.steps * steps_per_prompt,
        decode=decode,
        mixed=_mixed_step(ranks, load, chunk, np.where(prefill_first, 0.0, running), decode),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Turn:
    """One turn of a request that has a place: seconds to its first token, and of each step then."""

    first_s: Floats
    step_s: Floats
    whole_s: Floats


def _turn(load: _Load, mix: _Mix, awaited: Floats) -> _Turn:
    """Return one turn of ``inside`` requests whose prompts pass one server in turn.

    A turn holds the request's own decode steps and every one's prompt once: what prompts delay is
    neither lost nor counted twice, so that more work never ends sooner. A newcomer finds as many
    prompts before it as there are on average with one request less (Reiser and Lavenberg's mean
    value analysis, 1980, as Schweitzer approximates it), of which half of one is done. The steps it
    awaits are ``awaited`` decode steps more, and the prompts in them delay it before its first
    token instead of later.
    """
    later, decode = _later_steps(load), mix.decode.total_s
    decoding, prompts = later * decode, mix.inside * mix.delay_s
    steps = _steps_to_first(load, mix)
    along, stopped = decoding + steps * decode + prompts, decoding + prompts
    whole = np.where(mix.prefill_first, stopped, along)
    first = np.minimum(steps * mix.mixed.total_s, whole - decoding)
    delays = np.maximum(whole - first - decoding, 0.0)
    a_step = np.minimum(delays / np.maximum(later, 1.0), mix.mixed.total_s)
    first = first + np.minimum(awaited * a_step, delays)
    step = np.where(later > 0.0, (whole - first) / np.maximum(later, TINY), decode)
    return _Turn(first_s=first + awaited * decode, step_s=step, whole_s=whole + awaited * decode)


def _later_steps(load: _Load) -> Floats:
    """Return the decode steps of an output: the step that ends a prompt yields its first token."""
    return np.maximum(load.steps - 1.0 / load.pace, 0.0)


def _steps_to_first(load: _Load, mix: _Mix) -> Floats:
    """Return the steps until a newcomer's prompt is computed, where all decode along.

    Of R = p (1 + (n - 1) (R - p / 2) / (R + o)) the positive solution: p steps a prompt, n requests
    and o steps of decoding.
    """
    later, prompt = _later_steps(load), _steps_of_prompt(load, mix)
    spare = later - mix.inside * prompt
    product = prompt * (later - prompt * (mix.inside - 1.0) / 2.0)
    root = np.sqrt(np.maximum(spare**2 + 4.0 * product, 0.0))
    least, most = mix.steps_per_prompt, mix.inside * mix.steps_per_prompt
    return np.clip((root - spare) / 2.0, least, most)


def _steps_of_prompt(load: _Load, mix: _Mix) -> Floats:
    """Return the steps for which a prompt holds up those behind it.

    A step takes all prompts that wait and fit into its budget. Rows without guesses count a step
    for each prompt, as their regressors were trained; guesses shorten outputs until requests are as
    many as steps, where a queue of single prompts would have no end.
    """
    together = np.minimum(mix.steps_per_prompt, load.prompt / load.budget)
    return np.where(load.guesses, together, mix.steps_per_prompt)


def _wait_for_place(load: _Load, mix: _Mix, turn: _Turn) -> Floats:
    """Return seconds until all requests without a place have one: ``inside`` end in each turn."""
    without = np.maximum(load.concurrency - mix.inside, 0.0)
    return np.asarray(without * turn.whole_s / mix.inside, dtype=np.float64)


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
        prefill=load.crowding * prefill,
        decode=load.crowding * decode,
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
