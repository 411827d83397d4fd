"""The small models that guess tokens for a large one: its own MTP layer, or an EAGLE-3 head."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from budsim.commons.precision import Precision
from budsim.model_ops.architecture import Architecture
from budsim.model_ops.layers import Attention, AttentionKind, FeedForward, LayerGroup

# Tokens an EAGLE-3 head may guess (``draft_vocab_size`` of the heads SpecForge trains).
EAGLE3_VOCABULARY: Final = 32_000

# Inner width of an EAGLE-3 head over its hidden size, and width of its attention heads: those of
# Llama-3.1-8B, whose shape SpecForge's configurations follow (14336 / 4096).
EAGLE3_WIDTH, EAGLE3_HEAD_DIM = 3.5, 128

# Key and value heads for each query head of such a head.
EAGLE3_SHARING: Final = 4

# Families whose checkpoints bring a layer for multi-token prediction (``num_nextn_predict_layers``
# or ``mtp_num_hidden_layers`` of their config.json, as of vLLM 0.32 ``SpeculativeConfig``).
MTP_FAMILIES: Final = frozenset(
    {
        "DeepseekV3ForCausalLM",
        "DeepseekV32ForCausalLM",
        "DeepseekV4ForCausalLM",
        "Glm4MoeForCausalLM",
        "Glm4MoeLiteForCausalLM",
        "GlmMoeDsaForCausalLM",
        "MiMoForCausalLM",
        "MiMoV2FlashForCausalLM",
        "ErnieMoE_4_5ForCausalLM",
        "Qwen3NextForCausalLM",
        "Qwen3_5ForConditionalGeneration",
        "Qwen3_5MoeForConditionalGeneration",
        "LongcatFlashForCausalLM",
        "NemotronHForCausalLM",
    }
)


def has_mtp_layer(architecture: Architecture) -> bool:
    """Return whether the model's checkpoint brings a layer that guesses tokens."""
    return architecture.family in MTP_FAMILIES


def mtp_layer(architecture: Architecture) -> Architecture:
    """Return the layer of multi-token prediction as a model of one layer.

    It is shaped as the model's last layer with full attention, projects the last hidden state and
    the token's embedding together to one (2 H x H values), and shares embedding and head
    (DeepSeek-V3 technical report, 2.2).
    """
    groups = [
        group for group in architecture.layers if group.attention.kind is not AttentionKind.LINEAR
    ]
    last = (groups or list(architecture.layers))[-1]
    return replace(
        architecture,
        model_id=f"{architecture.model_id} (MTP layer)",
        layers=(replace(last, count=1),),
        encoder_layers=(),
        extra_parameters=2 * architecture.hidden_size**2,
        rotary_values=0,
    )


def eagle3_head(architecture: Architecture) -> Architecture:
    """Return an EAGLE-3 head for a model: one dense layer of its width, and a short vocabulary.

    It projects the hidden states of three layers to one (3 H x H values; Li et al., EAGLE-3, 2025).
    """
    hidden = architecture.hidden_size
    heads = max(hidden // EAGLE3_HEAD_DIM, 1)
    attention = Attention(
        kind=AttentionKind.FULL,
        heads=heads,
        kv_heads=max(heads // EAGLE3_SHARING, 1),
        head_dim=EAGLE3_HEAD_DIM,
        value_head_dim=EAGLE3_HEAD_DIM,
    )
    return Architecture(
        model_id=f"{architecture.model_id} (EAGLE-3 head)",
        family="LlamaForCausalLMEagle3",
        hidden_size=hidden,
        vocab_size=EAGLE3_VOCABULARY,
        max_context_tokens=architecture.max_context_tokens,
        layers=(
            LayerGroup(
                count=1,
                attention=attention,
                feed_forward=FeedForward(width=round(EAGLE3_WIDTH * hidden)),
            ),
        ),
        native_precision=Precision.BF16,
        extra_parameters=3 * hidden**2,
    )
