"""Decoders whose windowed layers have other heads than their full layers.

Gemma 4, MiMo V2, Step 3.5, Laguna, Inkling.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from budsim.model_ops.config_reader import MAX_HEADS, ConfigReader
from budsim.model_ops.families.decoder import assemble, attention_layer, read_dimensions
from budsim.model_ops.families.layer_inputs import with_layer_inputs
from budsim.model_ops.families.sliding_windows import read_windows
from budsim.model_ops.families.text_model import Layer, TextModel
from budsim.model_ops.families.traits import FamilyTraits

# Where the config states none (transformers 5.24 ``Gemma4TextConfig``).
GEMMA4_GLOBAL_HEAD_DIM: Final = 512
# Norms in a layer with experts (transformers 5.24 ``Gemma4TextDecoderLayer``).
GEMMA4_NORMS_WITH_EXPERTS: Final = 7
# Every sixth layer sees everything (transformers 5.24 ``InklingTextConfig``).
INKLING_PATTERN: Final = 6

HEAD_FIELDS: Final = ("num_attention_heads", "num_key_value_heads", "head_dim", "v_head_dim")


def read_gemma4(config: ConfigReader, traits: FamilyTraits) -> TextModel:
    """Return Gemma 4: wide heads in full layers; experts, if any, beside a dense part.

    The small ones (E2B, E4B) have an input for each layer, and last layers without a cache.
    """
    full = {"head_dim": config.values.get("global_head_dim") or GEMMA4_GLOBAL_HEAD_DIM}
    # Full layers use keys as values, with a number of heads of their own.
    if config.flag("attention_k_eq_v", default=False) and config.has("num_global_key_value_heads"):
        full["num_key_value_heads"] = config.values["num_global_key_value_heads"]
    if config.flag("enable_moe_block", default=False):
        # Every token visits the dense part: it counts as the shared expert.
        dense_width = config.values.get("intermediate_size")
        config = config.with_values({"shared_expert_intermediate_size": dense_width})
        traits = replace(traits, experts=True, norms=GEMMA4_NORMS_WITH_EXPERTS)
    return with_layer_inputs(config, _assemble_mixed(config, traits, full=full, windowed={}))


def read_mimo_v2(config: ConfigReader, traits: FamilyTraits) -> TextModel:
    """Return MiMo V2: windowed layers have more key-value heads, and sinks.

    ``hybrid_layer_pattern`` marks windowed layers with 1.
    """
    dims = read_dimensions(config)
    marked = config.integers("hybrid_layer_pattern", count=dims.layers, high=1)
    kinds = ["sliding_attention" if one else "full_attention" for one in marked or ()]
    windowed = {
        name: config.values[f"swa_{name}"] for name in HEAD_FIELDS if config.has(f"swa_{name}")
    }
    sinks = config.flag("add_swa_attention_sink_bias", default=False)
    config = config.with_values({"layer_types": kinds} if kinds else {})
    return _assemble_mixed(config, traits, full={}, windowed=windowed, sinks=sinks)


def read_step3(config: ConfigReader, traits: FamilyTraits) -> TextModel:
    """Return Step 3.5 and 3.7: ``attention_other_setting`` holds the heads of windowed layers.

    A scalar gates each head.
    """
    other = config.nested("attention_other_setting")
    names = ("num_attention_heads", "num_attention_groups")
    windowed = {name: other.values[name] for name in names} if other is not None else {}
    layers = read_dimensions(config).layers
    changes: dict[str, object] = {}
    listed_layers = config.text("moe_layers_enum").split(",")
    sparse = {int(item) for item in listed_layers if item.strip().isdigit()}
    if sparse:
        kinds = ["sparse" if index in sparse else "dense" for index in range(layers)]
        changes["mlp_layer_types"] = kinds
    if config.has("share_expert_dim"):
        changes["shared_expert_intermediate_size"] = config.values["share_expert_dim"]
    listed = config.values.get("layer_types")
    if isinstance(listed, list):
        # The list goes on with the layers of multi-token prediction, which are not counted.
        changes["layer_types"] = listed[:layers]
    config = config.with_values(changes)
    return _assemble_mixed(config, traits, full={}, windowed=windowed, gated_heads=True)


def read_laguna(config: ConfigReader, traits: FamilyTraits) -> TextModel:
    """Return Laguna: each layer may have its own number of query heads, and a gated output.

    ``gating`` is one gate for each head (``true`` or ``per-head``) or for each output.
    """
    dims = read_dimensions(config)
    gating = config.values.get("gating", True)
    traits = replace(
        traits, head_gate=gating in (True, "per-head"), output_gate=gating == "per-element"
    )
    field = "num_attention_heads_per_layer"
    stated = config.integers(field, count=dims.layers, high=MAX_HEADS)
    windows = read_windows(config, dims.layers, dims.context, pattern=0)
    layers = []
    for index, window in enumerate(windows):
        own = config.with_values({"num_attention_heads": stated[index]} if stated else {})
        layers.append(attention_layer(own, traits, dims.hidden, window))
    return assemble(config, traits, dims, layers)


def read_inkling(config: ConfigReader, traits: FamilyTraits) -> TextModel:
    """Return Inkling (vLLM 0.33 ``models/inkling``): windowed layers have heads of their own.

    ``local_layer_ids`` lists the windowed layers. The short convolutions behind keys, values,
    attention and experts are below 0.1 % of the weights and are not counted.
    """
    dims = read_dimensions(config)
    is_local = _inkling_windowed_layers(config, dims.layers)
    kinds = ["sliding_attention" if flag else "full_attention" for flag in is_local]
    windowed = {
        name: config.values[f"swa_{name}"] for name in HEAD_FIELDS if config.has(f"swa_{name}")
    }
    changes: dict[str, object] = {"layer_types": kinds}
    if config.has("dense_mlp_idx") and not config.has("mlp_layer_types"):
        changes["first_k_dense_replace"] = config.values["dense_mlp_idx"]
    config = config.with_values(changes)
    return _assemble_mixed(config, traits, full={}, windowed=windowed)


def _inkling_windowed_layers(config: ConfigReader, layers: int) -> list[bool]:
    """Return whether each layer of Inkling is windowed."""
    stated = config.texts("layer_types", count=layers)
    if stated:
        return [kind == "hybrid_sliding" for kind in stated]
    local = config.values.get("local_layer_ids")
    return [
        index in local if isinstance(local, list) else (index + 1) % INKLING_PATTERN != 0
        for index in range(layers)
    ]


def _assemble_mixed(
    config: ConfigReader,
    traits: FamilyTraits,
    *,
    full: Mapping[str, object],
    windowed: Mapping[str, object],
    sinks: bool = False,
    gated_heads: bool = False,
) -> TextModel:
    """Return a decoder; ``full`` and ``windowed`` replace values of ``config`` in such layers."""
    dims = read_dimensions(config)
    windows = read_windows(
        config, dims.layers, dims.context, pattern=traits.window_pattern, default=traits.windowed
    )
    layers: list[Layer] = []
    for window in windows:
        own = config.with_values(full if window is None else windowed)
        layer = attention_layer(own, traits, dims.hidden, window)
        heads = layer.attention.heads
        extra = heads * (sinks and window is not None) + heads * dims.hidden * gated_heads
        layers.append(replace(layer, extra_parameters=layer.extra_parameters + extra))
    return assemble(config, traits, dims, layers)
