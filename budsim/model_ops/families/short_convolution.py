"""Decoders that mix attention with short convolutions: LFM2 and LFM2-MoE."""

from __future__ import annotations

from typing import Final

from budsim.model_ops.config_reader import MAX_HIDDEN, MAX_WIDTH, ConfigReader
from budsim.model_ops.families.decoder import assemble, attention_layer, read_dimensions
from budsim.model_ops.families.text_model import Layer, TextModel
from budsim.model_ops.families.traits import FamilyTraits
from budsim.model_ops.layers import Attention, AttentionKind

# Values projected for each channel: the input and its two gates (vLLM 0.33 ``short_conv.py``).
PROJECTED: Final = 3


def read_short_convolution_decoder(config: ConfigReader, traits: FamilyTraits) -> TextModel:
    """Return LFM2: ``layer_types`` names a ``conv`` or a ``full_attention`` layer each.

    The older ``full_attn_idxs`` lists the layers that attend.
    """
    dims = read_dimensions(config)
    kinds = config.texts("layer_types", count=dims.layers)
    # Older checkpoints list the layers that attend; newer ones name each layer's kind.
    attends = [kind == "full_attention" for kind in kinds] or _listed(config, dims.layers)
    convolution = _read_convolution(config, dims.hidden)
    full = attention_layer(config, traits, dims.hidden)
    layers = [full if is_attention else convolution for is_attention in attends]
    return assemble(_with_adjusted_width(config), traits, dims, layers)


def _listed(config: ConfigReader, layers: int) -> list[bool]:
    marked = config.values.get("full_attn_idxs")
    indices = marked if isinstance(marked, list) else list(range(layers))
    return [index in indices for index in range(layers)]


def _read_convolution(config: ConfigReader, hidden: int) -> Layer:
    """Return a short convolution as a linear layer that carries no matrix from token to token.

    Each channel is a head of one value without keys: the value and two gates for each make the
    projection to three hidden sizes. The state is the last ``conv_L_cache - 1`` inputs.
    """
    kernel = config.integer("conv_L_cache", high=MAX_HIDDEN, default=3)
    convolution = Attention(
        kind=AttentionKind.LINEAR,
        heads=hidden,
        kv_heads=hidden,
        head_dim=0,
        value_head_dim=1,
        conv_kernel=kernel,
        gates_per_head=2,
    )
    biases = (PROJECTED + 2) * hidden * config.flag("conv_bias", default=False)
    return Layer(attention=convolution, extra_parameters=hidden * kernel + biases)


def _with_adjusted_width(config: ConfigReader) -> ConfigReader:
    """Return the config with the width LFM2 computes where ``block_auto_adjust_ff_dim`` is on.

    Two thirds of ``block_ff_dim``, times the multiplier, rounded up: 12,288 -> 8,192.
    """
    if not config.flag("block_auto_adjust_ff_dim", default=False):
        return config
    width = int(2 * config.integer("intermediate_size", high=MAX_WIDTH) / 3)
    width = int(width * config.number("block_ffn_dim_multiplier", default=1.0, high=64.0))
    step = config.integer("block_multiple_of", high=MAX_WIDTH, default=256)
    return config.with_values({"intermediate_size": -(-width // step) * step})
