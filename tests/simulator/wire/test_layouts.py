"""Layouts on named hosts as callers read them."""

from typing import Any

import pytest
from fastapi.testclient import TestClient

from budsim.performance.predictor import AnalyticPredictor
from budsim.simulator.background.worker_processes import ThreadWorkers
from budsim.simulator.cluster_sources import FixedInventory
from budsim.simulator.searching import simulate
from tests.simulator.serving import CLUSTER_ID, OTHER_CLUSTER_ID, MakeClient
from tests.simulator.situations import MODEL, make_cluster, time_sliced

LARGE = "meta-llama/Llama-3.1-405B-Instruct"


@pytest.fixture
def ask(make_client: MakeClient) -> Any:
    """Return a function that asks for the layouts of a model on a cluster's first node."""

    def answer(cluster: Any, **changes: Any) -> Any:
        client: TestClient = make_client(
            inventory=FixedInventory((cluster,)), workers=ThreadWorkers(simulate, AnalyticPredictor)
        )
        host = cluster.nodes[0].name
        asked = {"model_id": MODEL, "cluster_id": CLUSTER_ID, "hostnames": [host], **changes}
        return client.post("/simulator/node-configurations", json=asked)

    return answer


def options(answer: Any) -> dict[str, set[tuple[int, int]]]:
    """Return TP and PP of every option, by device."""
    return {
        device["device_name"]: {(o["tp_size"], o["pp_size"]) for o in device["tp_pp_options"]}
        for device in answer.json()["device_configurations"]
    }


def test_pipelines_are_offered_on_cuda_only(ask: Any):
    """The deployer starts no others."""
    found = options(ask(make_cluster((("H100-SXM", 2), ("MI300X", 2)), cluster_id=CLUSTER_ID)))
    assert (1, 2) in found["H100-SXM"]
    assert {pp for _, pp in found["MI300X"]} == {1}


def test_what_fits_nowhere_is_refused_with_the_reason(ask: Any):
    """A model of 756 GB on one L4: 400, with what the weights need and what there is."""
    answer = ask(make_cluster((("L4", 1),), cluster_id=CLUSTER_ID), model_id=LARGE)
    assert answer.status_code == 400
    assert "L4: no layout holds the weights (755.961 GB)" in answer.json()["message"]


def test_least_tp_is_always_a_number(ask: Any):
    """Devices on which nothing fits are left out: the others have a number each."""
    pools = (("L4", 1), ("MI300X", 8))
    found = ask(make_cluster(pools, cluster_id=CLUSTER_ID), model_id=LARGE).json()
    assert [each["device_name"] for each in found["device_configurations"]] == ["MI300X"]
    assert found["model_info"]["min_tp_for_model"] == 8


def test_shared_devices_with_room_are_offered_alone(ask: Any):
    """Two of four slices are free: the model fits on one of them, though not on the fullest."""
    cluster = time_sliced()
    cluster = type(cluster)(
        cluster_id=CLUSTER_ID, name=cluster.name, nodes=cluster.nodes, mode=cluster.mode
    )
    (found,) = options(ask(cluster, hardware_mode="shared")).values()
    assert (1, 1) in found


def test_hosts_without_usable_devices_are_refused_with_the_reason(ask: Any):
    """Dedicated devices asked for as shared ones."""
    cluster = make_cluster((("H100-SXM", 2),), cluster_id=CLUSTER_ID)
    answer = ask(cluster, hardware_mode="shared")
    assert answer.status_code == 400
    assert "it is not time-sliced" in answer.json()["message"]


@pytest.mark.parametrize(
    ("field", "value"), [("cluster_id", OTHER_CLUSTER_ID), ("hostnames", ["nobody"])]
)
def test_unknown_clusters_and_hosts_are_named(ask: Any, field: str, value: object):
    """400 with the field, as callers expect."""
    answer = ask(make_cluster((("L4", 1),), cluster_id=CLUSTER_ID), **{field: value})
    assert (answer.status_code, answer.json()["param"]) == (400, field)


def test_prompts_are_cut_to_the_context_of_embedding_models(ask: Any):
    """1,024 tokens of a model that reads 512: answered, as its engine would."""
    cluster = make_cluster((("L4", 1),), cluster_id=CLUSTER_ID)
    assert ask(cluster, model_id="BAAI/bge-reranker-large").status_code == 200
