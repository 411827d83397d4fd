"""A plan as a compose file."""

import pytest
import yaml

from budsim.commons.errors import InvalidInput
from budsim.simulator.rendering import render
from tests.simulator.rendering.validators import check_compose


def test_compose_starts_each_node_by_its_profile(layout):
    """Services of two nodes carry their node's profile.

    The router's requests reach every replica at its node and port.
    """
    compose = check_compose(render(layout("cuda", "vllm", {"a": 2}, {"a": 2}, {"b": 2}), "compose"))
    assert {name: each["profiles"] for name, each in compose["services"].items()} == {
        "g1-r1": ["a"],
        "g1-r2": ["a"],
        "g1-r3": ["b"],
        "router": ["router"],
    }
    asked = compose["services"]["g1-r2"]["deploy"]["resources"]["reservations"]["devices"][0]
    assert asked["device_ids"] == ["2", "3"]
    routes = yaml.safe_load(compose["configs"]["router"]["content"])["model_list"]
    assert [route["litellm_params"]["api_base"] for route in routes] == [
        "http://a:8000/v1",
        "http://a:8100/v1",
        "http://b:8000/v1",
    ]


def test_nodes_compose_cannot_name_are_refused(layout):
    """A node called like the router, or with a space, would be another profile."""
    for node in ("router", "rack 1"):
        with pytest.raises(InvalidInput, match="profile"):
            render(layout("cuda", "vllm", {node: 2}), "compose")
