"""Intervals hold what they promise for groups that did not make them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from budsim.performance.learned.intervals import (
    Residuals,
    conformal_ends,
    grouped_ends,
    stratum_ends,
)
from budsim.performance.predictor import Predictor, load_predictor
from tests.performance.populations import population


def test_intervals_hold_their_value_and_widen(artefacts: Path) -> None:
    """Every interval contains the prediction, and the 90 % one contains the 80 % one."""
    for predictor in (load_predictor(artefacts), Predictor({})):
        predictions = predictor.predict(population(concurrency=[1, 8, 64]))[1]
        for value, by_coverage in (
            (predictions.service.ttft_s, predictions.ttft_s),
            (predictions.service.tpot_s, predictions.tpot_s),
            (predictions.service.e2e_s, predictions.e2e_s),
            (predictions.service.tokens_per_s_per_user, predictions.tokens_per_s_per_user),
        ):
            narrow, wide = by_coverage[0.8], by_coverage[0.9]
            ladder = np.stack([wide.low, narrow.low, value, narrow.high, wide.high])
            assert (np.diff(ladder, axis=0) >= 0).all()


def test_strangers_are_told_wider_ranges_where_requests_queue() -> None:
    """TPOT of a server that nobody measured is less sure under heavy load than under light load.

    Its TTFT is less sure for short prompts.
    """
    predictor = load_predictor()
    loads = predictor.predict(population(concurrency=[8, 4096]))[1].tpot_s[0.9]
    prompts = predictor.predict(population(input_tokens=[64, 8192]))[1].ttft_s[0.9]
    light, heavy = loads.high / loads.low
    short, long = prompts.high / prompts.low
    assert heavy > 1.2 * light
    assert short > 1.2 * long


def test_conformal_ends_hold_their_share() -> None:
    """Of 1..99, ninety per cent lie from 5 to 95 when the tails are equal."""
    assert conformal_ends(np.arange(1.0, 100.0), 0.9) == (5.0, 95.0)


def test_intervals_hold_rows_of_groups_that_did_not_make_them() -> None:
    """Ends made of ten groups hold nearly nine tenths of others' rows.

    Even where each group is off in its own way. Ends that take rows for independent then hold
    fewer; where rows are independent, both hold what they promise.
    """
    rng = np.random.default_rng(1)
    groups = np.repeat(np.arange(1000), 20)
    shares = {}
    for off in (1.0, 0.0):
        values = off * rng.standard_normal(1000)[groups] + 0.2 * rng.standard_normal(len(groups))
        unseen, held = values[groups >= 800], {"plain": 0.0, "grouped": 0.0}
        for part in range(80):
            other = groups // 10 == part
            made = {
                "plain": conformal_ends(values[other], 0.9),
                "grouped": grouped_ends(Residuals(values[other], groups[other]), 0.9),
            }
            for name, (low, high) in made.items():
                held[name] += float(np.mean((unseen >= low) & (unseen <= high))) / 80
        shares[off] = held
    assert shares[1.0]["grouped"] > max(shares[1.0]["plain"] + 0.04, 0.86)
    assert shares[0.0] == {name: pytest.approx(0.9, abs=0.03) for name in shares[0.0]}


def test_two_groups_are_no_surer_than_the_analytic_model() -> None:
    """However well two devices agree, a third may not: the ends are the analytic model's.

    From three on the residuals tell.
    """
    values, analytic = np.random.default_rng(0).normal(0.0, 0.05, 300), (-0.9, 0.9)
    two, three = (
        stratum_ends(Residuals(values, np.arange(300) % groups), 0.9, analytic) for groups in (2, 3)
    )
    assert two == analytic
    assert -0.2 < three[0] < three[1] < 0.2
