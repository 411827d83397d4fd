"""Chances from intervals, against the numbers the intervals themselves state."""

from dataclasses import replace

import numpy as np
import pytest

from budsim.commons.errors import InvalidInput
from budsim.performance.predictions import Interval, Predictions, Service
from budsim.performance.predictor import AnalyticPredictor, load_predictor
from budsim.simulator.planning.answer import answer
from budsim.simulator.planning.chances import (
    OF_SEVERAL,
    Residuals,
    chance_text,
    joint,
    judge,
    score_of,
)
from budsim.simulator.planning.question import chance_of
from budsim.simulator.planning.targets import PercentileTarget, Targets, figures_of
from tests.simulator.situations import make_cluster, make_question

VALUE = np.array([1.0])
ENDS = {0.8: (0.7, 1.5), 0.9: (0.6, 2.0)}


def intervals(scale: float) -> dict[float, Interval]:
    """Return intervals from 0.7 to 1.5 (80 %) and 0.6 to 2.0 (90 %) times a value."""
    return {
        coverage: Interval(low=low * scale * VALUE, high=high * scale * VALUE)
        for coverage, (low, high) in ENDS.items()
    }


def predicted(ttft_s: float = 1.0, tpot_s: float = 0.05) -> Predictions:
    """Return one row with the same relative intervals around every figure."""
    e2e_s = ttft_s + 100 * tpot_s
    yes = np.array([True])
    return Predictions(
        service=Service(
            ttft_s=ttft_s * VALUE,
            tpot_s=tpot_s * VALUE,
            output_tokens=101.0 * VALUE,
            concurrency=VALUE,
        ),
        ttft_s=intervals(ttft_s),
        tpot_s=intervals(tpot_s),
        e2e_s=intervals(e2e_s),
        tokens_per_s_per_user=intervals(1 / tpot_s),
        learned=yes,
        in_range=yes,
        measured=~yes,
        time_s=np.ones((6, 1)),
    )


def chance(targets: Targets, asked: float = 0.8) -> float:
    """Return the chance that the usual row meets some targets."""
    rows = predicted()
    return float(judge(targets, figures_of(rows.service), rows, asked).chance[0])


@pytest.mark.parametrize(
    ("limit", "expected"),
    [(1.0, 0.5), (1.5, 0.9), (2.0, 0.95), (0.7, 0.1), (0.6, 0.05), (1e6, 1.0)],
)
def test_a_limit_at_the_end_of_an_interval_has_its_chance(limit, expected):
    """The upper end of the 80 % interval is exceeded by one measurement of ten.

    That of 90 % by one of twenty.
    """
    assert chance(Targets(ttft_s=limit)) == pytest.approx(expected, abs=1e-3)


def test_servers_like_it_that_were_slower_than_predicted_make_a_coin_toss_of_more():
    """Half of them took 1.2 times as long: that limit is a coin toss, and the figure itself less.

    What the intervals say of their ends stays.
    """
    rows = replace(predicted(), middles={"ttft": np.log(1.2) * VALUE})
    chances = [
        float(judge(Targets(ttft_s=limit), figures_of(rows.service), rows, 0.8).chance[0])
        for limit in (1.0, 1.2, 1.5)
    ]
    assert 0.2 < chances[0] < 0.45
    assert chances[1:] == pytest.approx([0.5, 0.9], abs=1e-3)


def test_a_rate_is_as_likely_as_the_time_per_token():
    """13.3 tokens/s are 1.5 times the 0.05 s predicted for a token: nine of ten."""
    assert chance(Targets(tokens_per_s_per_user=20 / 1.5)) == pytest.approx(0.9, abs=1e-3)


def test_two_targets_are_met_less_often_than_each():
    """Two chances of 0.9 are between 0.81 (independent) and 0.9 (for the same cause)."""
    both = chance(Targets(ttft_s=1.5, tokens_per_s_per_user=20 / 1.5))
    assert 0.81 < both < 0.9


def test_targets_on_one_quantity_are_met_together_more_often_than_on_two():
    """TTFT and its p99 err for one cause, TTFT and speed mostly for two."""
    of_one, of_two = (
        float(joint([("ttft", 0.8 * VALUE), (other, 0.8 * VALUE)])[0]) for other in ("ttft", "tpot")
    )
    assert 0.64 < of_two < of_one < 0.8
    # Of a party's rows as many as of 1.4 and 1.7 independent targets (scripts/check_chances.py).
    assert np.log([of_one, of_two]) / np.log(0.8) == pytest.approx([1.4, 1.7], abs=0.1)


def test_a_percentile_is_as_sure_as_percentiles_were_measured_to_be():
    """A p99 with wider ranges than its mean keeps a limit less often.

    Where the site measured the mean, its range holds for both. Gaps between tokens have the ranges
    of the p99 per token.
    """
    rows = predicted()
    wide = {c: Interval(low=each.low / 2, high=each.high * 2) for c, each in intervals(3.0).items()}
    less_sure = replace(rows, percentiles={"ttft_p99": wide, "tpot_p99": wide})
    figures = {"ttft_p99_s": 3.0 * VALUE, "tpot_p99_s": 3.0 * VALUE, "itl_p99_s": 3.0 * VALUE}
    for latency in ("ttft", "itl"):
        targets = Targets(percentiles=(PercentileTarget(latency=latency, percent=99, limit_s=4.5),))
        chances = [
            float(judge(targets, figures, each, 0.8).chance[0])
            for each in (rows, less_sure, replace(less_sure, measured=np.array([True])))
        ]
        assert chances[0] == chances[2] == pytest.approx(0.9, abs=1e-3)
        assert chances[1] < 0.75


