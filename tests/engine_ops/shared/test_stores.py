"""What runs a store of KV cache, and how processes find it."""

from __future__ import annotations

import json

from budsim.commons.units import GIB
from budsim.engine_ops.engine_profile import StoreKind
from budsim.engine_ops.shared.stores import client_file, protocol_of, store_processes
from tests.engine_ops.samples import device


def test_mooncake_has_a_master_and_an_equal_part_on_every_node() -> None:
    """3,000 GiB on two nodes are 1,500 GiB each."""
    master, segment = store_processes(StoreKind.MOONCAKE, 3000.0 * GIB, 2, "rdma")
    assert master.command == ("mooncake_master", "--port", "50051")
    assert not master.on_every_node
    assert segment.on_every_node
    assert segment.memory_gib == 1500.0
    assert segment.envs["MOONCAKE_GLOBAL_SEGMENT_SIZE"] == str(1500 * 2**30)
    assert segment.envs["MOONCAKE_MASTER"] == "kv-store:50051"


def test_redis_keeps_so_much_and_drops_what_was_used_longest_ago() -> None:
    """LMCache's store is one server, with nothing on disk."""
    (server,) = store_processes(StoreKind.LMCACHE, 3000.0 * GIB, 2, "tcp")
    stated = " ".join(server.command)
    assert "--maxmemory 3000gb --maxmemory-policy allkeys-lru" in stated
    assert (server.port, server.on_every_node, server.memory_gib) == (6379, False, 3000.0)


def test_rdma_where_the_network_has_it() -> None:
    """An H100's cards are RoCE or InfiniBand; a desktop's is Ethernet."""
    assert protocol_of(device("H100-SXM")) == "rdma"
    assert protocol_of(device("Xeon Platinum 8480+")) == "tcp"
    stated = json.loads(client_file("tcp"))
    assert stated["protocol"] == "tcp"
    # vLLM refuses this mode with a size, and the other one without (distributed/mooncake_store.py).
    assert (stated["mode"], stated["global_segment_size"]) == ("standalone-store", 0)
