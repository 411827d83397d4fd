"""Clusters, nodes and devices that an inventory lists twice."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

from budsim.commons.errors import InvalidInput
from budsim.hardware_ops.cluster import Cluster, DevicePool, Node
from budsim.hardware_ops.device_load import unusable

# The problem and what is expected, by the path of each second listing.
Duplicates = Mapping[str, tuple[str, str]]


def without_duplicates(clusters: tuple[Cluster, ...]) -> tuple[Cluster, ...]:
    """Return the clusters with every second listing unusable, so that no device counts twice."""
    # The first listing stays usable: the device is there, only not twice.
    duplicates = _duplicates(clusters)
    return tuple(
        replace(
            cluster,
            nodes=tuple(
                _without_duplicates(node, duplicates, f"clusters[{c}]", f"clusters[{c}].nodes[{n}]")
                for n, node in enumerate(cluster.nodes)
            ),
        )
        for c, cluster in enumerate(clusters)
    )


def refuse_duplicates(clusters: tuple[Cluster, ...]) -> None:
    """Raise when a cluster, node or physical device is listed twice."""
    for path, (problem, expected) in _duplicates(clusters).items():
        raise InvalidInput(path, problem, expected)


def _duplicates(clusters: tuple[Cluster, ...]) -> dict[str, tuple[str, str]]:
    """Return, by path, what is listed a second time: the problem, and what is expected."""
    seen: dict[tuple[str, str], str] = {}
    duplicates = {}
    for kind, identity, path in _identities(clusters):
        if (first := seen.setdefault((kind, identity), path)) != path:
            duplicates[path] = f"is {identity[:60]!r}, which is also {first}", f"each {kind} once"
    return duplicates


def _identities(clusters: tuple[Cluster, ...]) -> Iterator[tuple[str, str, str]]:
    for c, cluster in enumerate(clusters):
        yield "cluster", cluster.cluster_id, f"clusters[{c}].id"
        for n, node in enumerate(cluster.nodes):
            yield "node", node.node_id, f"clusters[{c}].nodes[{n}].id"
            for d, pool in enumerate(node.pools):
                if pool.device_uuid:
                    yield (
                        "device",
                        pool.device_uuid,
                        f"clusters[{c}].nodes[{n}].devices[{d}].device_uuid",
                    )


def _without_duplicates(node: Node, duplicates: Duplicates, cluster: str, path: str) -> Node:
    pools = [
        _checked(
            pool, duplicates, f"{cluster}.id", f"{path}.id", f"{path}.devices[{d}].device_uuid"
        )
        for d, pool in enumerate(node.pools)
    ]
    return replace(node, pools=tuple(pools))


def _checked(pool: DevicePool, duplicates: Duplicates, *paths: str) -> DevicePool:
    """Return the pool, unusable if its cluster, node or device is a second listing."""
    path = next((path for path in paths if path in duplicates), None)
    if path is None:
        return pool
    problem, expected = duplicates[path]
    return unusable(pool, f"{path}: {problem}; expected {expected}")
