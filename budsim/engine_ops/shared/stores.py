"""Where replicas find the store of KV cache that they share, and what starts it.

Every replica looks for the host ``kv-store``: a Service of that name on Kubernetes, a name that all
nodes resolve elsewhere.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from budsim.commons.units import GIB
from budsim.engine_ops.base import Launch
from budsim.engine_ops.engine_profile import StoreKind
from budsim.hardware_ops.device import Device

STORE_HOST: Final = "kv-store"
# Default ports of Redis and of Mooncake's master.
REDIS_PORT: Final = 6379
MASTER_PORT: Final = 50051

# Where vLLM reads how it reaches Mooncake (vLLM docs, MooncakeStoreConnector usage guide).
MOONCAKE_VARIABLE: Final = "MOONCAKE_CONFIG_PATH"
MOONCAKE_FILE: Final = "/etc/mooncake/mooncake.json"
# The folder of a store of files, which every node mounts, and the claim that pods mount there.
STORE_FOLDER: Final = "/kv-store"
STORE_CLAIM: Final = "kv-store"

# By which a node's part of the store says where it is (mooncake_config.py, load_from_env).
OWN_NAME: Final = "MOONCAKE_LOCAL_HOSTNAME"

_MASTER: Final = f"{STORE_HOST}:{MASTER_PORT}"
# Workers find each other without a metadata server (both engines' guides).
_METADATA: Final = "P2PHANDSHAKE"

# The same for SGLang, whose servers give no memory of their own (its mem_cache/storage/
# mooncake_store/README.md).
_VARIABLES: Final[Mapping[str, str]] = MappingProxyType(
    {
        "MOONCAKE_MASTER": _MASTER,
        "MOONCAKE_TE_META_DATA_SERVER": _METADATA,
        "MOONCAKE_GLOBAL_SEGMENT_SIZE": "0",
    }
)

# Image of a Redis server; Mooncake's programs come with the engines' images.
REDIS_IMAGE: Final = "redis:8.2"


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreProcess:
    """One process of a store.

    Attributes
    ----------
    name : str
        What it is called among the processes of a deployment.
    command : tuple of str
        What starts it.
    envs : mapping
        Its environment; one that runs on every node is also told ``OWN_NAME``.
    port : int
        Where it listens; 0: no other process has to know.
    image : str
        Its image; empty: that of the engine.
    memory_gib : float
        Host memory it takes.
    on_every_node : bool
        Whether each node of the deployment runs one; else there is one, on ``kv-store``.
    """

    name: str
    command: tuple[str, ...]
    envs: Mapping[str, str]
    port: int
    image: str
    memory_gib: float
    on_every_node: bool


def reads_folder(launch: Launch) -> bool:
    """Return whether a process keeps KV cache in the folder of a store of files."""
    values = (*launch.args.values(), *launch.envs.values())
    # The host of a Redis server has the folder's name: redis://kv-store:6379.
    return any(STORE_FOLDER in str(value).replace(f"/{STORE_FOLDER}", "") for value in values)


def protocol_of(device: Device) -> str:
    """Return how Mooncake reads over a device's network: by RDMA, or TCP over plain Ethernet."""
    return "rdma" if device.scale_out.name.startswith("RoCE") else "tcp"


def mooncake_variables(protocol: str) -> Mapping[str, str]:
    """Return the variables by which a process that gives no memory reaches Mooncake."""
    return {**_VARIABLES, "MOONCAKE_PROTOCOL": protocol}


def store_processes(
    kind: StoreKind, capacity_bytes: float, nodes: int, protocol: str
) -> tuple[StoreProcess, ...]:
    """Return the processes of a store whose memory is on ``nodes`` nodes.

    Redis drops what was used longest ago. Mooncake has a master, and every node gives an equal
    part of the memory. Files need no process.
    """
    if kind is StoreKind.FILE:
        return ()
    if kind is StoreKind.LMCACHE:
        size = f"{int(capacity_bytes // GIB)}gb"
        keeps = ("--maxmemory", size, "--maxmemory-policy", "allkeys-lru")
        # Nothing is saved to disk: caches are computed again.
        volatile = ("--save", "", "--appendonly", "no", "--protected-mode", "no")
        return (
            StoreProcess(
                name=STORE_HOST,
                command=("redis-server", *keeps, *volatile),
                envs={},
                port=REDIS_PORT,
                image=REDIS_IMAGE,
                memory_gib=capacity_bytes / GIB,
                on_every_node=False,
            ),
        )
    return (
        StoreProcess(
            name=STORE_HOST,
            command=("mooncake_master", "--port", str(MASTER_PORT)),
            envs={},
            port=MASTER_PORT,
            image="",
            memory_gib=1.0,
            on_every_node=False,
        ),
        StoreProcess(
            name="kv-segment",
            command=("python3", "-m", "mooncake.mooncake_store_service"),
            envs={
                **mooncake_variables(protocol),
                "MOONCAKE_GLOBAL_SEGMENT_SIZE": str(int(capacity_bytes / nodes)),
                "MOONCAKE_LOCAL_BUFFER_SIZE": "0",
            },
            port=0,
            image="",
            memory_gib=capacity_bytes / GIB / nodes,
            on_every_node=True,
        ),
    )


def client_file(protocol: str) -> str:
    """Return the file by which vLLM reaches Mooncake: it asks, and gives no memory itself."""
    return json.dumps(
        {
            "mode": "standalone-store",
            "metadata_server": _METADATA,
            "master_server_address": _MASTER,
            "global_segment_size": 0,
            "local_buffer_size": "4GB",
            "protocol": protocol,
            "device_name": "",
        }
    )
