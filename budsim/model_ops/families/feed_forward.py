"""Reads one layer's feed-forward part: dense, or experts with their number, width and use."""

from __future__ import annotations

from budsim.commons.errors import InvalidInput
from budsim.model_ops.config_reader import (
    MAX_EXPERTS,
    MAX_HIDDEN,
    MAX_LAYERS,
    MAX_WIDTH,
    ConfigReader,
)
from budsim.model_ops.families.traits import FamilyTraits
from budsim.model_ops.layers import FeedForward

WIDTH = ("intermediate_size", "ffn_hidden_size", "n_inner", "ffn_dim")
DENSE_WIDTH_BESIDE_EXPERTS = (
    "intermediate_size_mlp",
    "dense_intermediate_size",
    "prefix_dense_intermediate_size",
    *WIDTH,
)
EXPERT_WIDTH = ("moe_intermediate_size", "expert_intermediate_size", "intermediate_size")
SHARED_WIDTH = (
    "shared_expert_intermediate_size",
    "moe_shared_expert_intermediate_size",
    "shared_intermediate_size",
)
EXPERTS = ("num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts")
EXPERTS_PER_TOKEN = (
    "num_experts_per_tok",
    "num_experts_per_token",
    "experts_per_token",
    "moe_k",
    "top_k_experts",
    "moe_top_k",
)
SHARED_EXPERTS = ("n_shared_experts", "num_shared_experts", "moe_num_shared_experts")
EVERY = ("moe_layer_freq", "decoder_sparse_step", "moe_layer_interval")
LEADING_DENSE = ("first_k_dense_replace", "moe_layer_start_index")


def read_dense(config: ConfigReader, traits: FamilyTraits, hidden: int) -> FeedForward:
    """Return the feed-forward part of a layer without experts."""
    default = traits.width_factor * hidden or None
    # Beside experts `intermediate_size` may be an expert's width: more telling names come first.
    names = DENSE_WIDTH_BESIDE_EXPERTS if traits.experts else WIDTH
    width = config.integer(*names, high=MAX_WIDTH, default=default)
    return FeedForward(width=width, gated=traits.gated)


def read_experts(config: ConfigReader, *, gated: bool = True) -> FeedForward:
    """Return the feed-forward part of a layer with experts.

    Raises
    ------
    InvalidInput
        A count is missing or absurd, or a token visits more experts than there are.
    """
    experts = config.integer(*EXPERTS, high=MAX_EXPERTS)
    chosen = config.integer(*EXPERTS_PER_TOKEN, high=MAX_EXPERTS)
    if chosen > experts:
        field = config.path(config.raw(*EXPERTS_PER_TOKEN)[0])
        raise InvalidInput(field, f"{chosen} of {experts} experts", f"at most {experts}")
    width = config.integer(*EXPERT_WIDTH, high=MAX_WIDTH)
    return FeedForward(
        width=width,
        gated=gated,
        experts=experts,
        experts_per_token=chosen,
        shared_width=_shared_width(config, width),
        expert_hidden=config.integer(
            "moe_latent_size", "routed_expert_hidden_size", high=MAX_HIDDEN, low=0, default=0
        ),
    )


def layers_with_experts(config: ConfigReader, layers: int) -> tuple[bool, ...]:
    """Return for each layer whether it holds experts.

    Families state this in one of four ways: a kind for each layer, a 0 or 1 for each layer, every
    n-th layer, or all but the first n. ``mlp_only_layers`` takes single layers out.
    """
    if types := config.texts("mlp_layer_types", count=layers):
        return tuple(kind == "sparse" for kind in types)
    if isinstance(config.values.get("moe_layer_freq"), list):
        pattern = config.integers("moe_layer_freq", count=layers, high=1) or ()
        return tuple(bool(item) for item in pattern)
    return _layers_by_numbers(config, layers)


def _layers_by_numbers(config: ConfigReader, layers: int) -> tuple[bool, ...]:
    every = config.integer(*EVERY, high=MAX_LAYERS, default=1)
    # DeepSeek's `moe_layer_freq` counts layers from 0, Qwen's `decoder_sparse_step` from 1.
    offset = 0 if config.has("moe_layer_freq") else 1
    leading = config.integer(*LEADING_DENSE, low=0, high=MAX_LAYERS, default=0)
    dense = config.values.get("mlp_only_layers") or ()
    if not isinstance(dense, list | tuple):
        raise InvalidInput(config.path("mlp_only_layers"), repr(dense), "a list of layer numbers")
    return tuple(
        index >= leading and (index + offset) % every == 0 and index not in dense
        for index in range(layers)
    )


def feed_forward_biases(feed_forward: FeedForward, hidden: int) -> int:
    """Return the number of bias values of a layer's dense or expert matrices, and of its router."""
    one = feed_forward.width * (2 if feed_forward.gated else 1) + hidden
    return (one + 1) * feed_forward.experts if feed_forward.experts else one


def _shared_width(config: ConfigReader, width: int) -> int:
    # A stated width is that of all shared experts together.
    if config.has(*SHARED_WIDTH):
        return config.integer(*SHARED_WIDTH, low=0, high=MAX_WIDTH)
    return width * config.integer(*SHARED_EXPERTS, low=0, high=MAX_EXPERTS, default=0)
