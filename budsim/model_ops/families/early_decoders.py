"""Decoders whose configs use field names of their own.

Each reader translates them into the common names and reads the result as any other decoder.
"""

from __future__ import annotations

from dataclasses import replace

from budsim.commons.errors import InvalidInput
from budsim.model_ops.config_reader import (
    MAX_HEADS,
    MAX_HIDDEN,
    MAX_LAYERS,
    MAX_WIDTH,
    ConfigReader,
)
from budsim.model_ops.families.decoder import LAYERS, read_decoder
from budsim.model_ops.families.text_model import TextModel
from budsim.model_ops.families.traits import FamilyTraits, QkNorm


def read_falcon(config: ConfigReader, traits: FamilyTraits) -> TextModel:
    """Return a Falcon.

    The new architecture has KV heads and two norms; the old one has one KV head and one norm, as
    attention and feed-forward part run side by side.
    """
    is_new = config.flag("new_decoder_architecture", default=False)
    is_multi_query = config.flag("multi_query", default=True)
    changes: dict[str, object] = {}
    if is_new:
        kv_heads = config.integer("num_kv_heads", "n_head_kv", high=MAX_HEADS)
        changes["num_key_value_heads"] = kv_heads
    # The old architecture ignores `n_head_kv`: it has one KV head, or one for each query head.
    elif is_multi_query:
        changes["num_key_value_heads"] = 1
    else:
        changes["num_kv_heads"] = changes["n_head_kv"] = None
    parallel = config.flag("parallel_attn", default=True)
    parallel_norms = config.integer(
        "num_ln_in_parallel_attn", low=0, high=2, default=2 if is_new else 1
    )
    norms = 1 if parallel and parallel_norms == 1 else 2
    return read_decoder(config.with_values(changes), replace(traits, norms=norms))


def read_mpt(config: ConfigReader, traits: FamilyTraits) -> TextModel:
    """Return an MPT: attention settings are nested; positions are learned unless ALiBi is on."""
    attention = config.nested("attn_config") or ConfigReader({})
    has_alibi = attention.flag("alibi", default=True)
    has_biases = not config.flag("no_bias", default=True)
    heads = config.integer("n_heads", high=MAX_HEADS)
    kv_heads = attention.integer("kv_n_heads", high=MAX_HEADS, default=heads)
    kind = attention.text("attn_type", default="multihead_attention")
    ratio = config.integer("expansion_ratio", high=64, default=4)
    changes = {
        "num_key_value_heads": 1 if kind == "multiquery_attention" else kv_heads,
        "intermediate_size": ratio * config.integer("d_model", high=MAX_HIDDEN),
        "attention_bias": has_biases,
        "mlp_bias": has_biases,
    }
    learned = config.flag("learned_pos_emb", default=True) and not has_alibi
    traits = replace(traits, norm_values=1 + has_biases, positions=0 if learned else None)
    return read_decoder(config.with_values(changes), traits)


def read_dbrx(config: ConfigReader, traits: FamilyTraits) -> TextModel:
    """Return a DBRX: attention and expert settings are nested."""
    attention = config.nested("attn_config") or ConfigReader({})
    feed_forward = config.nested("ffn_config") or ConfigReader({})
    changes = {
        "num_key_value_heads": attention.integer("kv_n_heads", high=MAX_HEADS),
        "moe_num_experts": feed_forward.raw("moe_num_experts")[1],
        "moe_top_k": feed_forward.raw("moe_top_k")[1],
        "intermediate_size": feed_forward.integer("ffn_hidden_size", high=MAX_WIDTH),
    }
    return read_decoder(config.with_values(changes), traits)


def read_chatglm(config: ConfigReader, traits: FamilyTraits) -> TextModel:
    """Return a ChatGLM2, ChatGLM3 or GLM-4-9B."""
    changes: dict[str, object] = {}
    if config.has("padded_vocab_size"):
        changes["vocab_size"] = config.raw("padded_vocab_size")[1]
    # `multi_query_group_num` stays in configs that do not use it.
    if not config.flag("multi_query_attention", default=False):
        changes["multi_query_group_num"] = None
    return read_decoder(config.with_values(changes), traits)


