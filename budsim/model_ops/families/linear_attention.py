"""Decoders that mix attention with linear attention: gated delta networks, lightning attention.

A linear layer keeps a state of fixed size for each sequence instead of keys and values.
"""

from __future__ import annotations

from dataclasses import replace

from budsim.commons.errors import InvalidInput
from budsim.model_ops.config_reader import MAX_HEADS, MAX_HIDDEN, MAX_LAYERS, ConfigReader
from budsim.model_ops.families.attention import (
    latent_extra_parameters,
    read_attention,
    read_latent_attention,
)
from budsim.model_ops.families.decoder import assemble, attention_layer, read_dimensions
from budsim.model_ops.families.sliding_windows import layer_types
from budsim.model_ops.families.text_model import Layer, TextModel
from budsim.model_ops.families.traits import FamilyTraits
from budsim.model_ops.layers import Attention, AttentionKind

KERNEL = ("short_conv_kernel_size", "linear_conv_kernel_dim")
LINEAR_HEADS = ("linear_num_heads", "linear_num_key_heads", "num_attention_heads")
LINEAR_WIDTH = ("linear_head_dim", "linear_key_head_dim", "head_dim")


def read_delta_decoder(config: ConfigReader, traits: FamilyTraits) -> TextModel:
    """Return a decoder of gated delta layers and gated full attention (Qwen3-Next, Qwen3.5)."""
    dims = read_dimensions(config)
    every = config.integer("full_attention_interval", high=MAX_LAYERS, default=4)
    kinds = layer_types(config, dims.layers) or tuple(
        "linear_attention" if (index + 1) % every else "full_attention"
        for index in range(dims.layers)
    )
    full = attention_layer(config, traits, dims.hidden)
    gated = config.flag("attn_output_gate", default=True)
    full = replace(full, attention=replace(full.attention, output_gate=gated))
    delta = _read_delta(config)
    linear = Layer(attention=delta, extra_parameters=_delta_extra_parameters(delta))
    layers = [linear if kind == "linear_attention" else full for kind in kinds]
    return assemble(config, traits, dims, layers)


def read_lightning_decoder(config: ConfigReader, traits: FamilyTraits) -> TextModel:
    """Return a decoder of lightning and full attention (MiniMax-Text-01, MiniMax-M1)."""
    dims = read_dimensions(config)
    declared = config.integers("attn_type_list", count=dims.layers, high=1)
    kinds = tuple("full_attention" if kind else "linear_attention" for kind in declared or ())
    kinds = kinds or layer_types(config, dims.layers)
    if not kinds:
        expected = f"a list of {dims.layers} zeros and ones"
        raise InvalidInput(config.path("attn_type_list"), "missing", expected)
    attention = read_attention(config, dims.hidden)
    # Linear layers have as many key heads as query heads, whatever the full layers group.
    lightning = replace(
        attention,
        kind=AttentionKind.LINEAR,
        kv_heads=attention.heads,
        output_gate=True,
        gates_per_head=0,
    )
    output_norm = attention.heads * attention.head_dim
    full = Layer(attention=attention)
    linear = Layer(attention=lightning, extra_parameters=output_norm)
    layers = [linear if kind == "linear_attention" else full for kind in kinds]
    return assemble(config, traits, dims, layers)


def read_kimi_hybrid(config: ConfigReader, traits: FamilyTraits) -> TextModel:
    """Return a decoder of Kimi delta or lightning layers and of latent or grouped attention.

    Ling 2.5 and later (``bailing_hybrid``: every ``layer_group_size``-th layer attends), GLM-5-Next
    and Alice AI. Layers are Kimi delta layers where the config states a convolution, lightning
    attention otherwise.
    """
    dims = read_dimensions(config)
    full = (
        _latent_layer(config, dims.hidden)
        if config.has("kv_lora_rank")
        else attention_layer(config, traits, dims.hidden)
    )
    kernel = config.integer(*KERNEL, low=0, high=MAX_HIDDEN, default=0)
    linear = (
        _read_kimi_delta(_kimi_settings(config, kernel), dims.hidden)
        if kernel
        else _lightning_layer(config, dims.hidden)
    )
    kinds = _kinds(config, dims.layers)
    layers = [linear if kind == "linear_attention" else full for kind in kinds]
    return assemble(config, traits, dims, layers)


def read_kimi_delta_decoder(config: ConfigReader, traits: FamilyTraits) -> TextModel:
    """Return a decoder of Kimi delta layers and latent attention (Kimi Linear, Kimi K3)."""
    dims, settings = read_dimensions(config), config.nested("linear_attn_config")
    marked = settings.values.get("kda_layers") if settings else None
    if settings is None or not isinstance(marked, list):
        expected = "the numbers of the delta layers, from 1"
        raise InvalidInput(config.path("linear_attn_config.kda_layers"), "missing", expected)
    gated = config.flag("mla_use_output_gate", default=False)
    latent = replace(read_latent_attention(config), output_gate=gated)
    full = Layer(
        attention=latent, extra_parameters=latent_extra_parameters(config, latent, dims.hidden)
    )
    linear = _read_kimi_delta(settings, dims.hidden)
    # The published lists count layers from 1.
    layers = [linear if index + 1 in marked else full for index in range(dims.layers)]
    return assemble(config, traits, dims, layers)


