"""A store of KV cache that replicas share: who reaches it, how fast, and whether it is worth it."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from budsim.commons.errors import InvalidInput
from budsim.commons.units import GIB
from budsim.engine_ops.kv_store import KvStore, StoreKind, kv_store_of
from budsim.hardware_ops.device_names import find_device
from budsim.performance.predictor import AnalyticPredictor
from budsim.performance.prefixes import PrefixSet, PrefixShare
from budsim.simulator.planning.answer import answer
from budsim.simulator.planning.choices import one_replica_each
from budsim.simulator.planning.device_sets import cheapest_devices
from budsim.simulator.planning.hardware_groups import usable
from budsim.simulator.planning.kv_stores import StoreLink, store_columns, storing_where_it_gains
from budsim.simulator.planning.plans import Outcome
from budsim.simulator.planning.question import Disaggregation, Question
from budsim.simulator.planning.scoring import Scoring
from budsim.simulator.planning.serving_options import serving_options
from tests.simulator.planning.returning_questions import (
    assert_model_is_refused,
    returning_question,
    returning_traffic,
)

TRAFFIC = returning_traffic(2e7)
MOONCAKE = KvStore(kind=StoreKind.MOONCAKE, capacity_bytes=4000.0 * GIB)
LMCACHE = replace(MOONCAKE, kind=StoreKind.LMCACHE)
FILES = replace(MOONCAKE, kind=StoreKind.FILE, bytes_per_s=100e9)


def asked(store: KvStore | None, engine: str = "vllm", **node: object) -> Question:
    """Return a question of 20 million tokens of prefixes with a store."""
    return replace(returning_question(2e7, engine, **node), kv_store=store)


def answered(question: Question) -> Outcome:
    """Return the answer by physics alone."""
    return answer(question, AnalyticPredictor())


def reasons(question: Question) -> str:
    """Return all reasons of an answer as one text."""
    return "\n".join(each.reason for each in answered(question).rejections)


@pytest.mark.parametrize("store", [MOONCAKE, LMCACHE])
def test_devices_that_are_not_bought_yet_have_room_for_a_store(store: KvStore) -> None:
    """`budsim size` knows no nodes: their memory is taken to hold what was asked for."""
    question = replace(asked(store), clusters=())
    device = find_device("H100-SXM")
    assert device
    (bought,) = cheapest_devices(question, AnalyticPredictor(), [device]).sets
    kept = bought.plan.groups[0].config.kv_store
    assert kept
    assert kept.capacity_bytes == store.capacity_bytes


@pytest.mark.parametrize("store", [MOONCAKE, LMCACHE])
def test_prefixes_are_found_in_the_store_and_the_gain_is_told(store: KvStore) -> None:
    """20 million tokens of 131 kB are 2,600 GB: no device holds them, and the store does."""
    group = answered(asked(store)).plans[0].groups[0]
    effect = group.explanation.host_tier
    assert effect is not None
    assert group.config.kv_store == store
    assert effect.store_bytes == store.capacity_bytes
    assert effect.store_share > 0.7
    assert effect.missed_share < 0.1
    assert effect.ttft_without_s > 1.2 * group.service.ttft_s.value


def test_sglang_reads_a_store_through_host_memory() -> None:
    """Without any it is a reason; with more than its device cache it has both."""
    told = "sglang reads a mooncake store through host memory, and none is given to KV cache"
    assert told in reasons(asked(MOONCAKE, "sglang"))
    with_host = replace(asked(MOONCAKE, "sglang"), kv_offload_bytes=1000.0 * GIB)
    args = answered(with_host).plans[0].groups[0].launch.args
    assert args["hicache-storage-backend"] == "mooncake"
    assert args["enable-hierarchical-cache"] is True


def test_files_are_read_through_host_memory_at_the_stated_speed() -> None:
    """Without host memory it is a reason; eight devices of 100 GB/s read 12.5 each at most."""
    for engine in ("vllm", "sglang"):
        told = f"{engine} reads a file store through host memory, and none is given to KV cache"
        assert told in reasons(asked(FILES, engine))
    with_host = replace(asked(FILES), kv_offload_bytes=400.0 * GIB)
    group = answered(with_host).plans[0].groups[0]
    assert group.config.kv_store == FILES
    transfer = json.loads(str(group.launch.args["kv-transfer-config"]))
    assert transfer["kv_connector"] == "OffloadingConnector"
    extra = transfer["kv_connector_extra_config"]
    assert extra["spec_name"] == "TieringOffloadingSpec"
    assert extra["secondary_tiers"] == [{"type": "fs", "root_dir": "/kv-store"}]
    assert extra["cpu_bytes_to_use"] > 1e9
    effect = group.explanation.host_tier
    assert effect is not None
    assert effect.store_share > 0.2
    slow = replace(with_host, kv_store=replace(FILES, bytes_per_s=1e8))
    assert "ends no request sooner than computing again" in reasons(slow)


def test_sglang_keeps_files_of_each_rank_within_the_size() -> None:
    """4,000 GiB of tp ranks; AMD's devices read files, too."""
    on_amd = asked(FILES, "sglang", devices=[{"device": "MI300X", "count": 8}])
    for question in (asked(FILES, "sglang"), on_amd):
        launch = (
            answered(replace(question, kv_offload_bytes=1500.0 * GIB)).plans[0].groups[0].launch
        )
        assert launch.args["hicache-storage-backend"] == "file"
        assert launch.envs["SGLANG_HICACHE_FILE_BACKEND_STORAGE_DIR"] == "/kv-store"
        each = int(launch.envs["SGLANG_HICACHE_FILE_BACKEND_MAX_SIZE"])
        assert each * int(launch.args.get("tp-size", 1)) == pytest.approx(4000 * GIB, rel=1e-6)


