"""Quantized checkpoints are found by the name of the model they are made of."""

import pytest

from budsim.commons.precision import Precision
from budsim.model_ops.quantized_checkpoints import published_in, quantized_checkpoints
from budsim.model_ops.registry import resolve_model


@pytest.mark.parametrize(
    ("model", "first"),
    [
        ("Qwen/Qwen3-235B-A22B", "Qwen/Qwen3-235B-A22B-FP8"),
        ("meta-llama/Llama-3.1-70B-Instruct", "neuralmagic/Meta-Llama-3.1-70B-Instruct-FP8"),
        ("zai-org/GLM-4.6", "zai-org/GLM-4.6-FP8"),
    ],
)
def test_the_first_is_fp8_of_the_same_publisher_where_there_is_one(model, first):
    """FP8 comes first, and of several the one of whoever published the model."""
    found = quantized_checkpoints(resolve_model(model))
    assert found[0] == first
    assert all("fp8" in name.lower() for name in found[:1])


def test_a_quantized_model_has_none():
    """A checkpoint in FP8 is not offered another one."""
    assert quantized_checkpoints(resolve_model("Qwen/Qwen3-235B-A22B-FP8")) == ()


def test_another_size_is_another_model():
    """Qwen3-32B is not offered the checkpoints of Qwen3-235B."""
    assert all("32b" in name.lower() for name in quantized_checkpoints(resolve_model("Qwen3-32B")))


def test_the_published_checkpoint_of_a_format_is_found():
    """Llama-3.1-8B is published in FP8, and in no format of 3 bits."""
    model = resolve_model("meta-llama/Llama-3.1-8B-Instruct")
    found = published_in(model, Precision.FP8)
    assert found is not None
    assert resolve_model(found).quantization.precision is Precision.FP8
    assert published_in(model, Precision.FP32) is None
