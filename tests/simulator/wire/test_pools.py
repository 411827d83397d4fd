"""Disaggregated deployments on the wire."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from pydantic import ValidationError

from budsim.performance.predictor import AnalyticPredictor
from budsim.simulator.planning.answer import answer
from budsim.simulator.planning.energy import energy_of
from budsim.simulator.planning.question import Disaggregation, Question
from budsim.simulator.planning.targets import Targets
from budsim.simulator.schemas import (
    ClusterMetrics,
    DeploymentConfiguration,
    RunRequest,
    stored_plans,
)
from budsim.simulator.wire.recommendations import _nearest_reason
from tests.simulator.situations import make_cluster, make_question


@pytest.fixture(scope="module")
def question() -> Question:
    """Return a question about pools on four H100."""
    return make_question(
        make_cluster((("H100-SXM", 4),)),
        engines=frozenset({"vllm"}),
        disaggregation=Disaggregation.ONLY,
        analytic_only=True,
    )


def test_node_groups_state_their_part(question: Question) -> None:
    """A plan of two pools has two node groups; requests that both serve are counted once."""
    outcome = answer(question, AnalyticPredictor())
    stored = stored_plans(outcome, question, keep=1)[0]
    groups = DeploymentConfiguration.of(stored).node_groups
    assert [group.role for group in groups] == ["prefill", "decode"]
    told = ClusterMetrics.of(stored).metrics.requests_per_s
    assert told == pytest.approx(outcome.plans[0].requests_per_s)
    # 32 requests are in flight, whichever pool they are in.
    decode = outcome.plans[0].answering[0]
    assert stored.concurrency == decode.replicas * decode.config.concurrency < 64


def test_energy_counts_requests_once(question: Question) -> None:
    """Power of both pools over the tokens of one of them."""
    plan = answer(question, AnalyticPredictor()).plans[0]
    whole, decode = energy_of(question, plan.groups), energy_of(question, plan.answering)
    assert whole.power_w > decode.power_w
    ratio = whole.kwh_per_million_tokens / decode.kwh_per_million_tokens
    assert ratio == pytest.approx(whole.power_w / decode.power_w)


def test_whole_replicas_have_no_role() -> None:
    """Documents of plain plans are as they were."""
    question = make_question(make_cluster((("H100-SXM", 1),)), analytic_only=True)
    stored = stored_plans(answer(question, AnalyticPredictor()), question, keep=1)[0]
    assert (
        "role" not in DeploymentConfiguration.of(stored).model_dump(mode="json")["node_groups"][0]
    )


def test_a_request_asks_for_pools_by_name(body: dict[str, Any]) -> None:
    """Off unless asked; other words are refused, and what is not said is not stored."""
    assert RunRequest.model_validate(body).disaggregated is Disaggregation.OFF
    assert "disaggregated" not in RunRequest.model_validate(body).stored()
    asked = RunRequest.model_validate(body | {"disaggregated": "also"})
    assert asked.disaggregated is Disaggregation.ALSO
    with pytest.raises(ValidationError, match="disaggregated"):
        RunRequest.model_validate(body | {"disaggregated": "maybe"})


def test_the_nearest_deployment_is_told_with_both_pools(question: Question) -> None:
    """Where everything misses, the reason names prefill and decode workers."""
    hard = replace(question, targets=Targets(ttft_s=0.001))
    stored = stored_plans(answer(hard, AnalyticPredictor()), hard, keep=1)[0]
    told = _nearest_reason(stored).subject
    assert told.startswith("nearest: prefill: ")
    assert " + decode: " in told
