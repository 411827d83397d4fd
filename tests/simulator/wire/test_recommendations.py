"""Plans as callers read them."""

from budsim.performance.predictor import AnalyticPredictor
from budsim.simulator.planning.answer import answer
from budsim.simulator.schemas import ClusterMetrics, DeploymentConfiguration, stored_plans
from tests.simulator.situations import make_cluster, make_question


def test_a_mix_is_answered_as_several_node_groups():
    """Two device types: a node group and an entry of device_types each, which add up."""
    cluster = make_cluster((("A100-SXM4-80GB", 1),), (("H100-SXM", 1),))
    targets = {"ttft_s": 0.25, "tokens_per_s_per_user": 80.0}
    question = make_question(cluster, concurrency=60, targets=targets, analytic_only=True)
    stored = stored_plans(answer(question, AnalyticPredictor()), question, keep=1)[0]
    groups, metrics = (
        DeploymentConfiguration.of(stored).node_groups,
        ClusterMetrics.of(stored).metrics,
    )
    assert {group.device_name for group in groups} == {"A100-SXM4-80GB", "H100-SXM"}
    assert len({group.config_id for group in groups}) == 2
    for group, share in zip(groups, metrics.device_types, strict=True):
        assert share.num_replicas == group.replicas
        assert share.concurrency == group.replicas * int(group.labels.concurrency)
        assert share.cost_per_million_tokens == group.cost_per_million_tokens
    assert metrics.replica == sum(share.num_replicas for share in metrics.device_types)
    assert 60 <= metrics.concurrency == sum(share.concurrency for share in metrics.device_types)
    cheapest, dearest = sorted(share.cost_per_million_tokens for share in metrics.device_types)
    assert cheapest < metrics.cost_per_million_tokens < dearest
    assert metrics.ttft == max(group.ttft for group in groups)
