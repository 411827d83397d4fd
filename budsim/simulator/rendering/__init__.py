"""Writes a plan as files and commands that start it.

Shell commands, a compose file, Kubernetes manifests, LiteLLM's configuration, LLMC's recipe, and
the files of serving stacks in use: KServe, llm-d, Dynamo, vLLM production stack, Ray Serve, AIBrix.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final

from budsim.commons.errors import InvalidInput, NotFound
from budsim.simulator.rendering.alerts import alerts
from budsim.simulator.rendering.autoscaling import hpa, keda
from budsim.simulator.rendering.commands import commands
from budsim.simulator.rendering.compose import compose
from budsim.simulator.rendering.deployments import Additions, Deployment, read_deployment
from budsim.simulator.rendering.kubernetes import kubernetes
from budsim.simulator.rendering.recipes import recipes
from budsim.simulator.rendering.routing import ROUTER, proxy
from budsim.simulator.rendering.scaling import Metrics
from budsim.simulator.rendering.stacks.aibrix import aibrix
from budsim.simulator.rendering.stacks.dynamo import dynamo
from budsim.simulator.rendering.stacks.kserve import inference_service, llm_inference_service
from budsim.simulator.rendering.stacks.llm_d import llm_d
from budsim.simulator.rendering.stacks.production_stack import production_stack
from budsim.simulator.rendering.stacks.ray_serve import ray_serve

# Text of a deployment by the name of its format.
FORMATS: Final[Mapping[str, Callable[[Deployment], str]]] = MappingProxyType(
    {
        "command": commands,
        "compose": compose,
        "kubernetes": kubernetes,
        "litellm": proxy,
        "recipe": recipes,
        "kserve": inference_service,
        "kserve-llm": llm_inference_service,
        "llm-d": llm_d,
        "dynamo": dynamo,
        "production-stack": production_stack,
        "ray-serve": ray_serve,
        "aibrix": aibrix,
        "alerts": alerts,
        "keda": keda,
        "hpa": hpa,
    }
)

# Formats that start prefill and decode workers. LLMC's recipe is of the checkpoint alone, and
# LiteLLM's configuration leads to the router before them.
STARTS_POOLS: Final = (
    "command",
    "compose",
    "kubernetes",
    "dynamo",
    "llm-d",
    "kserve-llm",
    "ray-serve",
    "aibrix",
)
OF_POOLS: Final = (*STARTS_POOLS, "recipe", "litellm")
# Of these, formats with a router of their own in place of LiteLLM's, which alone has fallbacks.
OWN_ROUTER: Final = ("compose", "kubernetes")

# Formats that need to know when a day's traffic comes.
OF_A_DAY: Final = ("keda", "hpa")
# Formats that read what one replica measures of whole requests.
WATCHES: Final = ("alerts", *OF_A_DAY)

NOTHING: Final = Additions()


def render(text: str, form: str, *, number: int = 1, additions: Additions = NOTHING) -> str:
    """Return plan ``number`` (from 1) of a plan document in one of `FORMATS`.

    Raises
    ------
    InvalidInput
        An unknown format, a document without that plan, or a plan no engine would start.
    NotFound
        A fallback that is not in LiteLLM's cost map.
    """
    for model in additions.fallbacks:
        _check_fallback(model)
    if form not in FORMATS:
        raise InvalidInput("format", f"{form!r} is no format", "one of " + ", ".join(FORMATS))
    return _written(read_deployment(text, number, additions), form)


def startable(text: str, number: int = 1) -> tuple[str, ...]:
    """Return the formats in which a plan can be rendered; errors of the document as `render`."""
    deployment = read_deployment(text, number, NOTHING)
    return tuple(form for form in FORMATS if _can_be_written(deployment, form))


def _can_be_written(deployment: Deployment, form: str) -> bool:
    try:
        _written(deployment, form)
    except InvalidInput:
        return False
    return True


def _written(deployment: Deployment, form: str) -> str:
    """Return a deployment in a format; errors as `render`."""
    if deployment.is_disaggregated and form not in OF_POOLS:
        problem = f"{form} does not start prefill and decode pools"
        if form in WATCHES:
            problem = f"{form} is not for prefill and decode pools: no engine alone sees their load"
        expected = f"one of {', '.join(STARTS_POOLS)}, or another plan"
        raise InvalidInput("format", problem, expected)
    if deployment.is_disaggregated and form in OWN_ROUTER and deployment.fallbacks:
        problem = "the router before prefill and decode pools knows no other models"
        raise InvalidInput("fallback", problem, "none, and LiteLLM before it: --format litellm")
    return FORMATS[form](deployment)


def _check_fallback(model: str) -> None:
    try:
        ROUTER.price(model)
    except NotFound as error:
        raise NotFound("fallback", error.value, error.hint) from error


__all__ = ["FORMATS", "OF_A_DAY", "OF_POOLS", "Additions", "Metrics", "render", "startable"]