def test_an_engine_without_the_store_is_a_reason() -> None:
    """SGLang reads no LMCache store, and nothing does on AMD's devices; plans go without."""
    assert "sglang reads no lmcache store on CUDA" in reasons(asked(LMCACHE, "sglang"))
    amd = asked(MOONCAKE, devices=[{"device": "MI300X", "count": 8}])
    assert "vllm reads no mooncake store on ROCM" in reasons(amd)
    assert answered(amd).plans[0].groups[0].config.kv_store is None


def test_a_device_without_a_network_is_a_reason() -> None:
    """Nothing is read over no network."""
    question = asked(MOONCAKE)
    cluster = question.clusters[0]
    pool = cluster.nodes[0].pools[0]
    assert pool.device is not None
    cut = replace(pool.device, scale_out=replace(pool.device.scale_out, bandwidth_bytes_per_s=0.0))
    node = replace(cluster.nodes[0], pools=(replace(pool, device=cut),))
    alone = replace(question, clusters=(replace(cluster, nodes=(node,)),))
    assert "H100-SXM has no network over which a store is read" in reasons(alone)


def test_a_store_slower_than_computing_is_left_out() -> None:
    """At 1 GB/s for all, prefixes are computed again, and the plan says why."""
    slow = asked(replace(MOONCAKE, bytes_per_s=1e9))
    assert answered(slow).plans[0].groups[0].config.kv_store is None
    assert "ends no request sooner than computing again" in reasons(slow)


def test_memory_of_all_nodes_bounds_their_store() -> None:
    """Of 1,000 GiB a node keeps 10 for others: 990 of the 4,000 that are asked for."""
    question = asked(MOONCAKE, host_memory_gb=1000)
    best = answered(question).plans[0].groups[0].config
    assert best.kv_store is not None
    assert best.kv_store.capacity_bytes == 990 * GIB
    assert "nodes hold 990 of the 4000 GiB asked for the mooncake store" in reasons(question)
    server = answered(asked(LMCACHE, host_memory_gb=1000)).plans[0].groups[0].config.kv_store
    assert server is not None
    assert server.capacity_bytes == LMCACHE.capacity_bytes


def test_host_memory_that_is_taken_holds_no_store() -> None:
    """8 GiB are left to others; the plan goes without."""
    question = asked(MOONCAKE, host_memory_gb=8)
    assert "host memory has no room for the mooncake store" in reasons(question)
    assert answered(question).plans[0].groups[0].config.kv_store is None


def test_a_store_that_changes_nothing_is_told() -> None:
    """Without the tokens of all prefixes no cache ever drops one."""
    always = replace(asked(MOONCAKE), traffic=replace(TRAFFIC, prefix=PrefixShare(share=0.9)))
    assert "a shared store changes nothing" in reasons(always)


def test_replicas_divide_what_the_store_delivers() -> None:
    """40 GB/s for four devices are 10 each, and no card reads more than its own 35."""
    link = StoreLink(
        store=MOONCAKE, device_bytes_per_s=35e9, all_bytes_per_s=40e9, through_host=False
    )
    columns = store_columns([link, link, None], np.array([1.0, 0.25, 1.0]), [1, 4, 4])
    assert columns["store_bytes_per_s"].tolist() == [35e9, 10e9, 0.0]
    assert columns["store_bytes"].tolist() == [
        MOONCAKE.capacity_bytes,
        MOONCAKE.capacity_bytes / 4,
        0.0,
    ]
    assert store_columns([None], np.ones(1), [1]) == {}


