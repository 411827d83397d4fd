"""Repeated layers work and cache, and store no weights."""

from __future__ import annotations

import pytest

from budsim.commons.errors import UnsupportedModel
from budsim.commons.precision import Precision
from budsim.model_ops.config import architecture_from_config
from budsim.model_ops.registry import resolve_model
from budsim.performance.physics.ranks import prepare
from tests.model_ops.configs import llama
from tests.performance.populations import population

LOOPED = {"architectures": ["IQuestLoopCoderForCausalLM"], "model_type": "iquestloopcoder"}


@pytest.mark.parametrize("model_type", ["dory", "ouro"])
def test_loops_that_a_config_does_not_count_are_refused(model_type: str) -> None:
    """Counting such layers once or each would both be wrong."""
    with pytest.raises(UnsupportedModel, match="share weights"):
        architecture_from_config("looped", llama(model_type=model_type))


@pytest.mark.parametrize(
    ("model", "billions", "layers"),
    [
        ("IQuestLab/IQuest-Coder-V1-40B-Loop-Instruct", 39.8, 160),
        ("sapientinc/HRM-Text-1B", 1.18, 128),
        ("Zyphra/Zamba2-7B-Instruct", 7.36, 94),
        ("Zyphra/Zamba2-1.2B", 1.22, 44),
    ],
)
def test_published_models_have_their_published_size(
    model: str, billions: float, layers: int
) -> None:
    """Weights count once, however often they run."""
    architecture = resolve_model(model)
    assert architecture.parameters / 1e9 == pytest.approx(billions, rel=0.005)
    assert architecture.layer_count == layers


def test_a_second_loop_doubles_work_and_no_weights() -> None:
    """Two layers run twice: four layers of work, two of weights, and a small window more."""
    once, twice = (
        architecture_from_config("m", llama(**LOOPED, loop_num=loops, loop_window_size=64))
        for loops in (1, 2)
    )
    assert twice.layer_count == 2 * once.layer_count
    assert twice.parameters == once.parameters
    assert twice.kv_bytes_per_token(Precision.BF16) == 2 * once.kv_bytes_per_token(Precision.BF16)
    assert {group.attention.window for group in twice.layers} == {None, 64}


def test_repeated_weights_are_read_again_and_stored_once() -> None:
    """A step of HRM-Text reads each stack as often as it runs: 128 layers, of which 32 store."""
    table = population(model="sapientinc/HRM-Text-1B", tp=1)
    matrices = prepare(table).matrices
    layers = ~matrices.is_sampled[0] & (matrices.read_bytes[0] > 0)
    read, stored = matrices.read_bytes[0][layers].sum(), matrices.stored_bytes[0][layers].sum()
    assert read / stored == pytest.approx(128 / 32)


def test_shared_blocks_read_twice_the_width() -> None:
    """Zamba2's blocks attend to input and embedding: queries of 7,168 values from 7,168."""
    attention = resolve_model("Zyphra/Zamba2-7B-Instruct").layers[-1].attention
    qkv = attention.matrices(3584)[0]
    assert (qkv.inputs, qkv.outputs) == (7168, 3 * 7168)
