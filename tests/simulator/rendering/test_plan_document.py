"""Plan documents: what is refused, and which field is named."""

import pytest

from budsim.commons.errors import InvalidInput
from budsim.simulator.rendering import render


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "not JSON"),
        ("[]", "not an object"),
        ("[" * 100_000, "not JSON"),
        ('{"recommendations": []}', "neither configurations nor node_groups"),
        ('{"configurations": 7}', "not a list"),
        ('{"configurations": [], "reasons": [{"reason": "too small"}]}', "too small"),
        ('{"node_groups": []}', "there are none"),
        ('{"node_groups": [7]}', "node_groups[0]"),
    ],
)
def test_what_is_no_plan_is_refused_with_what_would_be_one(text, says):
    """Each mistake is named by what is missing in the document."""
    with pytest.raises(InvalidInput) as refused:
        render(text, "command")
    assert says in str(refused.value)


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"engine_type": "trtllm"}, "PLAN.node_groups[0].engine_type"),
        ({"type": "tpu"}, "PLAN.node_groups[0].type"),
        ({"model": None}, "PLAN.node_groups[0].model"),
        ({"replicas": 2}, "PLAN.node_groups[0].placements"),
        ({"tp_size": 3}, "PLAN.node_groups[0].placements[0]"),
        (
            {"labels": {"device_name": "x", "concurrency": "many"}},
            "PLAN.node_groups[0].labels.concurrency",
        ),
        ({"memory": float("nan")}, "PLAN.node_groups[0].memory"),
        ({"weight_memory_gb": -1}, "PLAN.node_groups[0].weight_memory_gb"),
        ({"envs": {"A; rm": "x"}}, "PLAN.node_groups[0].envs"),
        ({"args": {"tensor-parallel-sise": 2}}, "args.tensor-parallel-sise"),
        ({"args": {"swap-space": 4}}, "args.swap-space"),
    ],
)
def test_groups_no_engine_would_start_are_refused_by_field(layout, changes, field):
    """Documents are edited by hand: arguments no parser takes and contradictions are named."""
    with pytest.raises(InvalidInput) as refused:
        render(layout("cuda", "vllm", {"a": 2}, **changes), "command")
    assert refused.value.field == field
