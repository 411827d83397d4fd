"""Reads which layers hold experts, how many, how wide and how many a token visits."""

from __future__ import annotations

from budsim.commons.errors import InvalidInput
from budsim.model_ops.architecture import FeedForward
from budsim.model_ops.fields import MAX_EXPERTS, MAX_HIDDEN, MAX_LAYERS, MAX_WIDTH, Fields

EXPERTS = ("num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts")
CHOSEN = (
    "num_experts_per_tok",
    "num_experts_per_token",
    "experts_per_token",
    "moe_k",
    "top_k_experts",
    "moe_top_k",
)


def expert_layer(fields: Fields, *, gated: bool = True) -> FeedForward:
    """Return the feed-forward part of a layer with experts.

    Raises
    ------
    InvalidInput
        A count is missing or absurd, or a token visits more experts than there are.
    """
    experts = fields.integer(*EXPERTS, high=MAX_EXPERTS)
    chosen = fields.integer(*CHOSEN, high=MAX_EXPERTS)
    if chosen > experts:
        raise InvalidInput(
            fields.path(fields.raw(*CHOSEN)[0]),
            f"{chosen} of {experts} experts",
            f"at most {experts}",
        )
    width = fields.integer(
        "moe_intermediate_size", "expert_intermediate_size", "intermediate_size", high=MAX_WIDTH
    )
    return FeedForward(
        width=width,
        gated=gated,
        experts=experts,
        experts_per_token=chosen,
        shared_width=_shared_width(fields, width),
        expert_hidden=fields.integer(
            "moe_latent_size", "routed_expert_hidden_size", high=MAX_HIDDEN, low=0, default=0
        ),
    )


def expert_layers(fields: Fields, layers: int) -> tuple[bool, ...]:
    """Return for each layer whether it holds experts, by whichever of the known conventions the config follows."""
    types = fields.texts("mlp_layer_types", count=layers)
    if types:
        return tuple(kind == "sparse" for kind in types)
    if isinstance(fields.values.get("moe_layer_freq"), list):
        pattern = fields.integers("moe_layer_freq", count=layers, high=1) or ()
        return tuple(bool(item) for item in pattern)
    every = fields.integer(
        "moe_layer_freq", "decoder_sparse_step", "moe_layer_interval", high=MAX_LAYERS, default=1
    )
    offset = 0 if fields.has("moe_layer_freq") else 1
    leading = fields.integer(
        "first_k_dense_replace", "moe_layer_start_index", low=0, high=MAX_LAYERS, default=0
    )
    dense = fields.values.get("mlp_only_layers") or ()
    if not isinstance(dense, list | tuple):
        raise InvalidInput(fields.path("mlp_only_layers"), repr(dense), "a list of layer numbers")
    return tuple(
        index >= leading and (index + offset) % every == 0 and index not in dense
        for index in range(layers)
    )


def _shared_width(fields: Fields, width: int) -> int:
    if fields.has(
        "shared_expert_intermediate_size",
        "moe_shared_expert_intermediate_size",
        "shared_intermediate_size",
    ):
        return fields.integer(
            "shared_expert_intermediate_size",
            "moe_shared_expert_intermediate_size",
            "shared_intermediate_size",
            low=0,
            high=MAX_WIDTH,
        )
    shared = fields.integer(
        "n_shared_experts",
        "num_shared_experts",
        "moe_num_shared_experts",
        low=0,
        high=MAX_EXPERTS,
        default=0,
    )
    return shared * width
