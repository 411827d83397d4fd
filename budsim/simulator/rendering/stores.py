"""The store of KV cache that a plan's replicas share: what starts it, in every format.

Commands and files of stacks say what to start first; compose files and Kubernetes manifests start
it themselves.
"""

from __future__ import annotations

import math
import shlex
from collections.abc import Iterator, Mapping
from typing import Any, Final

from budsim.commons.errors import InvalidInput
from budsim.commons.units import GIB
from budsim.engine_ops.engine_profile import StoreKind
from budsim.engine_ops.kv_store import KvStore, store_text
from budsim.engine_ops.shared.stores import (
    MOONCAKE_FILE,
    MOONCAKE_VARIABLE,
    OWN_NAME,
    STORE_CLAIM,
    STORE_FOLDER,
    STORE_HOST,
    StoreProcess,
    client_file,
    protocol_of,
    reads_folder,
    store_processes,
)
from budsim.hardware_ops.device_names import find_device
from budsim.simulator.rendering.deployments import Deployment, Group
from budsim.simulator.rendering.platforms import required_nodes

Document = dict[str, Any]

# Where a ConfigMap of Mooncake's client is mounted, and its name.
_FOLDER, _FILE = MOONCAKE_FILE.rsplit("/", 1)
CLIENT_CONFIG: Final = "kv-store-client"
# Memory of a process of the store on top of the caches it holds, GiB: our estimate.
EXTRA_GIB: Final = 2
# Docker: RDMA devices and memory that stays where it is (Mooncake docs, deployment).
_RDMA: Final[Mapping[str, Any]] = {
    "devices": ["/dev/infiniband:/dev/infiniband"],
    "cap_add": ["IPC_LOCK"],
    "ulimits": {"memlock": -1},
}


def store_notes(deployment: Deployment) -> Iterator[str]:
    """Yield what is needed of the store: the host's name, and what its network needs."""
    store = deployment.kv_store
    if store is None:
        return
    if store.kind is StoreKind.FILE:
        where = f"in {STORE_FOLDER}, which every node mounts"
        yield f"replicas share a store of KV cache ({store_text(store)}) {where}"
        if any(_fills_up(group, store) for group in deployment.groups):
            yield "engines remove no file of it: remove those not read for long"
        return
    yield f"replicas share a store of KV cache ({store_text(store)}) on the host {STORE_HOST}"
    if _uses_rdma(deployment):
        yield "Mooncake reads over RDMA: processes need the network cards and may lock memory"


def _fills_up(group: Group, store: KvStore) -> bool:
    """Return whether the group's engine leaves it to others to remove what is not read."""
    rule = group.engine.profile(group.kind).store(store.kind, group.kind)
    return rule is not None and not rule.makes_room


def start_notes(deployment: Deployment) -> Iterator[str]:
    """Yield `store_notes` and the commands that start the store, for files that do not start it."""
    yield from store_notes(deployment)
    for process in _processes(deployment):
        every = ", ".join(_store_nodes(deployment))
        where = f"on {every}" if process.on_every_node else f"on the node that is {STORE_HOST}"
        yield f"start first, {where}: {_shell(process, '$(hostname)')}"


def store_commands(deployment: Deployment) -> Iterator[tuple[str, str]]:
    """Yield where each process of the store runs, and the shell command that starts it."""
    for process, node in _placed(deployment):
        about = f"first: {process.name} on {node}"
        named = "" if process.on_every_node else f", which all nodes resolve as {STORE_HOST}"
        yield about + named, _shell(process, node)
    if _reads_file(deployment):
        text = shlex.quote(client_file(_protocol(deployment)))
        command = f"mkdir -p {_FOLDER} && echo {text} > {MOONCAKE_FILE}"
        yield "first, on every node: how vLLM reaches the store", command


