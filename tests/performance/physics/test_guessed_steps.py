"""Steps that verify guessed tokens, of the toy model of `by_hand`."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from budsim.engine_ops.engine_profile import EngineProfile
from budsim.performance.candidates import Candidates
from budsim.performance.physics.operators import StepTime, step_time
from budsim.performance.physics.ranks import prepare
from budsim.performance.speculation import PLAIN, Method, Speculation
from tests.performance.by_hand import (
    ENGINE,
    constants,
    model,
    ranks,
)

MS = 1e-3


def guessing(way: Speculation, **columns: object) -> Candidates:
    """Return one toy candidate that speculates."""
    plain = ranks(model(head=True), **columns).candidates
    return replace(plain, speculations=(way,), speculation=np.zeros(1, dtype=np.int64))


FREE_GUESSES = replace(ENGINE, guess_step_s=0.0)


def guessed(way: Speculation, *, decode: int, engine: EngineProfile = FREE_GUESSES) -> StepTime:
    """Return a decode step of so many sequences that look back at 1,000 tokens."""
    table = replace(guessing(way), engines=(engine,))
    zero, count = np.zeros(1), np.full(1, float(decode))
    return step_time(
        prepare(table, constants()),
        prefill=zero,
        decode=count,
        prefill_context=zero,
        decode_context=np.full(1, 1000.0),
    )


LOOKUP = Speculation(method=Method.NGRAM, draft_tokens=3, tokens_per_step=2.0)
"""Guesses three tokens without a model."""


def test_a_step_multiplies_each_guess_as_a_token() -> None:
    """3000 guesses: 2 x 11e6 x 3000 FLOP at 20 TFLOP/s and 14 x 2,000 B x 3000 at 20 GB/s: 7.5 ms.

    A part of it hides behind the weights' 1 ms.
    """
    plain, with_guesses = (guessed(way, decode=1000).compute_s for way in (PLAIN, LOOKUP))
    assert with_guesses - plain == pytest.approx((3.3 + 4.2) * MS, rel=0.1)


def test_guesses_share_one_pass_over_the_cache() -> None:
    """8 sequences x 1000 tokens x 4,000 B = 32 MB at 20 GB/s: 1.6 ms, with guesses or without."""
    plain, with_guesses = (guessed(way, decode=8).cache_s for way in (PLAIN, LOOKUP))
    assert plain == pytest.approx(1.6 * MS, rel=1e-2)
    assert with_guesses == pytest.approx(plain, rel=1e-2)


def test_a_drafter_runs_once_for_each_guess() -> None:
    """Three passes of a second toy model read its 22 MB three times: 3.3 ms at 20 GB/s."""
    drafter = model(head=True)
    way = replace(LOOKUP, method=Method.DRAFT_MODEL, drafter=drafter)
    alone = guessed(LOOKUP, decode=1)
    longer = guessed(way, decode=1).weights_s - alone.weights_s
    assert longer == pytest.approx(3 * 1.1 * MS, rel=2e-2)


def test_the_host_verifies_each_sequence() -> None:
    """1 ms a step and 0.1 ms for each of 8 sequences: 1.8 ms; nothing without guesses."""
    engine = replace(ENGINE, guess_step_s=1 * MS, guess_sequence_s=0.1 * MS)
    free = guessed(LOOKUP, decode=8).overhead_s
    assert guessed(LOOKUP, decode=8, engine=engine).overhead_s - free == pytest.approx(1.8 * MS)
    assert guessed(PLAIN, decode=8, engine=engine).overhead_s == pytest.approx(free)
