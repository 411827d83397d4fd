"""Families that run the same weights several times: looped models, and Zamba2's shared blocks.

Repeated layers work and keep a cache of their own, and store nothing (`Layer.repeat`).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import NoReturn

from budsim.model_ops.config_reader import (
    MAX_HEADS,
    MAX_HIDDEN,
    MAX_LAYERS,
    MAX_WIDTH,
    ConfigReader,
)
from budsim.model_ops.families.attention import read_attention
from budsim.model_ops.families.decoder import (
    attention_layer,
    read_decoder,
    read_dimensions,
    surround,
)
from budsim.model_ops.families.feed_forward import read_dense
from budsim.model_ops.families.mamba import read_mamba2
from budsim.model_ops.families.sliding_windows import layer_types
from budsim.model_ops.families.text_model import Layer, TextModel
from budsim.model_ops.families.traits import FamilyTraits
from budsim.model_ops.layers import AttentionKind, FeedForward

# Where the config states none (vLLM 0.32 ``iquest_loopcoder.py``).
LOOPS, LOOP_WINDOW = 2, 64
# Cycles of HRM-Text where the config states none (transformers 5.24 ``HrmTextConfig``).
HIGH_CYCLES, LOW_CYCLES = 2, 3
MOST_CYCLES = 64


def read_loop_coder(config: ConfigReader, traits: FamilyTraits) -> TextModel:
    """Return IQuest-Coder Loop: all layers run ``loop_num`` times.

    Later loops see a window of their own beside the first loop's cache, weighed by one gate a head
    (vLLM 0.32 ``iquest_loopcoder.py``). The work on that cache in later loops is left out.
    """
    once = read_decoder(config, traits)
    loops = config.integer("loop_num", high=MOST_CYCLES, default=LOOPS)
    window = config.integer("loop_window_size", high=MAX_HIDDEN, default=LOOP_WINDOW)
    gated = [
        replace(
            layer,
            extra_parameters=layer.extra_parameters
            + layer.attention.heads * (layer.attention.head_dim + 1),
        )
        for layer in once.layers
    ]
    again = [
        replace(
            repeated(layer),
            attention=replace(layer.attention, kind=AttentionKind.SLIDING, window=window),
        )
        for layer in once.layers
    ]
    return replace(once, layers=[*gated, *again * (loops - 1)])


def read_hrm_text(config: ConfigReader, traits: FamilyTraits) -> TextModel:
    """Return HRM-Text: a slow and a fast stack of layers in nested loops.

    With 2 high and 3 low cycles the fast stack runs 6 times and the slow one twice, each run with a
    cache of its own (vLLM 0.32 ``hrm_text.py``).
    """
    dims = read_dimensions(config)
    each = config.integer("num_layers_per_stack", high=MAX_LAYERS, default=dims.layers)
    high = config.integer("H_cycles", high=MOST_CYCLES, default=HIGH_CYCLES)
    low = config.integer("L_cycles", high=MOST_CYCLES, default=LOW_CYCLES)
    plain = attention_layer(config, traits, dims.hidden)
    layer = replace(plain, feed_forward=read_dense(config, traits, dims.hidden))
    stored = [layer] * (2 * each)
    runs = high * (low + 1) - 2
    return surround(config, traits, dims, [*stored, *[repeated(layer)] * (each * runs)])


def read_zamba2(config: ConfigReader, traits: FamilyTraits) -> TextModel:
    """Return Zamba2: Mamba-2 layers, before some of which one of few shared blocks runs.

    A block attends to the layer's input beside the token's embedding, in twice the width. Each of
    its places has adapters of its own and a projection (transformers 5.24 ``modeling_zamba2.py``).
    """
    dims = read_dimensions(config)
    kinds = layer_types(config, dims.layers) or config.texts("layers_block_type")
    mamba = _zamba2_mamba(config, dims.hidden)
    block, place = _shared_block(config, dims.hidden)
    blocks = config.integer("num_mem_blocks", high=MAX_LAYERS, default=1)
    places = iter(_places(block, blocks, place))
    layers: list[Layer] = []
    for kind in kinds or ():
        layers += [next(places), mamba] if kind == "hybrid" else [mamba]
    return surround(config, traits, dims, layers)


def refuse_shared_weights(config: ConfigReader, traits: FamilyTraits) -> NoReturn:
    """Refuse a looped model whose number of loops its config does not say.

    Raises
    ------
    UnsupportedModel
        Always.
    """
    del traits
    problem = f"layers of {config.text('model_type')!r} share weights"
    raise config.unsupported(
        "model_type", problem, "a model whose layers have weights of their own"
    )


def repeated(layer: Layer) -> Layer:
    """Return a layer that runs the weights of ``layer`` again."""
    return replace(layer, repeat=True, extra_parameters=0)


def _places(block: Layer, blocks: int, place: int) -> Iterator[Layer]:
    """Yield the layer of each place of a shared block: the first ``blocks`` store its weights.

    ``place`` counts the weights that belong to one place.
    """
    for _ in range(blocks):
        yield replace(block, extra_parameters=block.extra_parameters + place)
    while True:
        yield replace(repeated(block), extra_parameters=place)


def _zamba2_mamba(config: ConfigReader, hidden: int) -> Layer:
    heads = config.integer("n_mamba_heads", high=MAX_HEADS)
    inner = hidden * config.integer("mamba_expand", high=64, default=2)
    names = {
        "mamba_num_heads": heads,
        "mamba_head_dim": config.integer("mamba_headdim", high=MAX_HIDDEN, default=inner // heads),
        "n_groups": config.integer("mamba_ngroups", high=MAX_HEADS, default=1),
    }
    layer = read_mamba2(config.with_values(names), hidden)
    return replace(layer, extra_parameters=layer.extra_parameters + hidden)


def _shared_block(config: ConfigReader, hidden: int) -> tuple[Layer, int]:
    """Return a shared block, and the weights of each of its places: projection and adapters."""
    heads = config.integer("num_attention_heads", high=MAX_HEADS)
    width = config.integer("intermediate_size", high=MAX_WIDTH, default=4 * hidden)
    doubled = config.with_values({"head_dim": 2 * hidden // heads})
    attention = replace(read_attention(doubled, hidden), input_hiddens=2)
    rank = config.integer("adapter_rank", high=MAX_HIDDEN, default=128)
    adapters = rank * (hidden + 2 * width)
    if config.flag("use_shared_attention_adapter", default=False):
        adapters += 3 * 2 * rank * 2 * hidden
    block = Layer(
        attention=attention, feed_forward=FeedForward(width=width), extra_parameters=3 * hidden
    )
    return block, hidden * hidden + adapters