def store_services(deployment: Deployment, *, profiled: bool) -> dict[str, Document]:
    """Return the services of a compose file that run the store."""
    found = {}
    for process, node in _placed(deployment):
        every = process.on_every_node
        envs = {**process.envs, **({OWN_NAME: node} if every else {})}
        found[f"{process.name}-{node}" if every else process.name] = {
            "image": process.image or deployment.groups[0].launch.image,
            **({"profiles": [node]} if profiled else {}),
            **({"environment": envs} if envs else {}),
            "network_mode": "host",
            "entrypoint": [process.command[0]],
            "command": list(process.command[1:]),
            "restart": "unless-stopped",
            **(_store_access(deployment) if every else {}),
        }
    return found


def client_keys(deployment: Deployment) -> Document:
    """Return what a compose service of an engine needs to read the store."""
    if deployment.kv_store is None:
        return {}
    if deployment.kv_store.kind is StoreKind.FILE:
        return {}
    configs = {"configs": [{"source": CLIENT_CONFIG, "target": MOONCAKE_FILE}]}
    return {**(configs if _reads_file(deployment) else {}), **_store_access(deployment)}


def folder_mounts(deployment: Deployment) -> list[str]:
    """Return the volume of a compose service that keeps files of the store, or none."""
    files = deployment.kv_store is not None and deployment.kv_store.kind is StoreKind.FILE
    return [f"{STORE_FOLDER}:{STORE_FOLDER}"] if files else []


def _store_access(deployment: Deployment) -> Document:
    """Return what a compose service needs to reach the store: its host, and RDMA devices.

    A single node is the store's host itself; several have to resolve its name.
    """
    alone = len(deployment.nodes()) == 1
    hosts = {"extra_hosts": [f"{STORE_HOST}:127.0.0.1"]} if alone else {}
    return {**hosts, **(_RDMA if _uses_rdma(deployment) else {})}


def store_configs(deployment: Deployment) -> dict[str, Document]:
    """Return the configs of a compose file by which vLLM reaches the store."""
    if not _reads_file(deployment):
        return {}
    return {CLIENT_CONFIG: {"content": client_file(_protocol(deployment))}}


def store_manifests(deployment: Deployment) -> Iterator[Document]:
    """Yield the Kubernetes objects that run the store, and by which replicas find it."""
    if deployment.kv_store is None:
        return
    if deployment.kv_store.kind is StoreKind.FILE:
        yield _claim(deployment.kv_store.capacity_bytes)
    for process in _processes(deployment):
        write = _daemon_set if process.on_every_node else _deployment
        yield write(deployment, process)
        if process.port:
            ports = [{"name": "store", "port": process.port, "targetPort": process.port}]
            spec = {"selector": _labels(deployment, process), "ports": ports}
            yield _object(deployment, process, "v1", "Service", spec)
    if _reads_file(deployment):
        yield {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": CLIENT_CONFIG},
            "data": {_FILE: client_file(_protocol(deployment))},
        }


def client_volumes(group: Group) -> list[Document]:
    """Return the volume of the file by which a pod's engine reaches the store, or of its files."""
    if reads_folder(group.launch):
        claim = {"claimName": STORE_CLAIM}
        return [{"name": STORE_CLAIM, "persistentVolumeClaim": claim}]
    volume = {"name": CLIENT_CONFIG, "configMap": {"name": CLIENT_CONFIG}}
    return [volume] if MOONCAKE_VARIABLE in group.launch.envs else []


def client_mounts(group: Group) -> list[Document]:
    """Return where a container mounts that volume, or nothing."""
    folder = STORE_FOLDER if reads_folder(group.launch) else _FOLDER
    return [{"name": each["name"], "mountPath": folder} for each in client_volumes(group)]


def _claim(capacity_bytes: float) -> Document:
    """Return the claim of a store's files; its storage class has to let many nodes write."""
    size = f"{math.ceil(capacity_bytes / GIB)}Gi"
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": STORE_CLAIM},
        "spec": {
            "accessModes": ["ReadWriteMany"],
            "resources": {"requests": {"storage": size}},
        },
    }


