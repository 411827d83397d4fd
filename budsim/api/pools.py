"""The router of a disaggregated plan, and the addresses of the workers it is told."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from budsim.commons.units import MILLI
from budsim.engine_ops import serving_engines
from budsim.engine_ops.base import PoolRole
from budsim.engine_ops.pool_router import POLICY, PoolRouter

if TYPE_CHECKING:
    from budsim.simulator.planning.plans import Plan


def router_of(plan: Plan) -> PoolRouter:
    """Return the router before both pools of a disaggregated plan."""
    prefill = plan.groups[0]
    return serving_engines[prefill.engine].pool_router_of(prefill.launch.args)


def router_command(plan: Plan) -> tuple[str, ...]:
    """Return the command of the router before both pools of a disaggregated plan.

    Workers of one node have ports a hundred apart, as `budsim render` numbers them.
    """
    from budsim.simulator.rendering.deployments import PORT_STEP

    engine = serving_engines[plan.groups[0].engine]
    addresses: dict[PoolRole, list[str]] = {PoolRole.PREFILL: [], PoolRole.DECODE: []}
    started = Counter[str]()
    for group in plan.groups:
        for replica in group.placements:
            nodes = dict.fromkeys(part.node_name for part in replica)
            first = next(iter(nodes))
            port = engine.port + PORT_STEP * started[first]
            addresses[group.role].append(f"http://{first}:{port}")
            started.update(nodes.keys())
    return router_of(plan).command(addresses[PoolRole.PREFILL], addresses[PoolRole.DECODE])


def router_text(router: PoolRouter, ttft_s: float) -> str:
    """Return in words what the router before both pools is and does, and its part of TTFT.

    That part includes the handshake between two workers: measurements do not tell them apart.
    """
    from budsim.performance.serving.pools.pool_times import HANDSHAKE_S

    share = HANDSHAKE_S / ttft_s
    return (
        f"{router.package} {router.version} (from PyPI, or image {router.image}) gives each pool's "
        f"workers requests in turn ({POLICY}); it and the handshake of two workers are about "
        f"{HANDSHAKE_S / MILLI:.0f} of the {ttft_s / MILLI:.0f} ms until the first token "
        f"({share:.0%})"
    )
