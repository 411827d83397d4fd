"""What guesses tokens, and what it may not be."""

from __future__ import annotations

from dataclasses import replace

import pytest

from budsim.commons.errors import InvalidInput
from budsim.model_ops.registry import resolve_model
from budsim.performance.speculation import (
    Method,
    Speculation,
    check_drafts,
    drafter_of,
    tokens_per_step,
)

LLAMA, R1 = "meta-llama/Llama-3.1-8B-Instruct", "deepseek-ai/DeepSeek-R1"


def test_a_guess_counts_only_after_right_ones() -> None:
    """Half right, two guesses: 1 + 0.5 + 0.25 = 1.75; all right, three guesses: 4."""
    assert tokens_per_step(0.5, 2) == pytest.approx(1.75)
    assert tokens_per_step(1.0, 3) == pytest.approx(4.0)
    assert tokens_per_step(0.0, 8) == pytest.approx(1.0)


@pytest.mark.parametrize("share", [-0.1, 1.1])
def test_an_acceptance_is_a_share(share: float) -> None:
    """Nothing is right more often than always."""
    with pytest.raises(InvalidInput, match="acceptance"):
        tokens_per_step(share, 3)


@pytest.mark.parametrize("count", [-1, 50])
def test_a_draft_has_at_most_sixteen_tokens(count: int) -> None:
    """A draft of 50 tokens is refused by name."""
    with pytest.raises(InvalidInput, match="draft_tokens"):
        Speculation(draft_tokens=count)


def test_a_step_yields_no_more_than_its_guesses_and_one() -> None:
    """Two guesses cannot yield 3.5 tokens."""
    with pytest.raises(InvalidInput, match="tokens_per_step"):
        Speculation(draft_tokens=2, tokens_per_step=3.5)


def test_lookup_runs_no_model() -> None:
    """Prompt lookup has no drafter, MTP runs one layer."""
    assert drafter_of(resolve_model(LLAMA), Method.NGRAM) is None
    layer = drafter_of(resolve_model(R1), Method.MTP)
    assert layer is not None
    assert layer.layer_count == 1
    assert Speculation(draft_tokens=3, drafter=layer).passes == 3
    assert Speculation(draft_tokens=3).passes == 0


def test_draft_models_share_the_vocabulary() -> None:
    """A Qwen model cannot guess for Llama: 151,936 tokens are not 128,256."""
    llama, qwen = resolve_model(LLAMA), resolve_model("Qwen/Qwen3-0.6B")
    with pytest.raises(InvalidInput, match="vocabulary"):
        check_drafts(llama, Method.DRAFT_MODEL, qwen)
    check_drafts(llama, Method.DRAFT_MODEL, replace(llama, model_id="small"))


def test_mtp_needs_a_layer_of_the_checkpoint() -> None:
    """Llama 3.1 brings no layer for multi-token prediction; DeepSeek-R1 does."""
    with pytest.raises(InvalidInput, match="no layer"):
        check_drafts(resolve_model(LLAMA), Method.MTP, None)
    check_drafts(resolve_model(R1), Method.MTP, None)


def test_a_draft_model_is_named() -> None:
    """The method alone says not which model drafts."""
    with pytest.raises(InvalidInput, match="missing"):
        check_drafts(resolve_model(LLAMA), Method.DRAFT_MODEL, None)
