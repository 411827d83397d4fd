"""How each candidate's engine schedules requests, as the columns the replay reads."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import IntEnum

import numpy as np

from budsim.commons.units import MICRO, MILLI
from budsim.engine_ops.engine_profile import Batching, EngineProfile, PrefixSharing
from budsim.performance.candidates import Booleans, Candidates, Floats, Integers
from budsim.performance.physics.architecture_arrays import architecture_arrays
from budsim.performance.physics.constants import PhysicsConstants
from budsim.performance.predictions import MemoryUse
from budsim.performance.serving.host_tier import host_tier
from budsim.performance.serving.shared_store import store_tier


class Router(IntEnum):
    """How requests are spread over the attention ranks of a replica."""

    IN_TURN = 0
    LEAST_LOAD = 1
    PREFIX_AWARE = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Host:
    """Time a server's host adds, whatever the device does.

    Attributes
    ----------
    request_s, token_s : float
        Serial time of the front end for each request, and for each token of its prompt: HTTP,
        tokenizer, and handing over to the engine. Tokens wait behind requests that came before
        them, because one event loop does both.
    burst_s : float
        Of ``request_s``, what the front end spends on every request of a burst before the engine
        gets the first of them.
    reply_s : float
        From the last token's step to the client, and to the client's next request.
    lag_steps : int
        Steps a newcomer waits in a busy engine because the next step is scheduled already.
    """

    request_s: float = 1.0 * MILLI
    token_s: float = 3.0 * MICRO
    burst_s: float = 0.0
    reply_s: float = 0.0
    lag_steps: int = 1


# What a newcomer waits of the step under way on average, steps.
HALF_A_STEP = 0.5

# Of engines for which nothing was fitted.
USUAL_HOST = Host()


@dataclass(frozen=True, slots=True, kw_only=True)
class FrontEnd:
    """What a request passes before its rank: the server's host, and the router over the ranks.

    Without a ``host`` each row has that of its engine.
    """

    host: Host | None = None
    router: Router = Router.LEAST_LOAD


USUAL_FRONT_END = FrontEnd()


def host_of(engine: EngineProfile, constants: PhysicsConstants) -> Host:
    """Return the host of an engine: its own times, where they were fitted.

    Of the steps a request waits for, half of the one under way is an average; the rest are whole.
    """
    own = constants.first_token.get(engine.name)
    if own is None:
        return USUAL_HOST
    return replace(
        USUAL_HOST,
        request_s=own.request_s,
        burst_s=own.burst_s,
        lag_steps=max(round(own.steps - HALF_A_STEP), 0),
    )


# The numbers kernel/replica.h knows the kinds by.
_KINDS: Mapping[Batching, int] = {
    Batching.MIXED: 0,
    Batching.PREFILL_FIRST: 1,
    Batching.STATIC: 2,
}

_SHARINGS: Mapping[PrefixSharing, int] = {
    PrefixSharing.AFTER_PROMPT: 0,
    PrefixSharing.AFTER_STEP: 1,
    PrefixSharing.AS_SCHEDULED: 2,
}

STATIC = _KINDS[Batching.STATIC]

# Engines that admit a request only when the cache has room for its whole output: TensorRT-LLM's
# default policy GUARANTEED_NO_EVICT (tensorrt_llm/llmapi CapacitySchedulerPolicy, 1.0).
RESERVING = frozenset({"trtllm", "trtllm(deepgemm)", "trtllm(2024)", "dynamo-trtllm"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedulers:
    """Scheduler of one pipeline lane of each candidate; arrays of shape (n,).

    Attributes
    ----------
    kind : int array
        0: prompts and decodes share steps; 1: prompts first; 2: static batches.
    ranks, lanes : int arrays
        Attention ranks that step together, and pipeline stages that each hold a batch of their own.
    whole_prompts, reserves_output, looks_both_ways, keeps_prefixes : bool arrays
        Whether prompts are never cut, outputs are reserved, attention sees the whole prompt, and
        prefixes are found again.
    sharing : int array
        When others find a prompt's tokens in the cache (`PrefixSharing`): 0 with its first token, 1
        after the step that computes them, 2 as soon as they are scheduled.
    token_budget, max_sequences, cache_tokens, block_tokens : float arrays
        Limits of one rank in one lane.
    receive_steps : float array
        The engine looks for new requests every so many decode steps.
    tier_tokens, tier_token_s : float arrays
        Tokens one rank keeps in host memory, 0 for none, and seconds to load one of them.
    loads_overlap : bool array
        Whether loads are hidden behind the prompts of the same step, layer by layer.
    store_tokens, store_token_s : float arrays
        The same of the store that replicas share, for which requests wait.
    """

    kind: Integers
    ranks: Integers
    lanes: Integers
    whole_prompts: Booleans
    reserves_output: Booleans
    looks_both_ways: Booleans
    keeps_prefixes: Booleans
    sharing: Integers
    token_budget: Floats
    max_sequences: Floats
    cache_tokens: Floats
    block_tokens: Floats
    receive_steps: Floats
    tier_tokens: Floats
    tier_token_s: Floats
    loads_overlap: Booleans
    store_tokens: Floats
    store_token_s: Floats


def schedulers(candidates: Candidates, memory: MemoryUse) -> Schedulers:
    """Return how the engine of each candidate schedules.

    A newcomer waits half the interval of `receive_steps` on average, which is what
    ``admission_steps`` of a candidate states. Pipeline stages share places and cache evenly.
    """
    engines, lanes, ranks = candidates.engines, candidates.pp, candidates.dp
    kinds = np.array([_KINDS[engine.batching] for engine in engines])[candidates.engine]
    blocks = candidates.by_engine([float(engine.block_tokens) for engine in engines])
    both_ways = (
        architecture_arrays(candidates.architectures).bidirectional[candidates.architecture] > 0
    )
    guesses, tier = _guesses(candidates), host_tier(candidates, memory)
    store = store_tier(candidates, memory)
    # Pooling and attention in both directions need the whole prompt in one step.
    pooling = candidates.output_tokens == 0
    keeps = candidates.prefix_caching
    return Schedulers(
        kind=np.where(candidates.static_batch, STATIC, kinds),
        ranks=ranks,
        lanes=lanes,
        whole_prompts=~candidates.chunked_prefill | both_ways | pooling,
        reserves_output=np.array([e.name in RESERVING for e in engines])[candidates.engine],
        looks_both_ways=both_ways,
        keeps_prefixes=np.ones(len(candidates), dtype=bool) if keeps is None else keeps,
        sharing=np.array([_SHARINGS[each.prefix_sharing] for each in engines])[candidates.engine],
        token_budget=np.maximum(candidates.token_budget - guesses, candidates.token_budget / 2.0),
        max_sequences=np.maximum(np.ceil(candidates.max_num_seqs / lanes), 1.0),
        cache_tokens=(memory.kv_running_tokens / ranks - guesses) / lanes,
        block_tokens=blocks,
        receive_steps=2.0 * candidates.admission_steps,
        tier_tokens=tier.tokens / ranks / lanes,
        tier_token_s=tier.token_s,
        loads_overlap=tier.overlaps,
        store_tokens=store.tokens,
        store_token_s=store.token_s,
    )


def _guesses(candidates: Candidates) -> Floats:
    """Return the guessed tokens of a full step of one attention rank, (n,).

    They take places in the step and in the cache. The replay itself counts one token a sequence.
    """
    running = np.minimum(candidates.max_num_seqs, candidates.concurrency / candidates.dp)
    return candidates.draft_tokens * running
