"""Every plan in every format: each file passes its real validator, each command its parser."""

import json

import pytest
import yaml

from budsim.commons.errors import InvalidInput
from budsim.simulator.rendering import FORMATS, render
from tests.simulator.rendering.reading import commands_of, flags_of
from tests.simulator.rendering.validators import check_compose, check_manifests
from tests.simulator.situations import make_cluster, make_question


@pytest.mark.parametrize("form", ["command", "compose", "kubernetes", "litellm"])
def test_every_kind_of_plan_renders_in_every_format(answered, form):
    """CUDA, ROCm, Gaudi and CPU, vLLM and SGLang: each file passes the validator of its format."""
    kinds = {}
    for number, plan in enumerate(answered["configurations"], start=1):
        told = [(g["type"], g["engine_type"], g["tp_size"] > 1) for g in plan["node_groups"]]
        kinds.setdefault(tuple(told), number)
    assert {kind[0][0] for kind in kinds} >= {"cuda", "rocm", "hpu", "cpu"}
    for number in kinds.values():
        text = render(json.dumps(answered), form, number=number)
        if form == "command":
            assert all(flags_of(words) for words in commands_of(text))
        elif form == "compose":
            check_compose(text)
        elif form == "kubernetes":
            check_manifests(text)
        else:
            assert yaml.safe_load(text)["model_list"]


def test_a_plan_of_several_device_types_is_one_deployment(document):
    """Groups on H100 and Gaudi behind one router: every replica is reached, by its speed."""
    cluster = make_cluster((("Gaudi3", 2),), (("H100-SXM", 1),))
    targets = {"ttft_s": 0.25, "tokens_per_s_per_user": 80.0}
    text = json.dumps(
        document(make_question(cluster, concurrency=120, targets=targets, analytic_only=True))
    )
    groups = json.loads(text)["configurations"][0]["node_groups"]
    assert {group["type"] for group in groups} == {"cuda", "hpu"}
    routes = yaml.safe_load(render(text, "litellm"))["model_list"]
    assert len(routes) == sum(group["replicas"] for group in groups)
    assert len({route["litellm_params"]["weight"] for route in routes}) > 1
    check_compose(render(text, "compose"))
    assert len(check_manifests(render(text, "kubernetes"))) == 2 * len(groups) + 3


def test_unknown_formats_and_numbers_are_refused_with_those_there_are(answered):
    """The formats and the number of plans are told."""
    with pytest.raises(InvalidInput, match="command, compose, kubernetes, litellm, recipe, kserve"):
        render(json.dumps(answered), "helm")
    with pytest.raises(InvalidInput, match=f"1 to {len(answered['configurations'])}"):
        render(json.dumps(answered), "command", number=99)
    assert {"alerts", "keda", "hpa"} <= set(FORMATS)
