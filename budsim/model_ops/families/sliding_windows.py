"""Reads which layers see only the latest tokens: sliding windows and chunks."""

from __future__ import annotations

from budsim.commons.errors import InvalidInput
from budsim.model_ops.config_reader import MAX_CONTEXT, MAX_LAYERS, ConfigReader
from budsim.model_ops.layers import AttentionKind

WINDOW = ("sliding_window", "attention_chunk_size")
PATTERN = ("sliding_window_pattern", "_sliding_window_pattern")
LAYER_TYPES = {
    "full_attention",
    "attention",
    "indexed_attention",
    "sliding_attention",
    "chunked_attention",
    "linear_attention",
    "mamba",
}


def read_windows(
    config: ConfigReader, layers: int, context: int, *, pattern: int, default: bool = True
) -> tuple[int | None, ...]:
    """Return each layer's window in tokens, ``None`` where it sees everything.

    Parameters
    ----------
    config : ConfigReader
        The text model's part of config.json.
    layers, context : int
        Number of layers, and the longest sequence in tokens.
    pattern : int
        The family's default: every n-th layer sees everything; 0 means none does.
    default : bool
        Whether a declared window applies where ``use_sliding_window`` is not stated.
    """
    window = config.integer(*WINDOW, low=0, high=MAX_CONTEXT, default=0)
    # A window as long as the context limits nothing.
    if not window or window >= context or not config.flag("use_sliding_window", default=default):
        return (None,) * layers
    limited = _by_layer_types(config, layers) or _by_pattern(config, layers, pattern)
    return tuple(window if is_limited else None for is_limited in limited)


def kind_of(window: int | None) -> AttentionKind:
    """Return the attention kind that goes with a window."""
    return AttentionKind.FULL if window is None else AttentionKind.SLIDING


def layer_types(config: ConfigReader, layers: int) -> tuple[str, ...]:
    """Return the declared kinds of layers, empty if the config declares none.

    Raises
    ------
    UnsupportedModel
        A kind that is not known here.
    """
    kinds = config.texts("layer_types", count=layers)
    unknown = sorted(set(kinds) - LAYER_TYPES)
    if unknown:
        raise config.unsupported(
            "layer_types", f"unknown kind {unknown[0]!r}", f"kinds among {sorted(LAYER_TYPES)}"
        )
    return kinds


def _by_layer_types(config: ConfigReader, layers: int) -> tuple[bool, ...]:
    windowed = {"sliding_attention", "chunked_attention"}
    return tuple(kind in windowed for kind in layer_types(config, layers))


def _by_pattern(config: ConfigReader, layers: int, pattern: int) -> tuple[bool, ...]:
    _, declared = config.raw(*PATTERN)
    if isinstance(declared, str):
        # EXAONE 4 writes "LLLG": three layers with a window (local), then one that sees everything.
        if not declared or set(declared) - {"L", "G"}:
            raise InvalidInput(config.path("sliding_window_pattern"), repr(declared), "L and G")
        return tuple(declared[index % len(declared)] == "L" for index in range(layers))
    every = config.integer(*PATTERN, low=0, high=MAX_LAYERS, default=pattern)
    # Qwen 2: the first `max_window_layers` see everything, and only if the window is switched.
    first = 0
    if config.has("use_sliding_window"):
        first = config.integer("max_window_layers", low=0, high=MAX_LAYERS, default=0)
    return tuple(
        index >= first and (not every or (index + 1) % every != 0) for index in range(layers)
    )
