"""What a request asks: the model and clusters it names, and what its model cannot do."""

import pytest

from budsim.commons.errors import InvalidInput, NotFound
from budsim.commons.precision import Precision
from budsim.hardware_ops.cluster import HardwareMode
from budsim.model_ops.registry import resolve_model
from budsim.performance.traffic import Traffic
from budsim.simulator.planning.targets import Targets
from budsim.simulator.questions import (
    ModelSource,
    chosen_clusters,
    precision_named,
    question_of,
    served,
)
from budsim.simulator.schemas import RunRequest
from tests.simulator.situations import MODEL, make_cluster

EMBEDDING = "BAAI/bge-m3"
CLUSTERS = (
    make_cluster((("H100-SXM", 1),), cluster_id="4f2647a2-a20e-581a-ab8e-eb8be653d4e3"),
    make_cluster((("L4", 2),), cluster_id="e285fa0a-5a4a-58d1-abe9-929902ef5502"),
)


def test_every_field_of_a_request_reaches_the_question(body):
    """The request's own words become the core's: quantization, engines, LoRA, context."""
    request = RunRequest.model_validate(
        body
        | {
            "is_quantization": True,
            "quantization_type": "W4A16",
            "simulation_method": "heuristic",
            "hardware_mode": "shared",
            "model_uri": "org/name",
            "model_max_context_length": 4096,
            "max_loras": 2,
            "max_lora_rank": 32,
            "cluster_id": CLUSTERS[1].cluster_id,
            "speculative": "ngram",
            "draft_tokens": 4,
            "acceptance": 0.0,
            "price_basis": "own",
            "usd_per_kwh": 0.05,
            "g_co2_per_kwh": 30,
        }
    )
    question = question_of(request, CLUSTERS, ModelSource())
    assert [each.cluster_id for each in question.clusters] == [CLUSTERS[1].cluster_id]
    (pool,) = question.clusters[0].nodes[0].pools
    assert "0.05 USD/kWh" in pool.device.price_origin.source
    assert question.power_site.g_co2_per_kwh == 30.0
    assert (question.may_quantize, question.weight_precision) == (True, Precision.INT4)
    assert (question.analytic_only, question.mode) == (True, HardwareMode.SHARED)
    assert (question.parsed_as, question.max_context_tokens) == ("org/name", 4096)
    assert (question.max_loras, question.max_lora_rank) == (2, 32)
    (way,) = question.speculations
    assert (way.method, way.draft_tokens, way.tokens_per_step) == ("ngram", 4, 1.0)


def test_models_that_pool_generate_nothing():
    """Output tokens asked of an embedding model do not count; a rate of tokens is refused."""
    asked = Traffic.closed(input_tokens=512, output_tokens=128, concurrency=4)
    assert served(resolve_model(EMBEDDING), asked, Targets())[1].output_tokens == 0
    with pytest.raises(InvalidInput, match="target_throughput_per_user"):
        served(resolve_model(EMBEDDING), asked, Targets(tokens_per_s_per_user=20.0))


def test_a_generating_model_may_be_asked_for_vectors():
    """Without the request it generates text; with `pooling` it is an embedding model."""
    model = resolve_model(MODEL)
    asked = Traffic.closed(input_tokens=512, output_tokens=128, concurrency=4)
    assert served(model, asked, Targets()) == (model, asked)
    pooled, traffic = served(model, asked, Targets(), pooling=True)
    assert (pooled.is_embedding, traffic.output_tokens) == (True, 0)


def test_sequences_longer_than_the_context_are_refused(body):
    """The limit is the model's context, or the caller's if that is shorter."""
    request = RunRequest.model_validate(body | {"model_max_context_length": 1279})
    with pytest.raises(InvalidInput, match="exceed the context of 1279"):
        question_of(request, CLUSTERS, ModelSource())


def test_targets_on_gaps_of_one_token_are_refused_as_the_request_names_them(body):
    """The core calls it itl_p99_s."""
    request = RunRequest.model_validate(body | {"output_tokens": 1, "target_itl_p99": 20})
    with pytest.raises(InvalidInput, match=r"^target_itl_p99: bounds gaps between tokens"):
        question_of(request, CLUSTERS, ModelSource())


def test_a_cluster_is_found_by_its_id_in_any_case():
    """Ids are UUIDs: upper and lower case are one."""
    wanted = CLUSTERS[0].cluster_id.upper()
    assert chosen_clusters(CLUSTERS, wanted) == CLUSTERS[:1]
    with pytest.raises(NotFound, match="the inventory has 2 clusters"):
        chosen_clusters(CLUSTERS, "elsewhere")


def test_schemes_and_formats_are_both_names_of_a_precision():
    """`W4A16` is a scheme of LLM Compressor, `fp8` a format; `int5` is neither."""
    assert precision_named("W4A16") is Precision.INT4
    assert precision_named(" FP8 ") is Precision.FP8
    with pytest.raises(InvalidInput, match="'int5' is not known"):
        precision_named("int5")