def refuse_file(deployment: Deployment, form: str) -> None:
    """Refuse a stack whose pods cannot be given Mooncake's file, or a store's folder.

    Raises
    ------
    InvalidInput
        vLLM reads a Mooncake store, or replicas share files.
    """
    if folder_mounts(deployment):
        problem = f"{form} mounts no folder of a store of files"
        expected = "command, compose, kubernetes, or a plan with another store (kv_store)"
        raise InvalidInput("format", problem, expected)
    if _reads_file(deployment):
        problem = f"{form} mounts no file by which vLLM reaches a Mooncake store"
        expected = "command, compose, kubernetes, or a plan with another store (kv_store)"
        raise InvalidInput("format", problem, expected)


def _processes(deployment: Deployment) -> tuple[StoreProcess, ...]:
    store = deployment.kv_store
    if store is None:
        return ()
    nodes = len(_store_nodes(deployment))
    return store_processes(store.kind, store.capacity_bytes, nodes, _protocol(deployment))


def _store_nodes(deployment: Deployment) -> tuple[str, ...]:
    """Return the nodes that hold the store."""
    stated = deployment.kv_store.nodes if deployment.kv_store else ()
    return stated or deployment.nodes()


def _placed(deployment: Deployment) -> Iterator[tuple[StoreProcess, str]]:
    """Yield each process of the store with its node."""
    nodes = _store_nodes(deployment)
    for process in _processes(deployment):
        yield from ((process, node) for node in (nodes if process.on_every_node else nodes[:1]))


def _protocol(deployment: Deployment) -> str:
    devices = [find_device(group.device_name) for group in deployment.groups]
    found = {protocol_of(device) for device in devices if device is not None}
    # All clients of a store speak one protocol.
    return "rdma" if found == {"rdma"} else "tcp"


def _uses_rdma(deployment: Deployment) -> bool:
    store = deployment.kv_store
    return (
        store is not None and store.kind is StoreKind.MOONCAKE and _protocol(deployment) == "rdma"
    )


def _reads_file(deployment: Deployment) -> bool:
    return any(MOONCAKE_VARIABLE in group.launch.envs for group in deployment.groups)


def _shell(process: StoreProcess, node: str) -> str:
    envs = [f"{name}={shlex.quote(value)}" for name, value in process.envs.items()]
    own = [f"{OWN_NAME}={node}"] if process.on_every_node else []
    return " ".join([*own, *envs, shlex.join(process.command)])


def _labels(deployment: Deployment, process: StoreProcess) -> dict[str, str]:
    return {"app.kubernetes.io/instance": deployment.slug, "budsim/store": process.name}


def _object(
    deployment: Deployment, process: StoreProcess, version: str, kind: str, spec: Document
) -> Document:
    metadata = {"name": process.name, "labels": _labels(deployment, process)}
    return {"apiVersion": version, "kind": kind, "metadata": metadata, "spec": spec}


def _deployment(deployment: Deployment, process: StoreProcess) -> Document:
    labels = _labels(deployment, process)
    template = {"metadata": {"labels": labels}, "spec": _pod(deployment, process)}
    spec = {"replicas": 1, "selector": {"matchLabels": labels}, "template": template}
    return _object(deployment, process, "apps/v1", "Deployment", spec)


def _daemon_set(deployment: Deployment, process: StoreProcess) -> Document:
    labels, affinity = _labels(deployment, process), required_nodes(_store_nodes(deployment))
    pod = {"affinity": affinity, **_pod(deployment, process)}
    template = {"metadata": {"labels": labels}, "spec": pod}
    spec = {"selector": {"matchLabels": labels}, "template": template}
    return _object(deployment, process, "apps/v1", "DaemonSet", spec)


def _pod(deployment: Deployment, process: StoreProcess) -> Document:
    memory = f"{math.ceil(process.memory_gib) + EXTRA_GIB}Gi"
    address = {"name": OWN_NAME, "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}
    envs: list[Document] = [{"name": name, "value": value} for name, value in process.envs.items()]
    container: Document = {
        "name": process.name,
        "image": process.image or deployment.groups[0].launch.image,
        "command": list(process.command),
        "env": [*([address] if process.on_every_node else []), *envs],
        "resources": {"requests": {"cpu": "1", "memory": memory}, "limits": {"memory": memory}},
    }
    if process.port:
        container["ports"] = [{"name": "store", "containerPort": process.port}]
    return {"enableServiceLinks": False, "containers": [container]}
