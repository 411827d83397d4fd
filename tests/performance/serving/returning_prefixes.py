"""Requests whose prefixes return to caches of the device, of the host and of a shared store."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from budsim.performance.candidates import Candidates
from budsim.performance.predictor import AnalyticPredictor
from budsim.performance.prefixes import PrefixSet
from budsim.performance.serving.replay import replay
from budsim.performance.traffic import ClosedLoop, FixedLength, Traffic
from tests.performance.populations import population

LLAMA = "meta-llama/Llama-3.1-8B-Instruct"
ENOUGH_BYTES, ENOUGH_TOKENS = 1e16, 1e9
GB = 1e9


def served(engine: str = "vllm", model: str = LLAMA, **columns: object) -> Candidates:
    """Return a model on one H100, with prompts of 8,000 tokens that share nine of ten."""
    asked = {
        "input_tokens": 8000.0,
        "output_tokens": 200.0,
        "concurrency": 16.0,
        "prefix_hit_share": 0.9,
        "tp": 1,
        **columns,
    }
    return population(model=model, engine=engine, **asked)  # type: ignore[arg-type]


def returning(
    table: Candidates,
    set_tokens: float,
    host: float = 0.0,
    *,
    store: float = 0.0,
    speed: float = 0.0,
) -> Candidates:
    """Return the rows with a set of prefixes.

    A device has ``host`` bytes of host memory and reads ``speed`` bytes/s of a store of ``store``.
    """
    rows = np.ones(len(table))
    return replace(
        table,
        prefix_set_tokens=set_tokens * rows,
        unshared_tokens=table.input_tokens * (1.0 - table.prefix_hit_share) + table.output_tokens,
        tier_bytes=host * rows,
        store_bytes=store * rows,
        store_bytes_per_s=speed * rows,
    )


def ttft_s(table: Candidates) -> np.ndarray:
    """Return TTFT by the closed form, seconds."""
    return AnalyticPredictor().predict(table)[1].service.ttft_s


def assert_closed_form_is_near_replay(table: Candidates, *, set_tokens: float) -> None:
    """Check that TTFT and TPOT of `served` requests are within 25 % of a replay."""
    traffic = Traffic(
        arrivals=ClosedLoop(concurrency=16),
        prompt=FixedLength(tokens=8000),
        output=FixedLength(tokens=200),
        prefix=PrefixSet(share=0.9, tokens=set_tokens),
    )
    memory, found = AnalyticPredictor().predict(table)
    seen = replay(table, memory, traffic)
    assert found.service.tpot_s == pytest.approx(seen.tpot_s.mean, rel=0.25)
    assert found.service.ttft_s == pytest.approx(seen.ttft_s.mean, rel=0.25)
