"""Inventories become clusters: the JSON list other services write (``cluster_info``), and a short YAML for people.

The short form::

    clusters:
      - name: lab
        nodes:
          - name: gpu                 # gpu-0 and gpu-1
            count: 2
            devices:
              - {device: H100-SXM, count: 8}
              - {device: Xeon Platinum 8480+, sockets: 2, memory_gb: 2048}
          - name: head
            master: true
            devices: [{device: Xeon Silver 4314}]
          - name: broken
            down: true
            devices: [{device: Gaudi3, count: 8}]

``device`` is any name ``budsim devices`` knows; a name it does not know is reported, never replaced. Left out, ``count``,
``sockets`` and ``available`` mean one, one and all; ``memory_gb`` (of all the node's sockets) means one 64 GB module for each
memory channel, and ``cores`` (of all the sockets) the data sheet's. ``memory_gb`` of an accelerator is for one device, and picks
among those of one name. A key that is none of these is refused.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from budsim.commons.errors import InvalidInput, NotFound
from budsim.commons.units import GIB
from budsim.hardware_ops.catalog import candidates
from budsim.hardware_ops.cluster import Cluster, DevicePool, HardwareMode, Node
from budsim.hardware_ops.device import Device, DeviceKind
from budsim.hardware_ops.device_entries import (
    MOST_CORES,
    MOST_DEVICES,
    MOST_GB,
    hardware_mode,
    read_pool,
    unreadable,
    unusable,
)
from budsim.hardware_ops.inventory_reader import InventoryReader, listed

MOST_NODES = 10_000
MOST_BYTES = 64 * 2**20
_NAMESPACE = uuid.UUID("6a8b1f0e-4b0f-5c52-9d3c-2c1f5ad7b0aa")
_FILE = frozenset({"clusters"})
_CLUSTER = frozenset({"id", "name", "nodes"})
_NODE = frozenset({"name", "count", "devices", "master", "down"})
_DEVICE = frozenset({"device", "count", "available", "sockets", "cores", "memory_gb"})


def read_inventory(payload: object) -> tuple[Cluster, ...]:
    """Return the clusters of a parsed ``cluster_info``, in its order; unknown fields are ignored.

    Every device that enters is in some pool: devices of nodes that are down, of masters, unknown ones and those whose entry
    contradicts itself stay, with the reason they are not usable. A cluster, node or device that cannot be read, or that is listed
    twice, stays too, as a pool that says which field is wrong (``clusters[0].nodes[2].devices[1].available_count``).

    Raises
    ------
    InvalidInput
        When the payload is no list, or nothing in it can be read as a cluster.
    """
    entries = listed(payload, "clusters", "a cluster")
    problems: list[InvalidInput] = []
    clusters = []
    for number, entry in enumerate(entries):
        try:
            clusters.append(_cluster(entry, f"clusters[{number}]"))
        except InvalidInput as error:
            problems.append(error)
            clusters.append(_unreadable_cluster(f"clusters[{number}]", entry, error))
    if len(problems) == len(clusters):
        raise (
            problems[0]
            if problems
            else InvalidInput("clusters", "is an empty list", "at least one cluster")
        )
    return _without_doubles(tuple(clusters))


def read_cluster_file(path: Path) -> tuple[Cluster, ...]:
    """Return the clusters of a file: the inventory as JSON or YAML (a list), or the short form (a mapping with ``clusters``).

    Raises
    ------
    NotFound
        When there is no such file.
    InvalidInput
        When it cannot be read or has another shape.
    """
    payload = _parsed(path)
    if isinstance(payload, list):
        return read_inventory(payload)
    if not isinstance(payload, Mapping):
        raise InvalidInput(
            "clusters", "are missing", "a mapping with clusters, or a list of clusters"
        )
    fields = InventoryReader.of(payload, "", "clusters")
    fields.refuse_others(_FILE)
    clusters = tuple(_short_cluster(entry) for entry in fields.each("clusters", "a cluster"))
    _refuse_doubles(clusters)
    return clusters


def _cluster(value: object, path: str) -> Cluster:
    entry = InventoryReader.of(value, path, "a cluster")
    cluster_id = _required(entry, "id", "the cluster's id, as text")
    entries = entry.list("nodes", "a node")
    nodes = tuple(_node(node, f"{path}.nodes[{n}]") for n, node in enumerate(entries))
    sliced = any(_is_sliced(device) for node in entries for device in _devices_of(node))
    mode = HardwareMode.SHARED if sliced else HardwareMode.DEDICATED
    return Cluster(
        cluster_id=cluster_id, name=entry.text("name") or cluster_id, nodes=nodes, mode=mode
    )


def _unreadable_cluster(path: str, value: object, error: InvalidInput) -> Cluster:
    return Cluster(cluster_id=path, name=path, nodes=(_unreadable_node(path, value, error),))


def _devices_of(node: object) -> Sequence[object]:
    devices = node.get("devices") if isinstance(node, Mapping) else None
    return devices if isinstance(devices, list) else ()


def _is_sliced(device: object) -> bool:
    try:
        return hardware_mode(InventoryReader.of(device, "", "a device")) is HardwareMode.SHARED
    except InvalidInput:
        return False


def _node(value: object, path: str) -> Node:
    try:
        entry = InventoryReader.of(value, path, "a node")
        name = entry.text("name")
        node_id = entry.text("id") or name
        if not node_id:
            raise InvalidInput(entry.at("name"), "is missing", "the node's name, as text")
        is_up, is_master = (
            entry.flag("status", default=True),
            entry.flag("is_master", default=False),
        )
        devices = entry.list("devices", "a device")
    except InvalidInput as error:
        return _unreadable_node(path, value, error)
    pools = tuple(
        _pool(device, f"{path}.devices[{d}]", node_is_up=is_up) for d, device in enumerate(devices)
    )
    return Node(
        node_id=node_id, name=name or node_id, pools=pools, is_up=is_up, is_master=is_master
    )


def _pool(value: object, path: str, *, node_is_up: bool) -> DevicePool:
    try:
        return read_pool(InventoryReader.of(value, path, "a device"), node_is_up=node_is_up)
    except InvalidInput as error:
        return unreadable(value.get("name") if isinstance(value, Mapping) else None, error)


def _unreadable_node(path: str, value: object, error: InvalidInput) -> Node:
    pool = unreadable(value.get("name") if isinstance(value, Mapping) else None, error)
    return Node(node_id=path, name=path, pools=(pool,), is_up=False)


def _without_doubles(clusters: tuple[Cluster, ...]) -> tuple[Cluster, ...]:
    """Return the clusters with what is listed a second time unusable: its devices would be counted twice."""
    doubles = _doubles(clusters)

    def kept(pool: DevicePool, *paths: str) -> DevicePool:
        reason = next(
            (
                f"{path}: {doubles[path][0]}; expected {doubles[path][1]}"
                for path in paths
                if path in doubles
            ),
            "",
        )
        return unusable(pool, reason) if reason else pool

    def single(node: Node, cluster: str, path: str) -> Node:
        pools = (
            kept(pool, f"{cluster}.id", f"{path}.id", f"{path}.devices[{d}].device_uuid")
            for d, pool in enumerate(node.pools)
        )
        return replace(node, pools=tuple(pools))

    return tuple(
        replace(
            cluster,
            nodes=tuple(
                single(node, f"clusters[{c}]", f"clusters[{c}].nodes[{n}]")
                for n, node in enumerate(cluster.nodes)
            ),
        )
        for c, cluster in enumerate(clusters)
    )


def _required(entry: InventoryReader, key: str, expected: str) -> str:
    if not (value := entry.text(key, expected=expected)):
        raise InvalidInput(entry.at(key), "is missing", expected)
    return value


def _refuse_doubles(clusters: tuple[Cluster, ...]) -> None:
    """Raise when a cluster, node or physical device is listed twice."""
    for path, (problem, expected) in _doubles(clusters).items():
        raise InvalidInput(path, problem, expected)


def _doubles(clusters: tuple[Cluster, ...]) -> dict[str, tuple[str, str]]:
    """Return, by path, what is listed a second time: the problem, and what is expected."""
    seen: dict[tuple[str, str], str] = {}
    doubles = {}
    for kind, identity, path in _identities(clusters):
        if (first := seen.setdefault((kind, identity), path)) != path:
            doubles[path] = f"is {identity[:60]!r}, which is also {first}", f"each {kind} once"
    return doubles


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


def _parsed(path: Path) -> object:
    try:
        if path.stat().st_size > MOST_BYTES:
            raise InvalidInput(
                "cluster", f"{path} is larger than {MOST_BYTES >> 20} MiB", "a cluster file"
            )
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise NotFound("cluster", str(path), "name a file that exists") from error
    except (OSError, ValueError) as error:
        raise InvalidInput(
            "cluster", f"{path} cannot be read ({type(error).__name__})", "a readable text file"
        ) from error
    return _json(text, path) if path.suffix.lower() == ".json" else _yaml(text, path)


def _json(text: str, path: Path) -> object:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InvalidInput(
            "cluster", f"{path} is not JSON ({error})", "an inventory: a JSON list of clusters"
        ) from error


def _yaml(text: str, path: Path) -> object:
    import yaml

    try:
        return yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        problem = " ".join(str(error).split())
        raise InvalidInput(
            "cluster", f"{path} is not YAML ({problem})", "a mapping with clusters"
        ) from error


def _short_cluster(entry: InventoryReader) -> Cluster:
    entry.refuse_others(_CLUSTER)
    name = _required(entry, "name", "the cluster's name, as text")
    cluster_id = entry.text("id") or str(uuid.uuid5(_NAMESPACE, name))
    nodes = tuple(
        node for group in entry.each("nodes", "a node") for node in _short_nodes(group, cluster_id)
    )
    return Cluster(cluster_id=cluster_id, name=name, nodes=nodes)


def _short_nodes(entry: InventoryReader, cluster_id: str) -> Iterator[Node]:
    entry.refuse_others(_NODE)
    name = _required(entry, "name", "the node's name, as text")
    count = entry.count("count", least=1, most=MOST_NODES) or 1
    is_up, is_master = not entry.flag("down", default=False), entry.flag("master", default=False)
    pools = tuple(_short_pool(device, is_up) for device in entry.each("devices", "a device"))
    for index in range(count):
        one = f"{name}-{index}" if count > 1 else name
        node_id = str(uuid.uuid5(_NAMESPACE, f"{cluster_id}/{one}"))
        yield Node(node_id=node_id, name=one, pools=pools, is_up=is_up, is_master=is_master)


def _short_pool(entry: InventoryReader, node_is_up: bool) -> DevicePool:
    """Say in the inventory's words what a person wrote, so that one set of rules reads both."""
    entry.refuse_others(_DEVICE)
    name = _required(entry, "device", "the device's name, as text")
    device = next(iter(candidates(name)), None)
    is_cpu = device is not None and device.kind is DeviceKind.CPU
    words = _cpu_words(entry, device) if device and is_cpu else _accelerator_words(entry)
    label = {"name": name, "type": device.kind.value if device else ""}
    return read_pool(
        InventoryReader(path=entry.path, values={**label, **words}), node_is_up=node_is_up
    )


def _cpu_words(entry: InventoryReader, device: Device) -> Mapping[str, Any]:
    sockets = (
        entry.count("sockets", least=1, most=64) or entry.count("count", least=1, most=64) or 1
    )
    memory_gb = (
        entry.number("memory_gb", most=MOST_GB, unit="GB") or sockets * device.memory_bytes / GIB
    )
    cores = entry.count("cores", least=1, most=MOST_CORES) or sockets * device.compute_units
    available = entry.count("available", most=sockets)
    return {
        "total_count": sockets,
        "available_count": sockets if available is None else available,
        "socket_count": sockets,
        "memory_gb": memory_gb,
        "cores": cores,
    }


def _accelerator_words(entry: InventoryReader) -> Mapping[str, Any]:
    if entry.has("sockets", "cores"):
        key = "sockets" if entry.has("sockets") else "cores"
        raise InvalidInput(
            entry.at(key), "is stated for a device that is no known CPU", "count, for accelerators"
        )
    count = entry.count("count", least=1, most=MOST_DEVICES) or 1
    available = entry.count("available", most=count)
    return {
        "total_count": count,
        "available_count": count if available is None else available,
        "memory_gb": entry.number("memory_gb", most=MOST_GB, unit="GB"),
    }
