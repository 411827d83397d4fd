"""Writes a plan as LiteLLM's proxy configuration: targets, their shares, and fallbacks."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

from budsim.engine_ops import routers
from budsim.engine_ops.base import PoolRole, RouteTarget
from budsim.simulator.provider_models import IMAGE
from budsim.simulator.rendering.commands import heading
from budsim.simulator.rendering.deployments import SECONDS_PER_MINUTE, Deployment, Group
from budsim.simulator.rendering.writing import yaml_text

ROUTER: Final = routers["litellm"]
# Docker's default registry has no such image: LiteLLM publishes to GitHub's.
PROXY_IMAGE: Final = f"ghcr.io/{IMAGE}"
# LiteLLM proxy's default port; GET /health/readiness is there too (LiteLLM docs, proxy health
# checks).
PROXY_PORT: Final = 4000


def proxy(deployment: Deployment) -> str:
    """Return the proxy's ``config.yaml`` for replicas started by their commands or by compose."""
    return yaml_text(
        [*heading(deployment), "start: litellm --config config.yaml"],
        proxy_config(deployment, replicas(deployment)),
    )


def proxy_config(deployment: Deployment, targets: Iterable[RouteTarget]) -> Mapping[str, Any]:
    """Return the proxy's configuration over ``targets``, or over a provider's model."""
    if not deployment.groups:
        return ROUTER.provider_config(deployment.model, fallbacks=deployment.fallbacks)
    return ROUTER.proxy_config(
        deployment.model, list(targets), strategy="simple-shuffle", fallbacks=deployment.fallbacks
    )


def router_port(deployment: Deployment) -> int:
    """Return where the router of a deployment listens: LiteLLM's proxy, or that before pools."""
    return deployment.pool_router.port if deployment.is_disaggregated else PROXY_PORT


def replicas(deployment: Deployment) -> Iterator[RouteTarget]:
    """Yield every replica at its node's address, weighted by its speed.

    Of pools, the router before them on the plan's first node.
    """
    if deployment.is_disaggregated:
        decode, node = deployment.pool(PoolRole.DECODE), deployment.nodes()[0]
        address = f"http://{node}:{deployment.pool_router.port}/v1"
        yield target(deployment, decode, address, replicas=len(decode.replicas))
        return
    for group in deployment.groups:
        for replica in group.replicas:
            yield target(
                deployment, group, f"http://{replica[0].node}:{replica[0].role.port}/v1", replicas=1
            )


def target(deployment: Deployment, group: Group, api_base: str, *, replicas: int) -> RouteTarget:
    """Return some replicas of a group behind one address; their predicted speed is their share."""
    per_minute = round(SECONDS_PER_MINUTE * group.requests_per_s * replicas)
    tokens = per_minute * deployment.tokens_per_request
    return RouteTarget(
        api_base=api_base,
        engine=group.engine.name,
        # LiteLLM wants positive weights; a group of unknown speed still gets a little.
        weight=max(group.requests_per_s, 1e-9) * replicas,
        requests_per_min=per_minute or None,
        tokens_per_min=tokens or None,
    )