def _kinds(config: ConfigReader, layers: int) -> tuple[str, ...]:
    kinds = layer_types(config, layers)
    every = config.integer("layer_group_size", high=MAX_LAYERS, default=4)
    return kinds or tuple(
        "linear_attention" if (index + 1) % every else "full_attention" for index in range(layers)
    )


def _latent_layer(config: ConfigReader, hidden: int) -> Layer:
    attention = read_latent_attention(config, indexed=config.has("index_topk"))
    extra = latent_extra_parameters(config, attention, hidden)
    return Layer(attention=attention, extra_parameters=extra)


def _kimi_settings(config: ConfigReader, kernel: int) -> ConfigReader:
    heads = config.integer(*LINEAR_HEADS, high=MAX_HEADS)
    width = config.integer(*LINEAR_WIDTH, high=MAX_HIDDEN)
    settings = {"num_heads": heads, "head_dim": width, "short_conv_kernel_size": kernel}
    return ConfigReader(settings, config.prefix)


def _lightning_layer(config: ConfigReader, hidden: int) -> Layer:
    """Return Ling 2.5's lightning attention: norms on queries, keys and the gated output."""
    heads = config.integer("num_attention_heads", high=MAX_HEADS)
    width = config.integer("head_dim", high=MAX_HIDDEN, default=hidden // heads)
    lightning = Attention(
        kind=AttentionKind.LINEAR,
        heads=heads,
        kv_heads=heads,
        head_dim=width,
        value_head_dim=width,
        output_gate=True,
        gates_per_head=0,
        state_value_bytes=4,
    )
    return Layer(attention=lightning, extra_parameters=2 * width + heads * width)


def state_value_bytes(config: ConfigReader, default: str = "") -> int:
    """Return the bytes of a value of recurrent state: 2, or 4 where the configuration asks fp32."""
    stated = config.text("mamba_ssm_dtype", default=default)
    asked = config.text("mamba_ssm_cache_dtype", default=stated)
    # Engines take the cache's own format first, then the format of the computation.
    return 4 if asked == "float32" else 2


def convolved_channels(linear: Attention) -> int:
    """Return the number of channels of a linear layer's convolution: keys twice, and values."""
    return 2 * linear.kv_heads * linear.head_dim + linear.heads * linear.value_head_dim


def _read_delta(config: ConfigReader) -> Attention:
    # Qwen3.5's published configurations ask for fp32 states; Qwen3-Next's do not.
    default = "float32" if config.text("model_type").startswith("qwen3_5") else ""
    return Attention(
        kind=AttentionKind.LINEAR,
        heads=config.integer("linear_num_value_heads", high=MAX_HEADS),
        kv_heads=config.integer("linear_num_key_heads", high=MAX_HEADS),
        head_dim=config.integer("linear_key_head_dim", high=MAX_HIDDEN),
        value_head_dim=config.integer("linear_value_head_dim", high=MAX_HIDDEN),
        conv_kernel=config.integer("linear_conv_kernel_dim", high=MAX_HIDDEN),
        output_gate=True,
        state_value_bytes=state_value_bytes(config, default),
    )


def _delta_extra_parameters(delta: Attention) -> int:
    """Return the weights of convolution, decay and step of each head, and of the output norm."""
    return convolved_channels(delta) * delta.conv_kernel + 2 * delta.heads + delta.value_head_dim


def _read_kimi_delta(settings: ConfigReader, hidden: int) -> Layer:
    """Return a delta layer with a decay for every channel (vLLM 0.33 ``kimi_gdn_linear_attn``)."""
    heads = settings.integer("num_heads", high=MAX_HEADS)
    width = settings.integer("head_dim", high=MAX_HIDDEN)
    delta = Attention(
        kind=AttentionKind.LINEAR,
        heads=heads,
        kv_heads=heads,
        head_dim=width,
        value_head_dim=width,
        conv_kernel=settings.integer("short_conv_kernel_size", high=MAX_HIDDEN),
        output_gate=settings.flag("use_full_rank_gate", default=False),
        gates_per_head=1,
        state_value_bytes=4,
    )
    # The decay, and an output gate that is not full rank, are two narrow matrices each.
    low_rank = (1 if delta.output_gate else 2) * width * (hidden + heads * width)
    convolution = 3 * heads * width * delta.conv_kernel
    decay_and_norm = heads * width + heads + width
    return Layer(attention=delta, extra_parameters=low_rank + convolution + decay_and_norm)
