"""LiteLLM 1.105: spreads requests over replicas, and prices providers' models by its cost map."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from functools import cache
from typing import Any, Final

from budsim.commons.errors import InvalidInput, NotFound
from budsim.engine_ops.base import ProviderPrice, RouteTarget, Stage
from budsim.engine_ops.shared.tables import load_table

# Checked with litellm.Router(routing_strategy=...), which refuses others; the reader of its
# configuration file does not.
STRATEGIES: Final = (
    "simple-shuffle",
    "least-busy",
    "latency-based-routing",
    "cost-based-routing",
    "usage-based-routing",
    "usage-based-routing-v2",
)

# How LiteLLM spells a server with OpenAI's interface: docs of its vLLM provider and of
# OpenAI-compatible endpoints.
_PROVIDERS: Final = {"vllm": "hosted_vllm"}
_ROUTES: Final = {
    "bedrock_converse": "bedrock",
    "vertex_ai-anthropic_models": "vertex_ai",
    "vertex_ai-language-models": "vertex_ai",
}
_OPENAI: Final = "openai"
# Weight of the fastest replica; others are scaled to it and rounded.
_LARGEST_WEIGHT: Final = 100

# How often a failed request is sent again; our choice.
_RETRIES: Final = 2

# Seconds a request may take; our choice: long answers at low speed take minutes.
_TIMEOUT_S: Final = 600


class Litellm:
    """LiteLLM."""

    name = "litellm"
    version = "1.105.0"
    stage = Stage.ROUTE

    def proxy_config(
        self,
        model_name: str,
        targets: Sequence[RouteTarget],
        *,
        strategy: str = "simple-shuffle",
        fallbacks: Sequence[str] = (),
    ) -> Mapping[str, object]:
        """Return the proxy's ``config.yaml`` as values: one deployment for each replica.

        Each is weighted by its speed.

        Parameters
        ----------
        model_name : str
            Hugging Face id; callers ask for it by this name.
        targets : sequence of RouteTarget
            The replicas; weights are scaled to whole numbers with 100 for the fastest.
        strategy : str
            One of `STRATEGIES`; only ``simple-shuffle`` honours weights.
        fallbacks : sequence of str
            Provider models of the cost map, tried in order when every replica fails.

        Raises
        ------
        InvalidInput
            No targets, a weight that is not positive, or a strategy LiteLLM's router refuses.
        NotFound
            A fallback that is not in the cost map.
        """
        if strategy not in STRATEGIES:
            problem = f"{strategy!r} is not known"
            raise InvalidInput("routing_strategy", problem, f"one of {', '.join(STRATEGIES)}")
        if not targets:
            raise InvalidInput("targets", "there are none", "at least one replica")
        for target in targets:
            if target.weight <= 0:
                problem = f"{target.weight:g} is out of range"
                raise InvalidInput("targets.weight", problem, "above 0")
        # LiteLLM takes whole weights: scaled to the fastest replica, small ones round to 1, not 0.
        largest = max(target.weight for target in targets)
        deployments = [_deployment(model_name, target, largest) for target in targets]
        return self._config(model_name, deployments, strategy, fallbacks)

    def provider_config(self, model: str, *, fallbacks: Sequence[str] = ()) -> Mapping[str, object]:
        """Return the proxy's ``config.yaml`` as values for a provider's model.

        ``fallbacks`` are as in `proxy_config`.

        Raises
        ------
        NotFound
            A model that is not in the cost map.
        """
        deployment = _provider(self.price(model), name=model)
        return self._config(model, [deployment], STRATEGIES[0], fallbacks)

    def _config(
        self,
        model_name: str,
        deployments: Sequence[object],
        strategy: str,
        fallbacks: Sequence[str],
    ) -> Mapping[str, object]:
        settings: dict[str, object] = {
            "routing_strategy": strategy,
            "num_retries": _RETRIES,
            "timeout": _TIMEOUT_S,
        }
        if fallbacks:
            settings["fallbacks"] = [{model_name: list(fallbacks)}]
        providers = (_provider(self.price(model)) for model in fallbacks)
        return {"model_list": [*deployments, *providers], "router_settings": settings}

    def price(self, model: str) -> ProviderPrice:
        """Return what a provider's model costs.

        ``provider/model`` and the bare name are both understood.

        Raises
        ------
        NotFound
            When the cost map has no such chat model.
        """
        source, rows = _prices()
        key = next((name for name in (model, model.partition("/")[2]) if name in rows), None)
        if key is None:
            raise NotFound("pretrained_model_uri", model, _hint(model, rows))
        provider, input_usd, output_usd, max_input, max_output = rows[key]
        return ProviderPrice(
            model=key,
            provider=provider,
            input_usd_per_token=input_usd,
            output_usd_per_token=output_usd,
            max_input_tokens=max_input,
            max_output_tokens=max_output,
            source=source,
        )

    def models(self) -> tuple[str, ...]:
        """Return the names of all provider models with a price, sorted."""
        return tuple(_prices()[1])


def _deployment(model_name: str, target: RouteTarget, largest: float) -> dict[str, object]:
    params: dict[str, object] = {
        "model": f"{_PROVIDERS.get(target.engine, _OPENAI)}/{model_name}",
        "api_base": target.api_base,
        "api_key": "os.environ/BUDSIM_REPLICA_API_KEY",
        "weight": max(1, round(_LARGEST_WEIGHT * target.weight / largest)),
    }
    limits = {"rpm": target.requests_per_min, "tpm": target.tokens_per_min}
    params |= {name: limit for name, limit in limits.items() if limit is not None}
    return {"model_name": model_name, "litellm_params": params}


def _provider(price: ProviderPrice, name: str = "") -> dict[str, object]:
    route = _ROUTES.get(price.provider, price.provider)
    prefix = "" if price.model.startswith(f"{route}/") else f"{route}/"
    params = {"model": f"{prefix}{price.model}"}
    return {"model_name": name or price.model, "litellm_params": params}


def _hint(model: str, rows: Mapping[str, object]) -> str:
    close = get_close_matches(model, rows, n=3, cutoff=0.6)
    return f"did you mean {', '.join(close)}?" if close else "see the models of LiteLLM's cost map"


@cache
def _prices() -> tuple[str, Mapping[str, tuple[str, float, float, int, int]]]:
    head, *entries = load_table("litellm", "prices")
    source = f"{head['source']}, wheel of {head['wheel_date']}, read on {head['read_on']}"
    return source, {entry["model"]: _row(entry["row"]) for entry in entries}


def _row(row: list[Any]) -> tuple[str, float, float, int, int]:
    provider, input_usd, output_usd, max_input, max_output = row
    return str(provider), float(input_usd), float(output_usd), int(max_input), int(max_output)
