"""The forms of the page, with what can be chosen in them."""

from __future__ import annotations

from dataclasses import dataclass

from budsim.engine_ops import serving_engines
from budsim.hardware_ops.catalog import devices
from budsim.hardware_ops.cluster import Cluster
from budsim.hardware_ops.rents import providers
from budsim.model_ops.registry import known_models
from budsim.page.html import rendered
from budsim.performance.acceptance import domains
from budsim.performance.speculation import Method


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterChoice:
    """A cluster of the inventory in words."""

    cluster_id: str
    name: str
    devices: str


def start_page(clusters: tuple[Cluster, ...], engines: frozenset[str], largest_bytes: int) -> str:
    """Return the forms as HTML.

    Parameters
    ----------
    clusters : tuple of Cluster
        Those of the service's inventory; may be empty.
    engines : frozenset of str
        Engines that may be used here; empty: all.
    largest_bytes : int
        Largest body the service accepts.
    """
    return rendered(
        "start.html",
        clusters=[_choice(cluster) for cluster in clusters],
        models=known_models(),
        devices=tuple(devices()),
        engines=sorted(engines or serving_engines),
        providers=providers(),
        methods=tuple(Method),
        domains=domains(),
        largest_bytes=largest_bytes,
    )


def _choice(cluster: Cluster) -> ClusterChoice:
    counts: dict[str, int] = {}
    for node in cluster.nodes:
        for pool in node.pools:
            counts[pool.label.name] = counts.get(pool.label.name, 0) + pool.total
    told = ", ".join(f"{count} x {name}" for name, count in counts.items())
    return ClusterChoice(cluster_id=cluster.cluster_id, name=cluster.name, devices=told)