def test_a_shortfall_ends_where_the_chance_is_as_asked():
    """With a limit whose chance is 0.9, 0.8 is met and 0.95 is not; best estimates are met at 0."""
    rows = predicted()
    targets, figures = Targets(ttft_s=1.5), figures_of(rows.service)
    short = {
        asked: float(judge(targets, figures, rows, asked).shortfall[0])
        for asked in (0.0, 0.8, 0.95)
    }
    assert short[0.0] == short[0.8] == 0.0
    assert short[0.95] > 0.0
    assert judge(targets, figures, rows, 0.95).missed[0] == 0.0


@pytest.mark.parametrize("asked", [0.0, 0.5, 0.8])
def test_of_two_that_surely_miss_the_one_that_misses_more_falls_shorter(asked):
    """Six times too slow is further off than twice too slow, although both have no chance."""
    targets = Targets(tokens_per_s_per_user=30.0)
    judged = [
        judge(targets, figures_of(rows.service), rows, asked)
        for rows in (predicted(tpot_s=1 / 5), predicted(tpot_s=1 / 15))
    ]
    assert [float(each.chance[0]) for each in judged] == pytest.approx([0.0, 0.0], abs=0.05)
    slow, slower = (float(each.shortfall[0]) for each in reversed(judged))
    assert slower > 1.2 * slow


def test_a_chance_that_is_too_small_falls_short_where_best_estimates_do_not():
    """Two targets that are both met with 0.7 are met together with 0.57: 0.23 less than 0.8."""
    rows = predicted()
    limit = float(np.exp(Residuals.of(VALUE, intervals(1.0)).high80[0] * 0.5244 / 1.2816))
    judged = judge(
        Targets(ttft_s=limit, tokens_per_s_per_user=20.0 / limit),
        figures_of(rows.service),
        rows,
        0.8,
    )
    assert judged.missed[0] == 0.0
    assert judged.shortfall[0] == pytest.approx(0.8 - 0.7 ** (2.0 - OF_SEVERAL), abs=1e-3)


def test_without_targets_everything_is_sure():
    """Nothing can be missed where nothing is asked for."""
    assert chance(Targets()) == 1.0


def test_the_first_plan_does_not_sit_on_the_edge():
    """Asked for 0.8, the best plan has that chance.

    Costs no less than the best estimate's best.
    """
    cluster = make_cluster((("H100-SXM", 8),))
    question = make_question(cluster, targets={"ttft_s": 0.5, "tokens_per_s_per_user": 60.0})
    predictor = load_predictor()
    sure = answer(replace(question, chance=0.8), predictor).plans[0]
    edge = answer(question, predictor).plans[0]
    assert sure.meets_targets
    assert sure.chance >= 0.8
    assert sure.cost_per_million_tokens_usd >= edge.cost_per_million_tokens_usd


def test_a_plan_likely_to_miss_says_so_in_the_reason():
    """Where best estimates meet the targets but not with the chance asked for.

    The reason tells both chances.
    """
    question = make_question(make_cluster((("L4", 1),)), concurrency=1)
    ttft_s = answer(question, AnalyticPredictor()).plans[0].ttft_s
    tight = replace(question, targets=Targets(ttft_s=1.01 * ttft_s), chance=0.8)
    outcome = answer(tight, AnalyticPredictor())
    assert outcome.plans[0].error_rate == 0.0
    assert not outcome.plans[0].meets_targets
    assert any("80% was asked for" in each.reason for each in outcome.rejections)


@pytest.mark.parametrize(
    ("risk", "expected"),
    [(None, 0.8), ("expected", 0.0), ("cautious", 0.95), ("0.7", 0.7), (0.9, 0.9)],
)
def test_a_risk_is_a_chance_or_a_word(risk, expected):
    """Numbers are taken as they are, the two words stand for numbers."""
    assert chance_of(risk) == expected


@pytest.mark.parametrize("risk", ["often", "1.0", -0.1, float("nan")])
def test_other_risks_are_refused(risk):
    """A word nobody knows, certainty, and numbers that are no chance."""
    with pytest.raises(InvalidInput, match="risk"):
        chance_of(risk)


def test_a_chance_that_is_too_small_is_not_rounded_to_what_was_asked():
    """79.98 % where 80 % is asked for is told as less than 80 %."""
    assert [chance_text(each) for each in (0.7998, 0.8, 0.05)] == ["79.9%", "80%", "5%"]


def test_scores_are_quantiles_of_a_normal_law():
    """0 of one half, 1.28 of 0.9, and never more than 5 in size."""
    scores = score_of(np.array([0.5, 0.9, 0.1, 1.0, 0.0]))
    assert scores == pytest.approx([0.0, 1.2816, -1.2816, 5.0, -5.0], abs=1e-4)
