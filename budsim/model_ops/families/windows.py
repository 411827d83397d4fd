"""Reads which layers look back only so far: sliding windows and chunks."""

from __future__ import annotations

from budsim.commons.errors import InvalidInput
from budsim.model_ops.architecture import AttentionKind
from budsim.model_ops.fields import MAX_CONTEXT, MAX_LAYERS, Fields

LAYER_KINDS = {
    "full_attention",
    "attention",
    "sliding_attention",
    "chunked_attention",
    "linear_attention",
    "mamba",
}


def windows(
    fields: Fields, layers: int, context: int, *, pattern: int, default: bool = True
) -> tuple[int | None, ...]:
    """Return each layer's window in tokens, ``None`` where it sees everything.

    ``pattern`` is the family's default: every so-maniest layer sees everything; 0 means none does. ``default`` says whether
    a declared window applies when ``use_sliding_window`` is absent.
    """
    window = fields.integer(
        "sliding_window", "attention_chunk_size", low=0, high=MAX_CONTEXT, default=0
    )
    if not window or window >= context or not fields.flag("use_sliding_window", default=default):
        return (None,) * layers
    limited = _by_layer_types(fields, layers) or _by_pattern(fields, layers, pattern)
    return tuple(window if is_limited else None for is_limited in limited)


def kind_of(window: int | None) -> AttentionKind:
    """Return the attention kind that goes with a window."""
    return AttentionKind.FULL if window is None else AttentionKind.SLIDING


def layer_types(fields: Fields, layers: int) -> tuple[str, ...]:
    """Return the declared kinds of layers, empty if the config declares none.

    Raises
    ------
    UnsupportedModel
        A kind that is not known here.
    """
    kinds = fields.texts("layer_types", count=layers)
    unknown = sorted(set(kinds) - LAYER_KINDS)
    if unknown:
        raise fields.unsupported(
            "layer_types", f"unknown kind {unknown[0]!r}", f"kinds among {sorted(LAYER_KINDS)}"
        )
    return kinds


def _by_layer_types(fields: Fields, layers: int) -> tuple[bool, ...]:
    return tuple(
        kind in {"sliding_attention", "chunked_attention"} for kind in layer_types(fields, layers)
    )


def _by_pattern(fields: Fields, layers: int, pattern: int) -> tuple[bool, ...]:
    _, declared = fields.raw("sliding_window_pattern", "_sliding_window_pattern")
    if isinstance(declared, str):
        if not declared or set(declared) - {"L", "G"}:
            raise InvalidInput(fields.path("sliding_window_pattern"), repr(declared), "L and G")
        return tuple(declared[index % len(declared)] == "L" for index in range(layers))
    every = fields.integer(
        "sliding_window_pattern", "_sliding_window_pattern", low=0, high=MAX_LAYERS, default=pattern
    )
    first = (
        fields.integer("max_window_layers", low=0, high=MAX_LAYERS, default=0)
        if fields.has("use_sliding_window")
        else 0
    )
    return tuple(
        index >= first and (not every or (index + 1) % every != 0) for index in range(layers)
    )
