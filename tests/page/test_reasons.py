"""Why a plan is in the answer, in sentences."""

from dataclasses import replace

from budsim.page.reasons import limits, why
from budsim.simulator.planning.plans import Outcome
from tests.page.test_front_chart import made
from tests.simulator.situations import make_cluster, make_question


def told(*plans, index=0, **targets):
    """Return why plan ``index`` is in an answer of these plans."""
    question = make_question(make_cluster((("H100-SXM", 8),)), targets=targets)
    return why(question, Outcome(plans=plans, rejections=(), evaluations=1), index)


def test_the_cheapest_plan_is_said_to_be_cheapest():
    """The cheaper of two plans is the cheapest, and not the fastest."""
    reasons = told(made(1.0, 20.0), made(4.0, 40.0))
    assert "Cheapest per token of the plans." in reasons
    assert "Most tokens/s per user of the plans." not in reasons


def test_the_only_plan_within_the_targets_is_named_so():
    """Where one plan alone meets the targets, that is the reason."""
    reasons = told(made(1.0, 20.0), made(0.5, 30.0, error_rate=0.5), ttft_s=1.0)
    assert reasons == ("The only plan that meets the targets.",)


def test_later_plans_are_told_against_the_first():
    """The second plan costs four times as much and is twice as fast."""
    last = told(made(1.0, 20.0), made(4.0, 40.0), index=1)[-1]
    assert last == "Against plan 1: cost per token +300 %, tokens/s per user +100 %."


def test_a_missed_target_and_room_to_another_are_told():
    """A headroom below 0 is a miss; above 0 it is how much worse the figure may get."""
    plan = made(1.0, 20.0)
    (group,) = plan.groups
    explanation = replace(
        group.explanation, headroom={"ttft_s": -0.2, "e2e_s": 0.5}, next_replica=None
    )
    plan = replace(plan, groups=(replace(group, explanation=explanation),))
    assert limits(plan) == (
        "Speed is bound by weight bandwidth.",
        "TTFT mean misses its target by 20%.",
        "end to end mean may get 50% worse before its target is missed.",
    )
