"""Parts of the kernel's tests: an invented device of round figures, replicas, requests."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from budsim.performance.lengths import FixedLength
from budsim.performance.prefixes import Prefix
from budsim.performance.serving.arrivals import Requests, draw_requests
from budsim.performance.serving.replay.runs import Replica
from budsim.performance.serving.replay.scheduling import Host, Router, Schedulers
from budsim.performance.serving.replay.step_tables import CONTEXTS, TOKENS, PartTables, StepTables
from budsim.performance.traffic import ClosedLoop, Start, Traffic
from tests.performance.serving.replay.stepwise import Scheduler

SHARINGS = ("after_prompt", "after_step", "as_scheduled")
KINDS = {"mixed": 0, "prefill_first": 1, "static": 2}
STEP_S, TOKEN_S, SEQUENCE_S, PAST_S, PROMPT_PAST_S = 5e-3, 40e-6, 60e-6, 20e-9, 10e-9
"""An invented device: 5 ms a step, 40 us a token, 20 ns for each token looked back at."""


def seconds(pieces: Sequence[tuple[float, float]], contexts: Sequence[float]) -> float:
    """Return the seconds of a step of the invented device."""
    prompt = sum(tokens for tokens, _ in pieces)
    past = sum(tokens * context for tokens, context in pieces)
    tokens = prompt + len(contexts)
    looked = PAST_S * sum(contexts) + PROMPT_PAST_S * past
    return STEP_S + TOKEN_S * tokens + SEQUENCE_S * len(contexts) + looked


def tables() -> StepTables:
    """Return the tables of the invented device."""

    def row(values: np.ndarray) -> np.ndarray:
        return np.ascontiguousarray(values[None, :])

    rest = PartTables(
        decode=row(STEP_S + (TOKEN_S + SEQUENCE_S) * TOKENS),
        prefill=row(STEP_S + TOKEN_S * TOKENS),
        beside=row(SEQUENCE_S * TOKENS),
        decode_context=row(PAST_S * CONTEXTS),
        prefill_context=row(PROMPT_PAST_S * CONTEXTS),
        attended=row(0.0 * CONTEXTS),
    )
    one, zero = np.ones(1), np.zeros(1)
    return StepTables(
        rest=rest,
        traffic=rest,
        overlap=one,
        prompt_factor=one,
        step_floor_s=zero,
        prompt_step_floor_s=zero,
        multiplies_cache=zero,
        multiplies_step=zero,
        tokens_per_step=one,
    )


# Tokens in host memory, seconds to load one, and whether prompts hide the load.
Tier = tuple[float, float, bool]
NO_TIER: Tier = (0.0, 0.0, False)
# Tokens in a shared store, and seconds to read one.
Store = tuple[float, float]
NO_STORE: Store = (0.0, 0.0)


def replica(scheduler: Scheduler, tier: Tier = NO_TIER, store: Store = NO_STORE) -> Replica:
    """Return the invented device with the scheduler, as the kernel reads it."""

    def column(value: float, kind: type = float) -> np.ndarray:
        return np.array([value], dtype=kind)

    table = Schedulers(
        kind=column(KINDS[scheduler.kind], int),
        ranks=column(scheduler.ranks, int),
        lanes=column(1, int),
        whole_prompts=column(scheduler.whole_prompts, bool),
        reserves_output=column(scheduler.reserves_output, bool),
        looks_both_ways=column(0, bool),
        keeps_prefixes=column(1, bool),
        sharing=column(SHARINGS.index(scheduler.sharing), int),
        token_budget=column(scheduler.budget),
        max_sequences=column(scheduler.places),
        cache_tokens=column(scheduler.cache_tokens),
        block_tokens=column(scheduler.block_tokens),
        receive_steps=column(scheduler.receive_steps),
        tier_tokens=column(tier[0]),
        tier_token_s=column(tier[1]),
        loads_overlap=column(tier[2], bool),
        store_tokens=column(store[0]),
        store_token_s=column(store[1]),
    )
    host = Host(
        request_s=scheduler.request_s,
        burst_s=scheduler.burst_s,
        token_s=scheduler.token_s,
        lag_steps=scheduler.lag,
    )
    return Replica(
        tables=tables(),
        schedulers=table,
        row=0,
        host=host,
        router=Router[scheduler.router.upper()],
        imbalance=0.0,
    )


def whole(traffic: Traffic) -> Requests:
    """Return the requests of a run, none of them left out of its answer."""
    return replace(draw_requests(traffic), measured_from=0, measured_to=1 << 40)


def lone(prefix: Prefix) -> Traffic:
    """Return requests one after another: 1,000 prompt tokens and an output of 1."""
    return Traffic(
        arrivals=ClosedLoop(concurrency=1, start=Start.AT_ONCE),
        prompt=FixedLength(tokens=1_000),
        output=FixedLength(tokens=1),
        prefix=prefix,
        requests=20,
    )
