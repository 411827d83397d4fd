"""Quantized checkpoints: their format, what they leave in 16 bit, and their size."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from budsim.commons.errors import UnsupportedModel
from budsim.commons.precision import Precision
from budsim.model_ops.architecture import Architecture
from budsim.model_ops.config import architecture_from_config
from budsim.model_ops.config_reader import ConfigReader
from budsim.model_ops.matrices import MatrixRole
from budsim.model_ops.quantization import quantization_from
from budsim.model_ops.registry import known_models, resolve_model

SHORTER = [
    precision
    for precision in Precision
    if precision not in {Precision.FP32, Precision.BF16, Precision.FP16}
]


@pytest.mark.parametrize(
    ("model_id", "precision"),
    [
        ("meta-llama/Llama-3.1-8B-Instruct", Precision.BF16),
        ("meta-llama/Llama-2-7b-hf", Precision.FP16),
        ("deepseek-ai/DeepSeek-V3", Precision.FP8),
        ("nvidia/DeepSeek-R1-NVFP4", Precision.NVFP4),
        ("nvidia/Llama-3.1-8B-Instruct-FP8", Precision.FP8),
        ("amd/Llama-3.1-405B-Instruct-FP8-KV", Precision.FP8),
        ("RedHatAI/Meta-Llama-3.1-70B-Instruct-quantized.w4a16", Precision.INT4),
        ("Qwen/Qwen2.5-7B-Instruct-GPTQ-Int8", Precision.INT8),
        ("Qwen/Qwen3-14B-AWQ", Precision.INT4),
        ("openai/gpt-oss-120b", Precision.MXFP4),
        ("unsloth/gpt-oss-20b-BF16", Precision.BF16),
        ("moonshotai/Kimi-K2.5", Precision.INT4),
    ],
)
def test_published_format_follows_from_the_checkpoint(model_id: str, precision: Precision) -> None:
    """A re-upload carries its own quantization."""
    assert resolve_model(model_id).native_precision is precision


def weights(**settings: object) -> dict[str, object]:
    """Return compressed-tensors' way of describing how weights were quantized."""
    return {"config_groups": {"group_0": {"targets": ["Linear"], "weights": settings}}}


def kept(architecture: Architecture) -> set[str]:
    """Return the names of the layers' matrices a checkpoint stores in 16 bit."""
    precision = architecture.native_precision
    stored = {m.name: architecture.stored_precision(m, precision) for _, m in architecture.weights}
    return {name for name, found in stored.items() if found is Precision.BF16}


@pytest.mark.parametrize(
    ("model_id", "gib"), [("openai/gpt-oss-120b", 60.8), ("openai/gpt-oss-20b", 12.8)]
)
def test_gpt_oss_quantizes_its_experts_only(model_id: str, gib: float) -> None:
    """Attention, router, embeddings and head of gpt-oss are 16 bit (arXiv 2508.10925, table 1)."""
    architecture = resolve_model(model_id)
    assert {m.name for _, m in architecture.weights} - kept(architecture) == {
        "expert_up",
        "expert_down",
    }
    assert architecture.weight_bytes(architecture.native_precision) / 2**30 == pytest.approx(
        gib, rel=0.005
    )


def test_kimi_quantizes_its_routed_experts_only() -> None:
    """Kimi K2.5 leaves attention, shared experts and dense layers in 16 bit."""
    architecture = resolve_model("moonshotai/Kimi-K2.5")
    assert {m.name for _, m in architecture.weights} - kept(architecture) == {
        "expert_up",
        "expert_down",
    }


def test_exclude_lists_are_read_matrix_by_matrix() -> None:
    """NVIDIA's DeepSeek keeps the latent projections in 16 bit, not the output projection."""
    names = kept(resolve_model("nvidia/DeepSeek-V3.1-NVFP4"))
    assert {"q_kv_down", "q_up", "kv_up"} <= names
    assert not {"o", "expert_up", "shared_up"} & names


