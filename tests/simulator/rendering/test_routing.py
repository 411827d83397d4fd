"""A plan as LiteLLM's configuration."""

import json

import pytest
import yaml

from budsim.commons.errors import NotFound
from budsim.simulator.rendering import Additions, render
from tests.simulator.rendering.validators import check_compose, check_manifests


def test_the_router_weighs_groups_by_speed_and_catches_what_fails(answered):
    """A group half as fast per replica gets half the weight; limits are what was predicted.

    Gpt-4o is the fallback.
    """
    group = answered["configurations"][0]["node_groups"][0]
    half = {**group, "e2e_latency": group["e2e_latency"] * 2}
    text = json.dumps({**answered, "configurations": [{"node_groups": [group, half]}]})
    config = yaml.safe_load(render(text, "litellm", additions=Additions(fallbacks=("gpt-4o",))))
    fast, slow, provider = (route["litellm_params"] for route in config["model_list"])
    assert (fast["weight"], slow["weight"]) == (100, 50)
    assert fast["rpm"] == round(60 * int(group["labels"]["concurrency"]) / group["e2e_latency"])
    assert fast["tpm"] == fast["rpm"] * (512 + 128)
    assert provider["model"] == "openai/gpt-4o"
    assert config["router_settings"]["fallbacks"] == [
        {"meta-llama/Llama-3.1-8B-Instruct": ["gpt-4o"]}
    ]
    with pytest.raises(NotFound, match="gpt-4oo"):
        render(text, "litellm", additions=Additions(fallbacks=("gpt-4oo",)))


def test_a_providers_model_is_a_proxy_alone():
    """What the service answers for a cloud model renders as the proxy and nothing else."""
    group = {
        "config_id": "c",
        "name": "cpu",
        "labels": {"device_name": "cpu", "concurrency": "8"},
        "type": "cpu",
        "engine_type": "litellm",
        "tp_size": 1,
        "pp_size": 1,
        "envs": {},
        "args": {"model": "gpt-4o"},
        "replicas": 1,
        "image": "berriai/litellm",
        "memory": 0.0,
        "hardware_mode": "dedicated",
        "ttft": None,
        "throughput_per_user": None,
        "e2e_latency": None,
        "error_rate": 0.0,
        "cost_per_million_tokens": 12.5,
        "device_name": "cpu",
        "device_model": "cpu",
        "raw_name": "cpu",
        "weight_memory_gb": 0.0,
        "kv_cache_memory_gb": 0.0,
    }
    text = json.dumps({"node_groups": [group]})
    assert (
        yaml.safe_load(render(text, "litellm"))["model_list"][0]["litellm_params"]["model"]
        == "openai/gpt-4o"
    )
    pulled = yaml.safe_load(render(text, "compose"))["services"].values()
    assert [service["image"] for service in pulled] == ["ghcr.io/berriai/litellm:main-stable"]
    assert [each["kind"] for each in check_manifests(render(text, "kubernetes"))] == [
        "ConfigMap",
        "Deployment",
        "Service",
    ]
    assert list(check_compose(render(text, "compose"))["services"]) == ["router"]
