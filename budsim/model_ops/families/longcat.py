"""LongCat-Flash: layers of two latent attentions, two dense parts and experts beside them."""

from __future__ import annotations

from dataclasses import replace

from budsim.model_ops.config_reader import MAX_EXPERTS, MAX_WIDTH, ConfigReader
from budsim.model_ops.families.attention import latent_extra_parameters, read_latent_attention
from budsim.model_ops.families.decoder import read_dimensions, surround
from budsim.model_ops.families.feed_forward import read_experts
from budsim.model_ops.families.text_model import Layer, TextModel
from budsim.model_ops.families.traits import FamilyTraits
from budsim.model_ops.layers import FeedForward


def read_longcat(config: ConfigReader, traits: FamilyTraits) -> TextModel:
    """Return LongCat-Flash (vLLM 0.33 ``longcat_flash.py``) with two of our layers for one of its.

    The first has a dense part; the second has experts, and its dense part counts as their shared
    expert, as every token visits it. A token also visits ``zero_expert_num`` experts that compute
    nothing: of 12 chosen among 512 real and 256 zero experts, 8 are real on average.

    Raises
    ------
    UnsupportedModel
        N-gram embeddings (LongCat-Flash-Lite): the size of their tables is not known here.
    """
    if config.has("ngram_vocab_size_ratio"):
        problem, expected = "n-gram embeddings", "a LongCat-Flash without them"
        raise config.unsupported("ngram_vocab_size_ratio", problem, expected)
    dims = read_dimensions(config)
    width = config.integer("intermediate_size", high=MAX_WIDTH)
    experts = replace(read_experts(config), shared_width=width)
    zero = config.integer("zero_expert_num", low=0, high=MAX_EXPERTS, default=0)
    routed = experts.experts
    # Zero experts pass their input on: they cost neither memory nor work.
    chosen = max(1, round(experts.experts_per_token * routed / (routed + zero)))
    attention = read_latent_attention(config)
    extra = latent_extra_parameters(config, attention, dims.hidden) + 2 * dims.hidden
    router_of_zero_experts_and_biases = zero * dims.hidden + routed + zero
    dense = Layer(
        attention=attention, feed_forward=FeedForward(width=width), extra_parameters=extra
    )
    sparse = Layer(
        attention=attention,
        feed_forward=replace(experts, experts_per_token=chosen),
        extra_parameters=extra + router_of_zero_experts_and_biases,
    )
    return surround(config, traits, dims, [dense, sparse] * dims.layers)