def test_exclusions_of_a_few_layers_do_not_count() -> None:
    """An exclude list that names attention in one layer of eight does not make attention 16 bit."""
    quantization = {
        "quant_method": "modelopt",
        "quant_algo": "NVFP4",
        "ignore": ["model.layers.0.self_attn*"],
    }
    base = {
        "model_type": "llama",
        "hidden_size": 64,
        "num_hidden_layers": 8,
        "num_attention_heads": 4,
        "intermediate_size": 128,
    }
    config = {
        **base,
        "vocab_size": 100,
        "max_position_embeddings": 128,
        "quantization_config": quantization,
    }
    assert kept(architecture_from_config("few", config)) == {"embedding", "lm_head"}
    quantization["ignore"] = [f"model.layers.{layer}.self_attn*" for layer in range(8)]
    assert kept(architecture_from_config("all", config)) == {"embedding", "lm_head", "qkv", "o"}


@pytest.mark.parametrize(
    ("quantization", "precision"),
    [
        ({"quant_method": "fp8", "weight_block_size": [128, 128]}, Precision.FP8),
        ({"quant_method": "fbgemm_fp8"}, Precision.FP8),
        ({"quant_method": "gptq", "bits": 4}, Precision.INT4),
        ({"quant_method": "awq", "bits": 4}, Precision.INT4),
        ({"quant_method": "bitsandbytes", "load_in_8bit": True}, Precision.INT8),
        ({"quant_method": "modelopt", "quant_algo": "FP8"}, Precision.FP8),
        ({"quant_method": "mxfp4"}, Precision.MXFP4),
        (
            {"quant_method": "quark", "global_quant_config": {"weight": {"dtype": "fp8_e4m3"}}},
            Precision.FP8,
        ),
        (
            {
                "quant_method": "compressed-tensors",
                **weights(num_bits=4, type="float", group_size=16),
            },
            Precision.NVFP4,
        ),
        ({"quant_method": "compressed-tensors", **weights(num_bits=8, type="int")}, Precision.INT8),
        (
            {"quant_method": "compressed-tensors", **weights(num_bits=8, type="float")},
            Precision.FP8,
        ),
    ],
)
def test_quantization_methods(quantization: dict[str, object], precision: Precision) -> None:
    """Every common quantizer's way of saying its format is understood."""
    base = {
        "model_type": "llama",
        "hidden_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "intermediate_size": 128,
    }
    config = {
        **base,
        "vocab_size": 100,
        "max_position_embeddings": 128,
        "quantization_config": quantization,
    }
    assert architecture_from_config("quantized", config).native_precision is precision


@pytest.mark.parametrize(
    ("quantization", "bits"),
    [
        ({"quant_method": "gptq", "bits": 4, "group_size": 128, "sym": True}, 4 + 16 / 128),
        ({"quant_method": "awq", "bits": 4, "group_size": 128}, 4 + 20 / 128),
        ({"quant_method": "gptq", "bits": 8, "group_size": 32, "sym": True}, 8 + 16 / 32),
        ({"quant_method": "gptq", "bits": 4, "group_size": -1}, None),
        (
            {
                "quant_method": "compressed-tensors",
                **weights(num_bits=4, type="int", group_size=32, symmetric=True),
            },
            4 + 16 / 32,
        ),
        (
            {
                "quant_method": "compressed-tensors",
                **weights(num_bits=8, type="int", strategy="channel"),
            },
            None,
        ),
        ({"quant_method": "fp8", "weight_block_size": [128, 128]}, None),
        ({"quant_method": "bitsandbytes", "load_in_4bit": True}, 4 + 32 / 64),
        (
            {
                "quant_method": "bitsandbytes",
                "load_in_4bit": True,
                "bnb_4bit_use_double_quant": True,
            },
            4 + 8.125 / 64,
        ),
        ({"quant_method": "bitsandbytes", "load_in_8bit": True}, None),
    ],
)
def test_groups_store_a_scale_and_unless_symmetric_a_zero_point(
    quantization: dict[str, object], bits: float | None
) -> None:
    """The shorter the groups of an integer checkpoint, the more its scales weigh."""
    found = quantization_from(ConfigReader(quantization, "quantization_config."), 2)
    assert found is not None
    assert found.bits == bits


@given(st.sampled_from(known_models()), st.sampled_from(SHORTER))
def test_shorter_formats_never_weigh_more(model_id: str, precision: Precision) -> None:
    """A quantized model weighs no more than the original, whatever it leaves in 16 bit."""
    architecture = resolve_model(model_id)
    assert architecture.weight_bytes(precision) <= architecture.weight_bytes(Precision.BF16)


