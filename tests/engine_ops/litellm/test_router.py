"""LiteLLM: the proxy's configuration, and providers' prices."""

from __future__ import annotations

import pytest
import yaml

from budsim.commons.errors import InvalidInput, NotFound
from budsim.engine_ops.base import RouteTarget
from budsim.engine_ops.litellm import STRATEGIES, Litellm
from budsim.simulator.rendering.writing import yaml_text

ROUTER = Litellm()
FAST = RouteTarget(
    api_base="http://replica-0:8000/v1",
    engine="vllm",
    weight=3000.0,
    requests_per_min=120,
    tokens_per_min=90_000,
)
SLOW = RouteTarget(api_base="http://replica-1:30000/v1", engine="sglang", weight=1000.0)


def test_requests_are_weighted_by_speed() -> None:
    """A replica a third as fast gets a third of the weight; all share the model's name."""
    config = yaml.safe_load(yaml_text((), ROUTER.proxy_config("some/model", [FAST, SLOW])))
    deployments = config["model_list"]
    assert [d["litellm_params"]["weight"] for d in deployments] == [100, 33]
    assert {d["model_name"] for d in deployments} == {"some/model"}
    assert deployments[0]["litellm_params"]["model"] == "hosted_vllm/some/model"
    assert deployments[0]["litellm_params"]["rpm"] == 120
    assert deployments[0]["litellm_params"]["tpm"] == 90_000
    assert "rpm" not in deployments[1]["litellm_params"]


def test_fallbacks_are_deployments_of_their_own() -> None:
    """A provider's model takes requests the replicas drop, and the proxy's list contains it."""
    config = ROUTER.proxy_config("some/model", [FAST], fallbacks=["gpt-4o"])
    settings, listed = config["router_settings"], config["model_list"]
    assert settings["fallbacks"] == [{"some/model": ["gpt-4o"]}]  # type: ignore[index]
    assert listed[-1]["litellm_params"] == {"model": "openai/gpt-4o"}  # type: ignore[index]


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_known_strategies_are_passed_on(strategy: str) -> None:
    """Each of LiteLLM's strategies reaches the router settings."""
    assert (
        ROUTER.proxy_config("m", [FAST], strategy=strategy)["router_settings"]["routing_strategy"]
        == strategy
    )  # type: ignore[index]


def test_bad_strategies_weights_and_empty_lists_are_refused() -> None:
    """LiteLLM's own file reader would take them."""
    with pytest.raises(InvalidInput, match="routing_strategy"):
        ROUTER.proxy_config("m", [FAST], strategy="fastest")
    with pytest.raises(InvalidInput, match="targets"):
        ROUTER.proxy_config("m", [])
    with pytest.raises(InvalidInput, match="weight"):
        ROUTER.proxy_config("m", [RouteTarget(api_base="http://a", engine="vllm", weight=0.0)])


def test_a_providers_price_comes_from_the_cost_map() -> None:
    """gpt-4o costs 2.50 USD per million prompt tokens and 10 per million generated.

    With equal lengths a million generated tokens costs 12.50 USD, prompts included.
    """
    price = ROUTER.price("openai/gpt-4o")
    assert (price.input_usd_per_token, price.output_usd_per_token) == (2.5e-6, 1e-5)
    assert price.usd_per_million_output_tokens(100, 100) == pytest.approx(12.5)
    assert "litellm 1.110.2 wheel" in price.source


def test_an_unknown_model_is_answered_with_close_ones() -> None:
    """A slip of the finger is named and a near name offered."""
    with pytest.raises(NotFound, match="gpt-4o"):
        ROUTER.price("gpt-4oo")


def test_every_price_is_positive_and_every_window_whole() -> None:
    """No provider's model is free or has no window."""
    for name in ROUTER.models():
        price = ROUTER.price(name)
        assert price.input_usd_per_token >= 0.0 < price.output_usd_per_token
        assert price.max_input_tokens > 0 < price.max_output_tokens