def read_bigcode(config: ConfigReader, traits: FamilyTraits) -> TextModel:
    """Return a GPT-BigCode (StarCoder, SantaCoder): one KV head when ``multi_query``."""
    has_one = config.flag("multi_query", default=True)
    return read_decoder(config.with_values({"num_key_value_heads": 1} if has_one else {}), traits)


def read_opt(config: ConfigReader, traits: FamilyTraits) -> TextModel:
    """Return an OPT.

    Raises
    ------
    UnsupportedModel
        The 350M variant, whose embeddings are narrower than the model.
    """
    hidden = config.integer("hidden_size", high=MAX_HIDDEN)
    field = "word_embed_proj_dim"
    if config.integer(field, high=MAX_HIDDEN, default=hidden) != hidden:
        problem, expected = "embeddings narrower than the model", f"{hidden}, the hidden size"
        raise config.unsupported(field, problem, expected)
    return read_decoder(config, traits)


def read_llama4(config: ConfigReader, traits: FamilyTraits) -> TextModel:
    """Return a Llama 4: experts in every n-th layer, and one shared expert as wide as a routed."""
    every = config.integer("interleave_moe_layer_step", high=MAX_LAYERS, default=1)
    changes = {"n_shared_experts": 1, "decoder_sparse_step": every}
    return read_decoder(config.with_values(changes), traits)


def read_parallel_residual_decoder(config: ConfigReader, traits: FamilyTraits) -> TextModel:
    """Return a decoder with one norm if attention and feed-forward part run side by side.

    StableLM; GPT-NeoX keeps two norms either way.
    """
    is_parallel = config.flag("use_parallel_residual", default=False)
    return read_decoder(config, replace(traits, norms=1 if is_parallel else 2))


def read_persimmon(config: ConfigReader, traits: FamilyTraits) -> TextModel:
    """Return a Persimmon: norms with biases on queries and keys, each as wide as a head."""
    has_norms = config.flag("qk_layernorm", default=True)
    qk_norm = QkNorm.HEAD if has_norms else QkNorm.NONE
    model = read_decoder(config, replace(traits, qk_norm=qk_norm))
    layers = config.integer(*LAYERS, high=MAX_LAYERS)
    # `QkNorm.HEAD` counts weights only; these norms have biases too.
    norm_biases = layers * 2 * model.layers[0].attention.head_dim * has_norms
    return replace(model, extra_parameters=model.extra_parameters + norm_biases)


def read_qwen1(config: ConfigReader, traits: FamilyTraits) -> TextModel:
    """Return a first-generation Qwen: ``intermediate_size`` counts gate and up projection."""
    both = config.integer("intermediate_size", high=MAX_WIDTH)
    if both % 2:
        expected = "an even number: gate and up projection together"
        raise InvalidInput(config.path("intermediate_size"), str(both), expected)
    return read_decoder(config.with_values({"intermediate_size": both // 2}), traits)


def read_hunyuan(config: ConfigReader, traits: FamilyTraits) -> TextModel:
    """Return Hunyuan: lists state the experts of each layer, and all layers have the same."""
    names = {
        "moe_topk": "num_experts_per_tok",
        "num_shared_expert": "n_shared_experts",
        "moe_intermediate_size": "moe_intermediate_size",
    }
    found = {common: config.values[own] for own, common in names.items() if config.has(own)}
    changes = {
        common: value[0] if isinstance(value, list) and value else value
        for common, value in found.items()
    }
    has_norms = config.flag("use_qk_norm", default=False)
    traits = replace(traits, qk_norm=QkNorm.HEAD if has_norms else QkNorm.NONE)
    return read_decoder(config.with_values(changes), traits)
