"""Alert rules watch the predicted ranges with the engine's own metrics."""

from __future__ import annotations

import re

import pytest
import yaml

from budsim.commons.errors import InvalidInput
from budsim.simulator.rendering import render

REPLAYED = {
    "ttft": {"mean": 100.0, "p50": 90.0, "p90": 150.0, "p95": 180.0, "p99": 300.0},
    "itl": {"mean": 10.0, "p50": 10.0, "p90": 11.0, "p95": 12.0, "p99": 15.0},
    "tpot": {"mean": 10.0, "p50": 10.0, "p90": 11.0, "p95": 12.0, "p99": 15.0},
    "e2e_latency": {"mean": 2.0, "p50": 2.0, "p90": 2.5, "p95": 3.0, "p99": 4.0},
    "requests_per_s": 5.0,
    "good_share": 1.0,
    "running": 5.0,
    "waiting": 0.0,
    "utilisation": 0.5,
    "largest_stable_rate": 10.0,
    "margin": 0.5,
}
SURE = {
    "basis": "analytic",
    "in_range": True,
    "bound_by": "compute",
    "ttft": {"low": 50.0, "high": 200.0},
    "throughput_per_user": {"low": 50.0, "high": 150.0},
    "e2e_latency": {"low": 1.0, "high": 3.0},
}
PREDICTED = {"ttft": 100.0, "e2e_latency": 2.0, "confidence": SURE, "requests": REPLAYED}


def rules(text: str) -> dict[str, dict]:
    """Return the rules of a file by their names."""
    (group,) = yaml.safe_load(text)["spec"]["groups"]
    return {rule["alert"]: rule for rule in group["rules"]}


def limit(rule: dict) -> float:
    """Return what an expression compares with, s."""
    return float(re.split("[<>]", rule["expr"])[-1])


@pytest.mark.parametrize("engine", ["vllm", "sglang"])
def test_limits_are_the_predicted_ranges(layout, engine):
    """Means are held against their range, percentiles against the same range in proportion."""
    found = rules(render(layout("cuda", engine, {"a": 2}, **PREDICTED), "alerts"))
    assert limit(found["TtftAbovePrediction"]) == pytest.approx(0.2)
    assert limit(found["TtftBelowPrediction"]) == pytest.approx(0.05)
    assert limit(found["TtftP99AbovePrediction"]) == pytest.approx(0.6)
    assert limit(found["EndToEndP99BelowPrediction"]) == pytest.approx(2.0)
    assert f"{engine}:time_to_first_token_seconds_bucket" in found["TtftP99AbovePrediction"]["expr"]


def test_a_plan_that_was_not_replayed_has_no_percentiles(layout):
    """Without a replay only means are watched."""
    plan = layout("cuda", "vllm", {"a": 2}, **{**PREDICTED, "requests": None})
    assert not any("P99" in name for name in rules(render(plan, "alerts")))


def test_sglang_says_that_it_exports_only_when_told(layout):
    """The heading names the switch without which the engine exports nothing."""
    assert "--enable-metrics" in render(layout("cuda", "sglang", {"a": 2}, **PREDICTED), "alerts")


def test_a_document_without_ranges_is_refused(layout):
    """Nothing was promised where nothing was predicted."""
    with pytest.raises(InvalidInput, match="no predicted ranges"):
        render(layout("cuda", "vllm", {"a": 2}, confidence=None), "alerts")
