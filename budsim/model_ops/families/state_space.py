"""Models of Mamba layers only (Mamba, Falcon-Mamba, Mamba-2), and Falcon-H1's parallel hybrids."""

from __future__ import annotations

from dataclasses import replace

from budsim.model_ops.config_reader import MAX_HIDDEN, ConfigReader
from budsim.model_ops.families.decoder import (
    Dimensions,
    attention_layer,
    read_dimensions,
    surround,
)
from budsim.model_ops.families.feed_forward import read_dense
from budsim.model_ops.families.mamba import read_mamba1, read_mamba2
from budsim.model_ops.families.text_model import Layer, TextModel
from budsim.model_ops.families.traits import FamilyTraits


def read_mamba_model(config: ConfigReader, traits: FamilyTraits) -> TextModel:
    """Return a model of Mamba-1 layers, one norm each and no feed-forward part."""
    dims = read_dimensions(config)
    rank = config.values.get("time_step_rank")
    changes = {
        "mamba_expand": config.integer("expand", high=64, default=2),
        "mamba_d_state": config.integer("state_size", high=MAX_HIDDEN, default=16),
        "mamba_d_conv": config.integer("conv_kernel", high=MAX_HIDDEN, default=4),
        "mamba_dt_rank": rank if isinstance(rank, int) else -(-dims.hidden // 16),
    }
    # Jamba has norms on step, B and C; Mamba has none.
    layer = read_mamba1(config.with_values(changes), dims.hidden, has_norms=False)
    return _only(layer, config, traits, dims)


def read_mamba2_model(config: ConfigReader, traits: FamilyTraits) -> TextModel:
    """Return a model of Mamba-2 layers, one norm each and no feed-forward part."""
    dims = read_dimensions(config)
    return _only(read_mamba2(config, dims.hidden), config, traits, dims)


def read_falcon_h1(config: ConfigReader, traits: FamilyTraits) -> TextModel:
    """Return Falcon-H1: each layer has attention and Mamba-2 side by side, then a dense part.

    It counts as a layer of attention and a layer of Mamba with the dense part: the same weights,
    caches and work.
    """
    dims = read_dimensions(config)
    full = attention_layer(config, traits, dims.hidden)
    inner = config.integer("mamba_d_ssm", high=MAX_HIDDEN)
    heads = config.integer("mamba_n_heads", high=MAX_HIDDEN)
    stated = config.values.get("mamba_d_head")
    width = stated if isinstance(stated, int) else inner // heads
    mamba = read_mamba2(config.with_values({"mamba_d_head": width}), dims.hidden)
    # The norm of the gated output is optional here, and off by default.
    no_norm = inner * (not config.flag("mamba_rms_norm", default=False))
    norms = 2 * dims.hidden
    with_dense = replace(
        mamba,
        feed_forward=read_dense(config, traits, dims.hidden),
        extra_parameters=mamba.extra_parameters + norms - no_norm,
    )
    return surround(config, traits, dims, [full, with_dense] * dims.layers)


def _only(layer: Layer, config: ConfigReader, traits: FamilyTraits, dims: Dimensions) -> TextModel:
    with_norm = replace(layer, extra_parameters=layer.extra_parameters + dims.hidden)
    return surround(config, traits, dims, [with_norm] * dims.layers)
