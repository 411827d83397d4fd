"""The drawing of cost against speed."""

from dataclasses import replace

from budsim.page.front_chart import front_view
from tests.simulator.serving import CLUSTER_ID, figure, plan
from tests.simulator.situations import make_cluster, make_question


def made(cost, speed, *, is_knee=False, error_rate=0.0):
    """Return a plan of a cost and a speed."""
    found = plan(CLUSTER_ID, config_id="c", cost=cost, error_rate=error_rate)
    (group,) = found.groups
    service = replace(group.service, tokens_per_s_per_user=figure(speed))
    group = replace(group, service=service, shortfall=error_rate)
    return replace(found, groups=(group,), tokens_per_s_per_user=speed, is_knee=is_knee)


def drawn(*plans):
    """Return the drawing of plans, 640 pixels wide."""
    return front_view(
        make_question(make_cluster((("H100-SXM", 8),)), targets={"ttft_s": 1.0}), plans, 640
    )


def test_cheap_is_low_and_fast_is_right():
    """The dearer and faster of two plans lies above and to the right, within its range."""
    cheap, fast = drawn(made(1.0, 20.0), made(4.0, 40.0)).points
    assert fast.x > cheap.x
    assert fast.y < cheap.y
    assert cheap.low < cheap.x < cheap.high


def test_the_knee_and_a_miss_are_marked_and_named():
    """The knee is marked and named, and so is a plan that misses the targets."""
    knee, missing = drawn(made(1.0, 20.0, is_knee=True), made(2.0, 30.0, error_rate=0.5)).points
    assert (knee.is_knee, missing.is_knee) == (True, False)
    assert (knee.meets, missing.meets) == (True, False)
    assert "the knee" in knee.title
    assert "misses the targets" in missing.title


def test_the_line_joins_only_plans_that_none_beats():
    """A plan that is dearer and slower than another is not on the line."""
    view = drawn(made(1.0, 20.0), made(3.0, 15.0), made(4.0, 40.0))
    first, _, third = view.points
    assert view.line == f"{first.x},{first.y} {third.x},{third.y}"


def test_plans_without_cost_are_not_drawn():
    """A plan whose cost is not finite has no place in the drawing; without others there is none."""
    assert drawn(made(float("inf"), 20.0)) is None
