"""What the page shows of plans."""

from budsim.page.html import rendered
from budsim.page.views import answer_view
from budsim.performance.predictor import AnalyticPredictor
from budsim.simulator.planning.answer import answer
from budsim.simulator.planning.question import Disaggregation
from budsim.simulator.rendering import OF_POOLS
from tests.simulator.situations import make_cluster, make_question


def test_plans_of_pools_show_both_parts_and_the_router():
    """Each pool has its command, the router its own; what only whole replicas have is left out."""
    question = make_question(
        make_cluster((("H100-SXM", 8),)),
        concurrency=64,
        engines=frozenset({"vllm"}),
        disaggregation=Disaggregation.ONLY,
        analytic_only=True,
    )
    outcome = answer(question, AnalyticPredictor())
    view = answer_view(question, outcome, question.architecture.model_id, 640)
    first = view.plans[0]
    assert [group.part for group in first.groups] == ["prefill workers", "decode workers"]
    assert "each pool's workers requests in turn (round_robin)" in first.router.text
    assert first.router.command.startswith("vllm-router --vllm-pd-disaggregation")
    (answering,) = outcome.plans[0].answering
    assert float(first.requests_per_s.value) == float(
        f"{answering.replicas * answering.service.requests_per_s.value:.3g}"
    )
    assert set(first.forms) == {*OF_POOLS} - {"recipe"}
    html = rendered("answer.html", view=view, name="", note="")
    assert "Start the router before both pools" in html
    assert "Load against latency" in html


def test_only_formats_that_can_start_a_plan_are_offered():
    """Scaling needs a day's traffic, and a recipe is of checkpoints that are quantized."""
    question = make_question(make_cluster((("H100-SXM", 1),)), analytic_only=True)
    outcome = answer(question, AnalyticPredictor())
    forms = answer_view(question, outcome, question.architecture.model_id, 640).plans[0].forms
    assert {"command", "compose", "kubernetes", "alerts"} <= set(forms)
    assert not {"keda", "hpa", "recipe"} & set(forms)


def test_plans_of_one_layout_are_told_apart_by_engine_and_weights():
    """Two engines on the same device stand in a table under two names."""
    question = make_question(make_cluster((("H100-SXM", 1),)), analytic_only=True)
    outcome = answer(question, AnalyticPredictor())
    view = answer_view(question, outcome, question.architecture.model_id, 640)
    titles = [plan.titles for plan in view.plans]
    assert len(set(titles)) == len(titles) > 1
    assert titles[0] == ("1 x H100-SXM tp1, vllm, bf16",)
