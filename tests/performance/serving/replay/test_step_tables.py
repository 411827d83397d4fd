"""Tables of step times against the physics they were read from."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from budsim.commons.precision import Precision
from budsim.performance.physics.operators import step_time
from budsim.performance.physics.ranks import prepare
from budsim.performance.serving.replay import step_tables as module
from budsim.performance.serving.replay.step_tables import (
    ASKED,
    CONTEXTS,
    TOKENS,
    PartTables,
    StepTables,
    step_tables,
)
from budsim.performance.speculation import Speculation
from tests.performance.populations import population

WORST = 0.005
"""The largest error allowed, relative to the physics."""
CASES = {
    "dense, tensor parallel": {"tp": 4},
    "dense, pipeline": {"tp": 2, "pp": 4},
    "experts": {"model": "openai/gpt-oss-120b", "tp": 2, "engine": "sglang"},
    "latent attention, ranks": {"model": "deepseek-ai/DeepSeek-R1", "tp": 8, "ep": 8, "dp": 8},
    "engine with a slow host": {"engine": "vllm(2023)", "tp": 2},
    "processor": {"device": "Xeon Platinum 8480+", "engine": "vllm-cpu", "tp": 1},
    "llama.cpp": {"device": "Xeon Platinum 8480+", "engine": "llama.cpp-cpu", "tp": 1},
    "llama.cpp, one cache": {"device": "EPYC 9654", "engine": "llama.cpp-cpu(one cache)", "tp": 1},
}


def interpolated(table: np.ndarray, at: np.ndarray, knots: np.ndarray) -> np.ndarray:
    """Return the first row of a table at these points; beyond its end the last piece goes on."""
    piece = np.clip(np.searchsorted(knots, at, side="right") - 1, 0, len(knots) - 2)
    share = (at - knots[piece]) / (knots[piece + 1] - knots[piece])
    return table[0, piece] + share * (table[0, piece + 1] - table[0, piece])


def part_seconds(part: PartTables, load: dict[str, np.ndarray], look: np.ndarray) -> np.ndarray:
    """Return the seconds the sum of the tables gives for one part of a step."""
    prefill, decode = load["prefill"], load["decode"]
    beside = interpolated(part.beside, decode, TOKENS)
    mixed = interpolated(part.prefill, prefill + decode, TOKENS) + np.where(decode > 0, beside, 0)
    alone = interpolated(part.decode, decode, TOKENS)
    shared = np.clip((decode - 1.0) / 7.0, 0.0, 1.0)
    return (
        np.where(prefill > 0, mixed, alone)
        + decode * interpolated(part.decode_context, look, CONTEXTS)
        + prefill * interpolated(part.prefill_context, load["prefill_context"], CONTEXTS)
        + shared * interpolated(part.attended, load["decode_attended"], CONTEXTS)
    )


def seconds(tables: StepTables, load: dict[str, np.ndarray]) -> np.ndarray:
    """Return step times from the tables as the kernel joins them."""
    overlap = float(tables.overlap[0])
    if overlap <= 1.0:
        return part_seconds(tables.rest, load, load["decode_context"])
    rest = part_seconds(tables.rest, load, load["decode_attended"])
    traffic = part_seconds(tables.traffic, load, load["decode_context"])
    return (rest**overlap + traffic**overlap) ** (1.0 / overlap)


def steps(count: int, multiplies_cache: bool) -> dict[str, np.ndarray]:
    """Return random steps: half decode alone, a quarter prefill alone, the rest mix."""
    rng = np.random.default_rng(0)
    kind = rng.random(count)
    decode = np.where(kind < 0.75, np.rint(2.0 ** rng.uniform(0, 10, count)), 0.0)
    context = 2.0 ** rng.uniform(3, 15, count)
    return {
        "prefill": np.where(kind > 0.5, np.rint(2.0 ** rng.uniform(0, 14, count)), 0.0),
        "decode": decode,
        "prefill_context": 2.0 ** rng.uniform(0, 15, count),
        "decode_context": context,
        "decode_attended": context * (np.maximum(decode, 1.0) if multiplies_cache else 1.0),
    }


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_any_step_is_within_half_a_percent_of_the_physics(case: dict[str, object]) -> None:
    """2,000 random steps, of 1 to 16,384 prompt tokens and 1 to 1,024 sequences."""
    columns = {"model": "meta-llama/Llama-3.1-8B-Instruct", "precision": Precision.BF16, **case}
    tables = step_tables(population(**columns))
    load = steps(2000, bool(tables.multiplies_cache[0]))
    repeated = population(**{**columns, "tp": [columns["tp"]] * 2000})
    physics = step_time(prepare(repeated), **load).total_s
    assert seconds(tables, load) == pytest.approx(physics, rel=WORST)


def test_rows_keep_their_order_when_some_overlap() -> None:
    """Tables of a mixed population are those of each candidate alone."""
    alone = [population(tp=tp, model="meta-llama/Llama-3.1-8B-Instruct") for tp in (1, 2, 4)]
    together = population(tp=[1, 2, 4], model="meta-llama/Llama-3.1-8B-Instruct")
    whole = step_tables(together)
    for row, each in enumerate(alone):
        assert whole.rest.decode[row] == pytest.approx(step_tables(each).rest.decode[0])


def test_the_physics_are_asked_at_few_points_that_are_all_knots() -> None:
    """Every asked point is a knot of the tables, and they are fewer."""
    assert np.isin(ASKED, TOKENS).all()
    assert len(ASKED) < 0.65 * len(TOKENS)


def test_a_token_takes_its_share_of_a_step_that_yields_several() -> None:
    """Guesses that cost nothing and are all right: two tokens a step, each half of it."""
    plain = population(model="meta-llama/Llama-3.1-8B-Instruct", tp=1)
    plain = replace(plain, engines=(replace(plain.engines[0], guess_step_s=0.0),))
    way = Speculation(draft_tokens=1, tokens_per_step=2.0)
    guessing = replace(plain, speculations=(way,), speculation=np.zeros(1, dtype=np.int64))
    one, two = step_tables(plain).rest, step_tables(guessing).rest
    assert two.decode[0, 1] == pytest.approx(one.decode[0, 1] / 2.0, rel=0.02)
    assert two.decode_context[0, 20] == pytest.approx(one.decode_context[0, 20] / 2.0, rel=0.02)
    assert two.prefill[0] == pytest.approx(one.prefill[0])
    assert step_tables(guessing).tokens_per_step.tolist() == [2.0]


def test_rows_that_differ_in_their_load_alone_share_tables(monkeypatch) -> None:
    """Three loads of two layouts: the physics time two rows, and all six get tables."""
    timed, real = [], module.prepare

    def counted(candidates, constants):
        timed.append(len(candidates))
        return real(candidates, constants)

    monkeypatch.setattr(module, "prepare", counted)
    loads = [4.0, 4.0, 16.0, 16.0, 64.0, 64.0]
    tables = step_tables(population(tp=[1, 2] * 3, concurrency=loads, max_num_seqs=loads))
    assert timed == [2]
    assert len(tables) == 6
    decode = tables.rest.decode
    assert (decode[::2] == decode[0]).all()
    assert (decode[1::2] == decode[1]).all()
    assert (decode[0] != decode[1]).any()
