"""Windows are read as the family means them."""

from __future__ import annotations

import pytest

from budsim.model_ops.config import architecture_from_config
from budsim.model_ops.layers import AttentionKind
from budsim.model_ops.registry import resolve_model
from tests.model_ops.configs import llama


def test_window_of_the_whole_context_is_none() -> None:
    """A window as long as the context limits nothing."""
    architecture = architecture_from_config(
        "wide", llama(model_type="mistral", sliding_window=2048)
    )
    assert architecture.layers[0].attention.kind is AttentionKind.FULL


@pytest.mark.parametrize(
    ("model_id", "windowed", "full", "window"),
    [
        ("mistralai/Mistral-7B-v0.1", 32, 0, 4096),
        ("google/gemma-2-9b", 21, 21, 4096),
        ("google/gemma-3-27b-it", 52, 10, 1024),
        ("google/gemma-4-26B-A4B-it", 25, 5, 1024),
        ("XiaomiMiMo/MiMo-V2-Flash", 39, 9, 128),
        ("openai/gpt-oss-20b", 12, 12, 128),
        ("meta-llama/Llama-4-Scout-17B-16E-Instruct", 36, 12, 8192),
        ("Qwen/Qwen2.5-7B-Instruct", 0, 28, None),
        ("mistralai/Mistral-7B-Instruct-v0.3", 0, 32, None),
    ],
)
def test_windows_alternate_as_the_family_does(
    model_id: str, windowed: int, full: int, window: int | None
) -> None:
    """Layers that see only a window are told from those that see everything."""
    groups = resolve_model(model_id).layers
    counts = {
        kind: sum(g.count for g in groups if g.attention.kind is kind) for kind in AttentionKind
    }
    assert (counts[AttentionKind.SLIDING], counts[AttentionKind.FULL]) == (windowed, full)
    assert {g.attention.window for g in groups if g.attention.kind is AttentionKind.SLIDING} <= {
        window
    }
