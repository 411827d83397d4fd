"""What a family's modelling code does that its config.json need not say."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

# The config flag that decides, and what holds where the config does not state it.
Flag = tuple[str, bool]


class QkNorm(StrEnum):
    """Norms on queries and keys.

    ``HEAD`` is as wide as one head and shared by all heads; ``PROJECTION`` is as wide as all heads.
    """

    NONE = "none"
    HEAD = "head"
    PROJECTION = "projection"


@dataclass(frozen=True, slots=True, kw_only=True)
class FamilyTraits:
    """Traits of one family; a flag that the config states wins.

    Attributes
    ----------
    norm_values : int
        Weights of a norm for each value: 1 for RMS norms and layer norms without bias, 2 with bias,
        0 for norms without weights.
    norms : int
        Norms in each layer.
    gated : bool
        Whether feed-forward parts have a gate projection (SwiGLU).
    qkv_bias, out_bias, ff_bias : Flag
        Biases of the projections to queries, keys and values; of the output projection; of the
        feed-forward matrices.
    qk_norm, qk_norm_flag : QkNorm, Flag
        Norms on queries and keys, and the flag that switches them.
    tied : bool
        Whether the output head is the token table.
    head_bias : bool
        Whether the output head has biases.
    positions : int or None
        Learned positions beyond the context (OPT has 2); ``None`` means no learned positions.
    embedding_norm, final_norm : bool
        Norms after the token table and before the output head.
    width_factor : int
        Feed-forward width in hidden sizes where the config states none.
    window_pattern : int
        Every n-th layer sees everything, the others a window; 0 means all have a window.
    windowed : bool
        Whether a declared window applies where ``use_sliding_window`` is not stated.
    experts : bool
        Whether layers hold experts.
    shared_gate : bool
        Whether a scalar gate weighs the shared experts.
    router_bias, expert_bias : bool
        Biases of the router (one for each expert) and of the experts' matrices.
    sinks : bool
        Whether each attention head has a learned sink.
    output_gate, head_gate : bool
        Whether attention multiplies its output by a projection of the layer's input: one value for
        each output (``output_gate``) or one for each head (``head_gate``).
    """

    norm_values: int = 1
    norms: int = 2
    gated: bool = True
    qkv_bias: Flag = ("attention_bias", False)
    out_bias: Flag = ("attention_bias", False)
    ff_bias: Flag = ("mlp_bias", False)
    qk_norm: QkNorm = QkNorm.NONE
    qk_norm_flag: Flag = ("", True)
    tied: bool = False
    head_bias: bool = False
    positions: int | None = None
    embedding_norm: bool = False
    final_norm: bool = True
    width_factor: int = 0
    window_pattern: int = 0
    windowed: bool = True
    experts: bool = False
    shared_gate: bool = False
    router_bias: bool = False
    expert_bias: bool = False
    sinks: bool = False
    output_gate: bool = False
    head_gate: bool = False
