"""Older decoders whose configs spell things their own way: rewritten into the common spelling, then read as any decoder."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from budsim.commons.errors import InvalidInput
from budsim.model_ops.families.body import Body
from budsim.model_ops.families.decoder import LAYERS, QkNorm, Style, decoder
from budsim.model_ops.fields import MAX_HEADS, MAX_HIDDEN, MAX_LAYERS, MAX_WIDTH, Fields

BIASED = ("use_bias", True)
UNBIASED = ("", False)


def rewritten(fields: Fields, changes: Mapping[str, object]) -> Fields:
    """Return ``fields`` with values added or replaced, under the same path."""
    return Fields({**fields.values, **changes}, fields.prefix)


def falcon(fields: Fields, style: Style) -> Body:
    """Return a Falcon: the new architecture has KV heads and two norms, the old one query and one norm side by side."""
    new = fields.flag("new_decoder_architecture", default=False)
    multi_query = fields.flag("multi_query", default=True)
    changes: dict[str, object] = {}
    if new:
        changes["num_key_value_heads"] = fields.integer("num_kv_heads", "n_head_kv", high=MAX_HEADS)
    elif multi_query:
        changes["num_key_value_heads"] = 1
    else:
        changes["num_kv_heads"] = changes["n_head_kv"] = None
    parallel = fields.flag("parallel_attn", default=True)
    one_norm = (
        parallel
        and fields.integer("num_ln_in_parallel_attn", low=0, high=2, default=2 if new else 1) == 1
    )
    return decoder(rewritten(fields, changes), replace(style, norms=1 if one_norm else 2))


def mpt(fields: Fields, style: Style) -> Body:
    """Return an MPT: attention settings nested, width a multiple of the hidden size, learned positions unless ALiBi."""
    attention = fields.nested("attn_config") or Fields({})
    alibi, biased = attention.flag("alibi", default=True), not fields.flag("no_bias", default=True)
    ratio = fields.integer("expansion_ratio", high=64, default=4)
    heads = fields.integer("n_heads", high=MAX_HEADS)
    kv_heads = attention.integer("kv_n_heads", high=MAX_HEADS, default=heads)
    changes = {
        "num_key_value_heads": 1
        if attention.text("attn_type", default="multihead_attention") == "multiquery_attention"
        else kv_heads,
        "intermediate_size": ratio * fields.integer("d_model", high=MAX_HIDDEN),
        "attention_bias": biased,
        "mlp_bias": biased,
    }
    learned = fields.flag("learned_pos_emb", default=True) and not alibi
    changed = replace(style, norm_values=1 + biased, positions=0 if learned else None)
    return decoder(rewritten(fields, changes), changed)


def dbrx(fields: Fields, style: Style) -> Body:
    """Return a DBRX: attention and expert settings nested."""
    attention, feed_forward = (
        fields.nested("attn_config") or Fields({}),
        fields.nested("ffn_config") or Fields({}),
    )
    changes = {
        "num_key_value_heads": attention.integer("kv_n_heads", high=MAX_HEADS),
        "moe_num_experts": feed_forward.raw("moe_num_experts")[1],
        "moe_top_k": feed_forward.raw("moe_top_k")[1],
        "intermediate_size": feed_forward.integer("ffn_hidden_size", high=MAX_WIDTH),
    }
    return decoder(rewritten(fields, changes), style)


def chatglm(fields: Fields, style: Style) -> Body:
    """Return a ChatGLM2, ChatGLM3 or GLM-4-9B: multi-query groups, biases on queries, keys and values."""
    if fields.has("padded_vocab_size"):
        fields = rewritten(fields, {"vocab_size": fields.raw("padded_vocab_size")[1]})
    if not fields.flag("multi_query_attention", default=False):
        fields = rewritten(fields, {"multi_query_group_num": None})
    return decoder(fields, style)


def bigcode(fields: Fields, style: Style) -> Body:
    """Return a GPT-BigCode (StarCoder, SantaCoder): one KV head when ``multi_query``."""
    one = fields.flag("multi_query", default=True)
    return decoder(rewritten(fields, {"num_key_value_heads": 1} if one else {}), style)


def opt(fields: Fields, style: Style) -> Body:
    """Return an OPT; the 350M variant, whose embeddings are narrower than the model, cannot be read."""
    hidden = fields.integer("hidden_size", high=MAX_HIDDEN)
    if fields.integer("word_embed_proj_dim", high=MAX_HIDDEN, default=hidden) != hidden:
        raise fields.unsupported(
            "word_embed_proj_dim",
            "embeddings narrower than the model",
            f"{hidden}, the hidden size",
        )
    return decoder(fields, style)


def llama4(fields: Fields, style: Style) -> Body:
    """Return a Llama 4: expert layers every so-maniest, one shared expert as wide as a routed one."""
    every = fields.integer("interleave_moe_layer_step", high=MAX_LAYERS, default=1)
    return decoder(rewritten(fields, {"n_shared_experts": 1, "decoder_sparse_step": every}), style)


def parallel_when_declared(fields: Fields, style: Style) -> Body:
    """Return a decoder with one norm when attention and feed-forward run side by side (StableLM, GPT-NeoX keeps two)."""
    parallel = fields.flag("use_parallel_residual", default=False)
    return decoder(fields, replace(style, norms=1 if parallel else 2))


def persimmon(fields: Fields, style: Style) -> Body:
    """Return a Persimmon: norms with biases on queries and keys, each a head wide."""
    normed = fields.flag("qk_layernorm", default=True)
    body = decoder(fields, replace(style, qk_norm=QkNorm.HEAD if normed else QkNorm.NONE))
    head_dim = body.layers[0].attention.head_dim
    layers = fields.integer(*LAYERS, high=MAX_LAYERS)
    return replace(body, extra=body.extra + layers * 2 * head_dim * normed)


def qwen1(fields: Fields, style: Style) -> Body:
    """Return a first-generation Qwen, whose ``intermediate_size`` counts gate and up projection together."""
    both = fields.integer("intermediate_size", high=MAX_WIDTH)
    if both % 2:
        raise InvalidInput(
            fields.path("intermediate_size"),
            str(both),
            "an even number: gate and up projection together",
        )
    return decoder(rewritten(fields, {"intermediate_size": both // 2}), style)


def hunyuan(fields: Fields, style: Style) -> Body:
    """Return Hunyuan, whose config gives the experts of each layer in lists; they are alike."""
    names = {
        "moe_topk": "num_experts_per_tok",
        "num_shared_expert": "n_shared_experts",
        "moe_intermediate_size": "moe_intermediate_size",
    }
    found = {name: fields.values[name] for name in names if fields.has(name)}
    each = {
        names[name]: value[0] if isinstance(value, list) and value else value
        for name, value in found.items()
    }
    norms = replace(
        style, qk_norm=QkNorm.HEAD if fields.flag("use_qk_norm", default=False) else QkNorm.NONE
    )
    return decoder(Fields({**fields.values, **each}, fields.prefix), norms)
