"""LongCat-Flash: two latent attentions, two dense parts and experts a layer, and n-gram tables."""

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

    LongCat-Flash-Lite looks each token up with those before it in n-gram tables, too.
    """
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
    model = surround(config, traits, dims, [dense, sparse] * dims.layers)
    return _with_ngrams(config, model) if config.has("ngram_vocab_size_ratio") else model


def _with_ngrams(config: ConfigReader, model: TextModel) -> TextModel:
    """Return a model with n-gram tables, which are looked up and projected to the hidden size.

    3 lengths (2 to 4 tokens) x 4 tables of 78 vocabularies each have a twelfth of the hidden size
    (vLLM 0.32 ``longcat_flash_ngram.py``).
    """
    ratio = config.integer("ngram_vocab_size_ratio", high=MAX_WIDTH)
    lengths = config.integer("emb_neighbor_num", low=2, high=MAX_EXPERTS) - 1
    tables = lengths * config.integer("emb_split_num", high=MAX_EXPERTS)
    width = model.hidden // tables
    rows = tables * ratio * model.vocabulary + tables * tables
    extra = model.extra_parameters + tables * width * model.hidden
    return replace(model, layer_inputs=(rows, width), extra_parameters=extra)
