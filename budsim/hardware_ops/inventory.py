"""Reads inventories, the JSON lists that other services write (``cluster_info``), into clusters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from budsim.commons.errors import InvalidInput
from budsim.hardware_ops.cluster import Cluster, DevicePool, HardwareMode, Node
from budsim.hardware_ops.device_entries import hardware_mode, read_pool, unreadable
from budsim.hardware_ops.duplicates import without_duplicates
from budsim.hardware_ops.inventory_reader import InventoryReader, listed


def read_inventory(payload: object) -> tuple[Cluster, ...]:
    """Return the clusters of a parsed ``cluster_info``, in its order; unknown fields are ignored.

    Every device that enters is in some pool. Devices of nodes that are down, of masters, unknown
    devices and those whose entry contradicts itself stay, with the reason they are not usable. A
    cluster, node or device that cannot be read, or that is listed twice, stays as a pool that says
    which field is wrong (``clusters[0].nodes[2].devices[1].available_count``).

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
    return without_duplicates(tuple(clusters))


def _cluster(value: object, path: str) -> Cluster:
    entry = InventoryReader.of(value, path, "a cluster")
    cluster_id = entry.required_text("id", "the cluster's id, as text")
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
