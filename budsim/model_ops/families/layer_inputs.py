"""Gemma 3n and the small Gemma 4: an input for each layer, and last layers without a cache.

A second token table (``embed_tokens_per_layer``) holds a vector for each token and layer; it is
looked up, never multiplied. The last ``num_kv_shared_layers`` read the keys and values of the
latest layer of their kind before them: they project none and store none. Read in transformers 5.24
``modeling_gemma3n.py`` and ``modeling_gemma4.py``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from budsim.model_ops.config_reader import (
    MAX_HIDDEN,
    MAX_LAYERS,
    MAX_VOCABULARY,
    MAX_WIDTH,
    ConfigReader,
)
from budsim.model_ops.families.decoder import read_decoder
from budsim.model_ops.families.text_model import Layer, TextModel
from budsim.model_ops.families.traits import FamilyTraits

# Copies of the hidden state that Gemma 3n carries through its layers (``altup_num_inputs``).
ALTUP_INPUTS: Final = 4
# Rank of its learned residual (``laurel_rank``).
LAUREL_RANK: Final = 64
# Every fifth layer of Gemma 3n sees everything (``Gemma3nTextConfig``).
GEMMA3N_PATTERN: Final = 5


def read_gemma3n(config: ConfigReader, traits: FamilyTraits) -> TextModel:
    """Return Gemma 3n: four copies of the hidden state, of which one passes through a layer."""
    widths = config.values.get("intermediate_size")
    if isinstance(widths, list) and widths:
        # All layers are equally wide in every published size.
        config = config.with_values({"intermediate_size": widths[0]})
    model = read_decoder(config, replace(traits, window_pattern=GEMMA3N_PATTERN))
    copies = config.integer("altup_num_inputs", high=MAX_LAYERS, default=ALTUP_INPUTS)
    rank = config.integer("laurel_rank", high=MAX_HIDDEN, default=LAUREL_RANK)
    hidden = model.hidden
    # Router, prediction and correction of the copies; two matrices and a norm of the residual.
    small = copies * hidden + copies**3 + copies**2 + 2 * hidden + (2 * rank + 1) * hidden
    layers = [
        replace(each, extra_parameters=each.extra_parameters + small) for each in model.layers
    ]
    projections = 2 * (copies - 1) * hidden * hidden
    whole = replace(model, layers=layers, extra_parameters=model.extra_parameters + projections)
    return with_layer_inputs(config, whole)


def with_layer_inputs(config: ConfigReader, model: TextModel) -> TextModel:
    """Return a model with what its configuration says of inputs for each layer and shared caches.

    One that has neither is returned as it is.
    """
    shared = config.integer("num_kv_shared_layers", low=0, high=MAX_LAYERS, default=0)
    width = config.integer("hidden_size_per_layer_input", low=0, high=MAX_HIDDEN, default=0)
    layers = _without_own_caches(config, model.layers, shared)
    if not width:
        return replace(model, layers=layers)
    # A gate and a projection of each layer's input, and a norm.
    gates = 2 * model.hidden * width + model.hidden
    all_widths = width * len(layers)
    return replace(
        model,
        layers=[replace(each, extra_parameters=each.extra_parameters + gates) for each in layers],
        extra_parameters=model.extra_parameters + model.hidden * all_widths + width,
        layer_inputs=(
            config.integer(
                "vocab_size_per_layer_input", high=MAX_VOCABULARY, default=model.vocabulary
            ),
            all_widths,
        ),
    )


def _without_own_caches(
    config: ConfigReader, layers: Sequence[Layer], shared: int
) -> Sequence[Layer]:
    """Return the layers, the last ``shared`` of them without keys and values of their own."""
    if not shared:
        return layers
    is_wide = config.flag("use_double_wide_mlp", default=False)
    first = len(layers) - shared
    return [*layers[:first], *(_reusing(layer, is_wide=is_wide) for layer in layers[first:])]


def _reusing(layer: Layer, *, is_wide: bool) -> Layer:
    attention = replace(layer.attention, shares_cache=True)
    feed_forward = layer.feed_forward
    if is_wide and feed_forward is not None:
        feed_forward = replace(feed_forward, width=min(2 * feed_forward.width, MAX_WIDTH))
    # The norm of its keys goes with them.
    extra = layer.extra_parameters - attention.head_dim
    return replace(layer, attention=attention, feed_forward=feed_forward, extra_parameters=extra)
