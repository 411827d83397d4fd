"""Decoders with Mamba layers: Jamba (Mamba-1), Nemotron-H and Granite 4 hybrids (Mamba-2)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Final

from budsim.commons.errors import InvalidInput
from budsim.model_ops.config_reader import (
    MAX_HEADS,
    MAX_HIDDEN,
    MAX_LAYERS,
    MAX_WIDTH,
    ConfigReader,
)
from budsim.model_ops.families.architecture_search import with_further_feed_forward
from budsim.model_ops.families.attention import read_attention
from budsim.model_ops.families.decoder import assemble, attention_layer, read_dimensions, surround
from budsim.model_ops.families.feed_forward import read_dense, read_experts
from budsim.model_ops.families.linear_attention import convolved_channels, state_value_bytes
from budsim.model_ops.families.sliding_windows import layer_types
from budsim.model_ops.families.text_model import Layer, TextModel
from budsim.model_ops.families.traits import FamilyTraits
from budsim.model_ops.layers import Attention, AttentionKind, FeedForward

# Nemotron-H's letter for each name of a block, as checkpoints and as transformers 5.24 write it.
BLOCK_LETTERS: Final = {
    "mamba": "M",
    "linear_attention": "M",
    "attention": "*",
    "full_attention": "*",
    "mlp": "-",
    "moe": "E",
}


def read_mamba_pattern_decoder(config: ConfigReader, traits: FamilyTraits) -> TextModel:
    """Return a decoder whose blocks are Mamba-2, attention, dense or experts (Nemotron-H).

    A feed-forward block joins the Mamba or attention block before it, so that ``layers`` counts
    the latter: ``M-M*E`` are three layers.
    """
    config = _with_pattern(config)
    dims = read_dimensions(config)
    pattern = config.text("hybrid_override_pattern")
    # A feed-forward block joins the block before it, so one must come first.
    is_known = not set(pattern) - set(BLOCK_LETTERS.values()) and pattern[:1] in {"M", "*"}
    if len(pattern) != dims.layers or not is_known:
        expected = f"{dims.layers} of the letters M * - E, mixing first"
        raise InvalidInput(config.path("hybrid_override_pattern"), repr(pattern[:40]), expected)
    layers = _joined(_read_blocks(config, traits, dims.hidden, pattern))
    return surround(config, traits, dims, layers)


def read_mamba_puzzle(config: ConfigReader, traits: FamilyTraits) -> TextModel:
    """Return a Nemotron-H whose blocks differ in size: ``block_configs`` states each (Puzzle).

    A block's fields win over those of the whole model: experts, those a token visits, widths.
    """
    dims = read_dimensions(config)
    blocks = config.objects("block_configs", count=dims.layers)
    kinds = [block.text("block_type") for block in blocks]
    if unknown := sorted(set(kinds) - set(BLOCK_LETTERS)):
        expected = f"blocks among {sorted(BLOCK_LETTERS)}"
        raise config.unsupported("block_configs", f"unknown block {unknown[0]!r}", expected)
    read = (
        part
        for block, kind in zip(blocks, kinds, strict=True)
        for part in _read_blocks(
            config.with_values({name: value for name, value in block.values.items() if value}),
            traits,
            dims.hidden,
            BLOCK_LETTERS[kind],
        )
    )
    return surround(config, traits, dims, _joined(read))


def read_mamba_layered_decoder(config: ConfigReader, traits: FamilyTraits) -> TextModel:
    """Return a decoder of Mamba-2 and attention layers, each with a feed-forward part.

    Granite 4 hybrids.
    """
    dims = read_dimensions(config)
    kinds = layer_types(config, dims.layers)
    if not kinds:
        raise InvalidInput(config.path("layer_types"), "missing", f"a list of {dims.layers} kinds")
    mamba, full = read_mamba2(config, dims.hidden), attention_layer(config, traits, dims.hidden)
    layers = [mamba if kind in {"mamba", "linear_attention"} else full for kind in kinds]
    traits = replace(traits, experts=config.has("num_local_experts"))
    return assemble(config, traits, dims, layers)


def read_jamba(config: ConfigReader, traits: FamilyTraits) -> TextModel:
    """Return a decoder of Mamba-1 layers with attention in between (Jamba).

    Every ``attn_layer_period``-th layer attends, every ``expert_layer_period``-th holds experts.
    """
    dims = read_dimensions(config)
    full = Layer(attention=read_attention(config, dims.hidden))
    mamba = read_mamba1(config, dims.hidden)
    attends = _every(config, "attn_layer", dims.layers)
    holds_experts = _every(config, "expert_layer", dims.layers)
    layers = [full if is_attention else mamba for is_attention in attends]
    kinds = ["sparse" if is_sparse else "dense" for is_sparse in holds_experts]
    return assemble(config.with_values({"mlp_layer_types": kinds}), traits, dims, layers)


def _every(config: ConfigReader, prefix: str, layers: int) -> list[bool]:
    period = config.integer(f"{prefix}_period", low=0, high=MAX_LAYERS)
    offset = config.integer(f"{prefix}_offset", low=0, high=MAX_LAYERS)
    # A period of 0 is read as 1, so that nothing is divided by 0.
    return [index % max(period, 1) == offset for index in range(layers)]


def read_mamba2(config: ConfigReader, hidden: int) -> Layer:
    """Return a Mamba-2 block (transformers modeling_mamba2.py) without norm before it."""
    heads = config.integer("mamba_num_heads", "mamba_n_heads", high=MAX_HEADS)
    mamba = Attention(
        kind=AttentionKind.LINEAR,
        heads=heads,
        kv_heads=config.integer("n_groups", "mamba_n_groups", high=MAX_HEADS),
        head_dim=config.integer("ssm_state_size", "mamba_d_state", high=MAX_HIDDEN),
        value_head_dim=config.integer("mamba_head_dim", "mamba_d_head", high=MAX_HIDDEN),
        conv_kernel=config.integer("conv_kernel", "mamba_d_conv", high=MAX_HIDDEN),
        output_gate=True,
        gates_per_head=1,
        state_value_bytes=state_value_bytes(config),
    )
    values, channels = heads * mamba.value_head_dim, convolved_channels(mamba)
    conv_bias = config.flag("use_conv_bias", "mamba_conv_bias", default=True)
    has_biases = config.flag("mamba_proj_bias", default=False)
    biases = has_biases * (values + channels + heads + hidden)
    # Step, decay and skip of each head, and the norm of the gated output.
    scalars_and_norm = 3 * heads + values
    extra = channels * (mamba.conv_kernel + conv_bias) + scalars_and_norm + biases
    return Layer(attention=mamba, extra_parameters=extra)


def read_mamba1(config: ConfigReader, hidden: int, *, has_norms: bool = True) -> Layer:
    """Return a Mamba-1 block as a linear layer of one-value heads (transformers modeling_jamba.py).

    Its matrices as a linear layer count ``2 x state x hidden`` values too many for keys, which are
    projected from the inner width here; the difference is taken off ``extra_parameters``.
    """
    inner = hidden * config.integer("mamba_expand", high=64)
    state = config.integer("mamba_d_state", high=MAX_HIDDEN)
    rank = config.integer("mamba_dt_rank", high=MAX_HIDDEN)
    mamba = Attention(
        kind=AttentionKind.LINEAR,
        heads=inner,
        kv_heads=1,
        head_dim=state,
        value_head_dim=1,
        conv_kernel=config.integer("mamba_d_conv", high=MAX_HIDDEN),
        output_gate=True,
        gates_per_head=0,
    )
    steps = inner * (rank + 2 * state) + (rank + 1) * inner - 2 * state * hidden
    norms = (rank + 2 * state) * has_norms
    convolution = inner * (mamba.conv_kernel + 1)
    decay_and_skip = inner * (state + 1)
    extra = steps + norms + convolution + decay_and_skip
    return Layer(attention=mamba, extra_parameters=extra)


def _read_blocks(
    config: ConfigReader, traits: FamilyTraits, hidden: int, pattern: str
) -> Iterator[Layer | tuple[FeedForward, int]]:
    """Yield a layer for M and *, and a feed-forward part with its small weights for - and E."""
    mamba, full = read_mamba2(config, hidden), attention_layer(config, traits, hidden)
    for letter in pattern:
        if letter in {"M", "*"}:
            layer = mamba if letter == "M" else full
            yield replace(layer, extra_parameters=layer.extra_parameters + hidden)
        elif letter == "E":
            experts = read_experts(config, gated=False)
            yield experts, hidden + experts.experts
        else:
            width = config.integer("intermediate_size", high=MAX_WIDTH)
            yield replace(read_dense(config, traits, hidden), width=width), hidden


def _with_pattern(config: ConfigReader) -> ConfigReader:
    """Return the config with its pattern and number of layers if it lists ``layers_block_type``."""
    blocks = config.texts("layers_block_type")
    if not blocks:
        return config
    if unknown := sorted(set(blocks) - set(BLOCK_LETTERS)):
        expected = f"blocks among {sorted(BLOCK_LETTERS)}"
        raise config.unsupported("layers_block_type", f"unknown block {unknown[0]!r}", expected)
    pattern = "".join(BLOCK_LETTERS[block] for block in blocks)
    return config.with_values(
        {"hybrid_override_pattern": pattern, "num_hidden_layers": len(blocks)}
    )


def _joined(blocks: Iterator[Layer | tuple[FeedForward, int]]) -> list[Layer]:
    layers: list[Layer] = []
    for block in blocks:
        if isinstance(block, Layer):
            layers.append(block)
        else:
            layers[-1] = with_further_feed_forward(layers[-1], *block)
    return layers
