"""Reads cluster files: an inventory as other services write it, or a short YAML for people.

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
          - {instance: p5.48xlarge, count: 2}

``instance`` is a cloud's instance type, instead of ``devices``: two machines of 8 x H100-SXM here.
Such a node is called by its type unless it has a name.
``device`` is any name ``budsim devices`` knows; a name it does not know is reported, never
replaced. Left out, ``count`` and ``sockets`` mean one, and ``available`` means all. ``memory_gb``,
``cores`` and ``numa_nodes`` (as ``lscpu`` prints them) are of all the node's sockets; left out,
they mean one 64 GB module for each memory channel, the data sheet's cores, and the nodes the
processor has by default. ``memory_gb`` of an accelerator is for one device, and picks
among those of one name. ``price_usd_per_h`` is what one of the devices costs; left out, the
catalog's price holds. ``host_memory_gb`` of a node is the memory of its processors, where KV cache
may be kept. Any other key is refused.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from budsim.commons.errors import InvalidInput, NotFound
from budsim.commons.safe_yaml import load_yaml
from budsim.commons.units import GIB
from budsim.hardware_ops.cluster import Cluster, DevicePool, Node
from budsim.hardware_ops.device import Device, DeviceKind
from budsim.hardware_ops.device_entries import MOST_DEVICES, read_pool
from budsim.hardware_ops.device_identity import MOST_GB
from budsim.hardware_ops.device_load import MOST_CORES, MOST_NUMA_NODES
from budsim.hardware_ops.device_names import candidates
from budsim.hardware_ops.duplicates import refuse_duplicates
from budsim.hardware_ops.instances import find_instance
from budsim.hardware_ops.inventory import read_inventory
from budsim.hardware_ops.inventory_reader import InventoryReader

MOST_NODES = 10_000
MOST_BYTES = 64 * 2**20
# Ids of clusters and nodes follow from their names, so that two readings agree.
_NAMESPACE = uuid.UUID("6a8b1f0e-4b0f-5c52-9d3c-2c1f5ad7b0aa")

_FILE = frozenset({"clusters"})
_CLUSTER = frozenset({"id", "name", "nodes"})
_NODE = frozenset({"name", "count", "devices", "instance", "master", "down", "host_memory_gb"})
_DEVICE = frozenset(
    {
        "device",
        "count",
        "available",
        "sockets",
        "cores",
        "numa_nodes",
        "memory_gb",
        "price_usd_per_h",
    }
)

_OF_PROCESSORS = ("sockets", "cores", "numa_nodes")


def read_cluster_file(path: Path) -> tuple[Cluster, ...]:
    """Return the clusters of a file.

    The file is an inventory as JSON or YAML (a list), or the short form (a mapping with
    ``clusters``).

    Raises
    ------
    NotFound
        When there is no such file.
    InvalidInput
        When it cannot be read or has another shape.
    """
    return read_cluster_text(_text_of(path), path.name)


def read_cluster_text(text: str, name: str) -> tuple[Cluster, ...]:
    """Return the clusters of a file's text; ``name`` ends in ``.json`` where the text is JSON.

    Raises
    ------
    InvalidInput
        When it cannot be read or has another shape.
    """
    parsed = _json(text, name) if name.lower().endswith(".json") else _yaml(text, name)
    return clusters_in(parsed)


def clusters_in(payload: object) -> tuple[Cluster, ...]:
    """Return the clusters of a parsed cluster file: a list of clusters, or the short form.

    Raises
    ------
    InvalidInput
        The payload has another shape.
    """
    if isinstance(payload, list):
        return read_inventory(payload)
    if not isinstance(payload, Mapping):
        raise InvalidInput(
            "clusters", "are missing", "a mapping with clusters, or a list of clusters"
        )
    file = InventoryReader.of(payload, "", "clusters")
    file.refuse_others(_FILE)
    clusters = tuple(_short_cluster(entry) for entry in file.each("clusters", "a cluster"))
    refuse_duplicates(clusters)
    return clusters


def _text_of(path: Path) -> str:
    try:
        if path.stat().st_size > MOST_BYTES:
            raise InvalidInput(
                "cluster", f"{path} is larger than {MOST_BYTES >> 20} MiB", "a cluster file"
            )
        return path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise NotFound("cluster", str(path), "name a file that exists") from error
    except (OSError, ValueError) as error:
        raise InvalidInput(
            "cluster", f"{path} cannot be read ({type(error).__name__})", "a readable text file"
        ) from error


def _json(text: str, name: str) -> object:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InvalidInput(
            "cluster", f"{name} is not JSON ({error})", "an inventory: a JSON list of clusters"
        ) from error


def _yaml(text: str, name: str) -> object:
    try:
        return load_yaml(text)
    except ValueError as error:
        raise InvalidInput(
            "cluster", f"{name} is not YAML ({error})", "a mapping with clusters"
        ) from error


def _short_cluster(entry: InventoryReader) -> Cluster:
    entry.refuse_others(_CLUSTER)
    name = entry.required_text("name", "the cluster's name, as text")
    cluster_id = entry.text("id") or str(uuid.uuid5(_NAMESPACE, name))
    nodes = tuple(
        node for group in entry.each("nodes", "a node") for node in _short_nodes(group, cluster_id)
    )
    return Cluster(cluster_id=cluster_id, name=name, nodes=nodes)


def _short_nodes(entry: InventoryReader, cluster_id: str) -> Iterator[Node]:
    entry.refuse_others(_NODE)
    instance = entry.text("instance")
    expected = "the node's name, as text"
    name = entry.text("name") or instance or entry.required_text("name", expected)
    count = entry.count("count", least=1, most=MOST_NODES) or 1
    is_up, is_master = not entry.flag("down", default=False), entry.flag("master", default=False)
    if instance:
        pools: tuple[DevicePool, ...] = (_instance_pool(entry, instance, is_up),)
    else:
        pools = tuple(_short_pool(device, is_up) for device in entry.each("devices", "a device"))
    host_gb = entry.number("host_memory_gb", most=MOST_GB, unit="GB") or 0.0
    for index in range(count):
        one = f"{name}-{index}" if count > 1 else name
        # Ids follow from names, so that two runs of one file give the same answer.
        node_id = str(uuid.uuid5(_NAMESPACE, f"{cluster_id}/{one}"))
        yield Node(
            node_id=node_id,
            name=one,
            pools=pools,
            is_up=is_up,
            is_master=is_master,
            host_memory_bytes=host_gb * GIB,
        )


def _instance_pool(entry: InventoryReader, name: str, node_is_up: bool) -> DevicePool:
    """Return the devices of a cloud's instance type.

    The processors of an instance with accelerators are its host and serve nothing.
    """
    if entry.has("devices"):
        problem = "is stated beside devices"
        raise InvalidInput(entry.at("instance"), problem, "either of the two")
    instance = find_instance(name, entry.at("instance"))
    # An instance is read as if its devices had been written out: one set of rules.
    words: dict[str, Any] = {"device": instance.device.name}
    if instance.cores:
        words |= {"sockets": instance.count, "cores": instance.cores}
        words["memory_gb"] = instance.memory_gb
    else:
        words["count"] = instance.count
    return _short_pool(InventoryReader(path=entry.path, values=words), node_is_up)


def _short_pool(entry: InventoryReader, node_is_up: bool) -> DevicePool:
    """Say in the inventory's words what a person wrote, so that one set of rules reads both."""
    entry.refuse_others(_DEVICE)
    name = entry.required_text("device", "the device's name, as text")
    device = next(iter(candidates(name)), None)
    is_cpu = device is not None and device.kind is DeviceKind.CPU
    words = _cpu_words(entry, device) if device and is_cpu else _accelerator_words(entry)
    label = {"name": name, "type": device.kind.value if device else ""}
    label |= {key: entry.values[key] for key in ("price_usd_per_h",) if entry.has(key)}
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
    numa_nodes = entry.count("numa_nodes", least=1, most=MOST_NUMA_NODES)
    available = entry.count("available", most=sockets)
    return {
        "total_count": sockets,
        "available_count": sockets if available is None else available,
        "socket_count": sockets,
        "memory_gb": memory_gb,
        "cores": cores,
        "numa_nodes": numa_nodes or sockets * device.numa_nodes,
    }


def _accelerator_words(entry: InventoryReader) -> Mapping[str, Any]:
    if entry.has(*_OF_PROCESSORS):
        key = next(key for key in _OF_PROCESSORS if entry.has(key))
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
