"""Reads one layer's attention, grouped or multi-head latent, and its small weights."""

from __future__ import annotations

from budsim.commons.errors import InvalidInput
from budsim.model_ops.config_reader import MAX_CONTEXT, MAX_HEADS, MAX_HIDDEN, ConfigReader
from budsim.model_ops.families.sliding_windows import kind_of
from budsim.model_ops.families.traits import FamilyTraits, QkNorm
from budsim.model_ops.layers import Attention, AttentionKind

HEADS = ("num_attention_heads", "n_head", "n_heads", "attention_heads")
KV_HEADS = (
    "num_attention_groups",
    "num_key_value_heads",
    "num_kv_heads",
    "multi_query_group_num",
    "n_head_kv",
)
HEAD_DIM = ("head_dim", "kv_channels", "attention_head_dim", "d_kv")


def read_attention(config: ConfigReader, hidden: int, window: int | None = None) -> Attention:
    """Return multi-head, grouped-query or multi-query attention.

    Raises
    ------
    InvalidInput
        Head counts that do not divide each other or the hidden size.
    """
    heads = config.integer(*HEADS, high=MAX_HEADS)
    kv_heads = config.integer(*KV_HEADS, high=MAX_HEADS, default=heads)
    if heads % kv_heads:
        field, expected = config.raw(*KV_HEADS)[0], f"a divisor of {heads}"
        raise InvalidInput(config.path(field), f"{kv_heads} for {heads} heads", expected)
    if not config.has(*HEAD_DIM) and hidden % heads:
        field, expected = config.raw(*HEADS)[0], f"a divisor of {hidden}"
        raise InvalidInput(config.path(field), f"{heads} for hidden size {hidden}", expected)
    # Stated head widths win: Qwen3 and Gemma heads do not add up to the hidden size.
    head_dim = config.integer(*HEAD_DIM, high=MAX_HIDDEN, default=hidden // heads)
    return Attention(
        kind=kind_of(window),
        heads=heads,
        kv_heads=kv_heads,
        head_dim=head_dim,
        value_head_dim=config.integer("v_head_dim", high=MAX_HIDDEN, default=head_dim),
        # Step-3 projects queries through a latent that all heads share.
        q_lora_rank=config.integer("share_q_dim", low=0, high=MAX_HIDDEN, default=0) or None,
        window=window,
    )


def read_latent_attention(
    config: ConfigReader, *, indexed: bool = False, shares_index: bool = False
) -> Attention:
    """Return multi-head latent attention.

    Parameters
    ----------
    config : ConfigReader
        The text model's part of config.json.
    indexed : bool
        Whether the layer selects tokens with the sparse indexer of DeepSeek V3.2.
    shares_index : bool
        Whether it uses the index of an earlier layer and stores none of its own.
    """
    heads = config.integer(*HEADS, high=MAX_HEADS)
    own_index = indexed and not shares_index
    return Attention(
        kind=AttentionKind.MLA,
        heads=heads,
        kv_heads=heads,
        head_dim=config.integer("qk_nope_head_dim", high=MAX_HIDDEN),
        value_head_dim=config.integer("v_head_dim", high=MAX_HIDDEN),
        q_lora_rank=config.integer("q_lora_rank", low=0, high=MAX_HIDDEN, default=0) or None,
        kv_lora_rank=config.integer("kv_lora_rank", high=MAX_HIDDEN),
        rope_head_dim=config.integer("qk_rope_head_dim", low=0, high=MAX_HIDDEN),
        index_heads=config.integer("index_n_heads", high=MAX_HEADS) if own_index else 0,
        index_head_dim=config.integer("index_head_dim", high=MAX_HIDDEN) if own_index else 0,
        index_topk=config.integer("index_topk", high=MAX_CONTEXT) if indexed else None,
    )


def attention_extra_parameters(
    config: ConfigReader, traits: FamilyTraits, attention: Attention, hidden: int
) -> int:
    """Return the biases, query-key norms and sinks of one layer's grouped attention."""
    biases = attention_biases(
        attention,
        hidden,
        qkv=config.flag(traits.qkv_bias[0], default=traits.qkv_bias[1]),
        out=config.flag(traits.out_bias[0], default=traits.out_bias[1]),
    )
    return biases + _qk_norm_values(config, traits, attention) + attention.heads * traits.sinks


def latent_extra_parameters(config: ConfigReader, attention: Attention, hidden: int) -> int:
    """Return the norms and biases of one layer's latent attention."""
    latents = (attention.q_lora_rank or 0) + attention.kv_lora_rank
    # Latents have RMS norms; the index key has a layer norm with biases.
    norms = latents + 2 * attention.index_head_dim
    has_biases = config.flag("attention_bias", default=False)
    return norms + has_biases * (latents + attention.rope_head_dim + hidden)


def attention_biases(attention: Attention, hidden: int, *, qkv: bool, out: bool) -> int:
    """Return the number of bias values of grouped attention's projections."""
    queries = attention.heads * attention.head_dim
    keys_and_values = attention.kv_heads * (attention.head_dim + attention.value_head_dim)
    return (queries + keys_and_values) * qkv + hidden * out


def _qk_norm_values(config: ConfigReader, traits: FamilyTraits, attention: Attention) -> int:
    flag, default = traits.qk_norm_flag
    is_on = config.flag(flag, default=default) if flag else True
    if traits.qk_norm is QkNorm.NONE or not is_on:
        return 0
    if traits.qk_norm is QkNorm.HEAD:
        return 2 * attention.head_dim
    return (attention.heads + attention.kv_heads) * attention.head_dim