@given(st.sampled_from(known_models()))
def test_checkpoints_weigh_no_more_than_the_same_shape_in_16_bit(model_id: str) -> None:
    """L15 for the catalog's own quantized checkpoints."""
    architecture = resolve_model(model_id)
    native = architecture.native_precision
    limit = Precision.FP32 if native is Precision.FP32 else Precision.BF16
    assert architecture.weight_bytes(native) <= architecture.weight_bytes(limit)


def test_router_stays_in_16_bit() -> None:
    """Quantizers leave the router alone: its output decides which experts run."""
    architecture = resolve_model("Qwen/Qwen3-30B-A3B-FP8")
    router = next(m for _, m in architecture.weights if m.role is MatrixRole.ROUTER)
    assert architecture.stored_precision(router, Precision.FP8) is Precision.BF16


def test_blocks_that_share_a_scale_are_read():
    """Both spellings give the edge of a block; scales by row or matrix give none."""
    assert resolve_model("deepseek-ai/DeepSeek-V3").quantization.block == 128
    assert resolve_model("openai/gpt-oss-20b").quantization.block == 0
    weights = {"num_bits": 8, "type": "float", "strategy": "block", "block_structure": [128, 128]}
    fields = ConfigReader(
        {"quant_method": "compressed-tensors", "config_groups": {"group_0": {"weights": weights}}},
        "q.",
    )
    assert quantization_from(fields, 2).block == 128


def test_short_experts_beside_longer_layers() -> None:
    """DeepSeek-V4-Flash: MXFP4 experts, FP8 attention, and cache compression in 16 bit."""
    model = resolve_model("deepseek-ai/DeepSeek-V4-Flash")
    stored = {
        matrix.name: model.stored_precision(matrix, model.native_precision)
        for _, matrix in model.weights
    }
    assert model.native_precision is stored["expert_up"] is Precision.MXFP4
    assert stored["q_up"] is stored["o"] is stored["shared_down"] is Precision.FP8
    assert (
        stored["compress"]
        is stored["index_k"]
        is stored["router"]
        is stored["lm_head"]
        is Precision.BF16
    )
    assert model.weight_bytes(Precision.MXFP4) == pytest.approx(156e9, rel=0.01)


@pytest.mark.parametrize(
    "listed",
    [
        {
            "quant_algo": "MIXED_PRECISION",
            "quantized_layers": {
                "layers.0.mlp.up_proj": {"quant_algo": "NVFP4"},
                "layers.0.self_attn.q_proj": {"quant_algo": "FP8"},
                "lm_head": {"quant_algo": "W4A16_NVFP4"},
            },
        },
        {
            "config_groups": {
                "group_0": {
                    "targets": ["layers.0.self_attn.q_proj"],
                    "weights": {"num_bits": 8, "type": "float"},
                },
                "group_1": {
                    "targets": ["layers.0.mlp.up_proj", "lm_head"],
                    "weights": {"num_bits": 4, "type": "float"},
                },
            }
        },
    ],
)
def test_checkpoints_of_two_formats_keep_each_where_it_is(listed: dict[str, object]) -> None:
    """Modules listed by name: NVFP4 feed-forward and head, FP8 attention, 16 bit embeddings."""
    base = {
        "model_type": "llama",
        "hidden_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "intermediate_size": 128,
    }
    rest = {
        "vocab_size": 100,
        "max_position_embeddings": 128,
        "quantization_config": {"quant_method": "modelopt", **listed},
    }
    model = architecture_from_config("mixed", {**base, **rest})
    stored = {
        matrix.name: model.stored_precision(matrix, Precision.NVFP4) for _, matrix in model.weights
    }
    assert model.native_precision is Precision.NVFP4
    assert stored["up"] is stored["lm_head"] is Precision.NVFP4
    assert (stored["qkv"], stored["embedding"]) == (Precision.FP8, Precision.BF16)


def test_a_format_nobody_knows_among_listed_layers_is_named() -> None:
    """A list of layers with one unknown algorithm is refused, naming the layer."""
    fields = ConfigReader(
        {"quant_method": "modelopt", "quantized_layers": {"a.mlp": {"quant_algo": "NVFP3"}}}, "q."
    )
    with pytest.raises(UnsupportedModel, match=r"q\.quantized_layers\.a\.mlp"):
        quantization_from(fields, 2)