def test_a_router_by_prefix_gains_less_beside_a_store() -> None:
    """Four replicas that each meet all prefixes, or a quarter: the store finds them either way."""
    shortest = {}
    for store in (None, MOONCAKE):
        for by_prefix in (False, True):
            prefix = PrefixSet(share=0.9, tokens=2e6, by_prefix=by_prefix)
            question = replace(asked(store), traffic=replace(TRAFFIC, prefix=prefix))
            cluster = question.clusters[0]
            groups = usable(cluster, question.mode, skip_master_cpus=True).groups
            option = serving_options(question, cluster, groups)[0][0]
            four = replace(one_replica_each(option, [(1, 1)], 16), replicas=np.array([4]))
            scoring = Scoring(question, (option,))
            found = AnalyticPredictor().predict(scoring.candidates(four))[1]
            shortest[store is not None, by_prefix] = float(found.service.ttft_s[0])
    without = shortest[False, False] / shortest[False, True]
    beside = shortest[True, False] / shortest[True, True]
    assert without > 1.3
    assert 1.0 <= beside < 0.8 * without


def test_rows_without_a_store_are_left_as_they_are() -> None:
    """Nothing is predicted twice where none is asked for."""
    question = asked(None)
    cluster = question.clusters[0]
    groups = usable(cluster, question.mode, skip_master_cpus=True).groups
    option = serving_options(question, cluster, groups)[0][0]
    table = Scoring(question, (option,)).candidates(one_replica_each(option, [(1, 1)], 16))
    assert storing_where_it_gains(table) is table


@pytest.mark.parametrize(
    ("store", "engine", "told"),
    [
        (MOONCAKE, "vllm", "MooncakeStoreConnector"),
        (LMCACHE, "vllm", "LMCacheConnectorV1"),
        (FILES, "vllm", "TieringOffloadingSpec"),
        (MOONCAKE, "sglang", "--hicache-storage-backend mooncake"),
    ],
)
def test_prefill_workers_of_pools_read_the_store(store: KvStore, engine: str, told: str) -> None:
    """They find what any of them computed, beside handing caches over; decode workers do not."""
    pools = replace(asked(store, engine, host_memory_gb=4000), disaggregation=Disaggregation.ONLY)
    with_host = store is FILES or engine == "sglang"
    pools = replace(pools, kv_offload_bytes=1000.0 * GIB if with_host else 0.0)
    prefill, decode = answered(pools).plans[0].groups
    effect = prefill.explanation.host_tier
    assert effect is not None
    assert effect.store_share > 0.5
    assert prefill.service.ttft_s.value < effect.ttft_without_s
    commands = [" ".join(each.launch.command) for each in (prefill, decode)]
    assert [told in each for each in commands] == [True, False]
    assert [each.config.kv_store is None for each in (prefill, decode)] == [False, True]
    hands = "NixlConnector" if engine == "vllm" else "--disaggregation-mode"
    assert all(hands in each for each in commands)


def test_pools_read_no_store_that_is_slower_than_their_prompts() -> None:
    """A hundredth of a GB/s: prefill workers compute again, and a reason says so."""
    slow = replace(MOONCAKE, bytes_per_s=1e7)
    question = replace(asked(slow), disaggregation=Disaggregation.ONLY)
    assert answered(question).plans[0].groups[0].config.kv_store is None
    assert "ends no request sooner than computing again" in reasons(question)


@pytest.mark.parametrize("model", ["BAAI/bge-large-en-v1.5", "nvidia/NVIDIA-Nemotron-Nano-9B-v2"])
def test_models_that_find_nothing_again_have_no_store(model: str) -> None:
    """Embedding models and recurrent states are refused by the field's name."""
    assert_model_is_refused(asked(MOONCAKE), model, field="kv_store_gib")


def test_the_usual_store_is_mooncake() -> None:
    """A size is enough; none, and a size of 0, are no store."""
    assert kv_store_of(4000.0) == MOONCAKE
    assert kv_store_of(4000.0, " LMCache ", 10.0) == replace(LMCACHE, bytes_per_s=1e10)
    assert kv_store_of(None) is None
    assert kv_store_of(0.0, None, None) is None


@pytest.mark.parametrize(
    ("asked_for", "told"),
    [
        ((-1.0,), "kv_store_gib: is -1; expected 0 to"),
        ((2e6,), r"kv_store_gib: is 2e\+06; expected 0 to 1.04858e\+06 GiB"),
        ((float("nan"),), "kv_store_gib: is nan"),
        ((10.0, "memcached"), "kv_store: 'memcached' is not known; expected one of mooncake, lm"),
        ((10.0, None, 0.0), "kv_store_gb_per_s: is 0; expected above 0"),
        ((10.0, None, -2.0), "kv_store_gb_per_s: is -2; expected above 0"),
        ((10.0, "file"), "kv_store_gb_per_s: is missing: .* expected GB/s that all replicas read"),
        ((0.0, "lmcache"), "kv_store: is given without the size of the store"),
        ((None, None, 5.0), "kv_store_gb_per_s: is given without the size of the store"),
    ],
)
def test_what_is_no_store_is_refused(asked_for: tuple[object, ...], told: str) -> None:
    """By the name of its field."""
    with pytest.raises(InvalidInput, match=told):
        kv_store_of(*asked_for)  # type: ignore[arg-type]
