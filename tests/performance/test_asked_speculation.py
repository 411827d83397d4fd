"""What callers say about guesses: what is tried, and what is refused by its name."""

from __future__ import annotations

from typing import Any

import pytest

from budsim.commons.errors import InvalidInput, NotFound
from budsim.model_ops.registry import resolve_model
from budsim.performance.asked_speculation import AskedSpeculation
from budsim.performance.speculation import Speculation

LLAMA = "meta-llama/Llama-3.1-8B-Instruct"
HEAD = "yuhuili/EAGLE3-LLaMA3.1-Instruct-8B"


def ways(model: str = LLAMA, **asked: Any) -> tuple[Speculation, ...]:
    """Return the ways in which a model may guess."""
    return AskedSpeculation(**asked).ways(resolve_model(model), resolve_model)


@pytest.mark.parametrize(
    ("asked", "reason"),
    [
        (
            {"draft_tokens": 3},
            "draft_tokens: is given without a method; expected `speculative` beside it",
        ),
        ({"temperature": 0.0}, "temperature: is given without a method"),
        ({"speculative": "medusa"}, "no method"),
        ({"speculative": "mtp"}, "speculative: .* has no layer"),
        ({"speculative": "ngram", "model": "BAAI/bge-m3"}, "speculative: .* generates no tokens"),
        ({"speculative": "ngram", "model": "openai/whisper-large-v3"}, "reads an encoder"),
        ({"speculative": "ngram", "draft_model": "Qwen/Qwen3-0.6B"}, "draft_model: is given"),
        ({"speculative": "eagle3"}, "draft_model: is missing"),
        ({"speculative": "draft_model"}, "draft_model: is missing"),
        ({"speculative": "eagle3", "draft_model": "x/y; touch z"}, "draft_model: .* no name"),
        ({"speculative": "eagle3", "draft_model": "x/$(id)"}, "draft_model: .* no name"),
        ({"speculative": "eagle3", "draft_model": "--flag"}, "draft_model: .* no name"),
        ({"speculative": "ngram", "draft_tokens": 0}, "draft_tokens: is 0"),
        ({"speculative": "ngram", "draft_tokens": 50}, "draft_tokens: is 50"),
        ({"speculative": "ngram", "acceptance": 1.5}, "acceptance: is 1.5"),
        ({"speculative": "ngram", "acceptance": -0.1}, "acceptance: is -0.1"),
        ({"speculative": "ngram", "acceptance": float("nan")}, "acceptance: is nan"),
        ({"speculative": "draft_model", "draft_model": "Qwen/Qwen3-0.6B"}, "vocabulary"),
        ({"speculative": "ngram", "domain": "poetry"}, "domain: 'poetry' is not known.*coding"),
        ({"speculative": "ngram", "temperature": 3.0}, "temperature: is 3"),
        ({"speculative": "ngram", "acceptance": 0.5, "domain": "math"}, "domain: chooses"),
    ],
)
def test_what_cannot_be_is_refused_by_name(asked: dict[str, Any], reason: str) -> None:
    """The message names the field, and what it should be."""
    with pytest.raises(InvalidInput, match=reason):
        ways(**asked)


def test_an_unknown_draft_model_is_named_as_one() -> None:
    """The error must not send the caller to the model that is served."""
    with pytest.raises(NotFound, match="draft_model: 'no/such'"):
        ways(speculative="draft_model", draft_model="no/such")


def test_a_stated_length_is_the_only_one() -> None:
    """Half of two guesses: 1.75 tokens a step."""
    (way,) = ways(speculative="ngram", draft_tokens=2, acceptance=0.5)
    assert way.tokens_per_step == pytest.approx(1.75)


def test_several_lengths_are_tried_where_none_is_stated() -> None:
    """Each yields more tokens a step than the one before."""
    found = ways(speculative="eagle3", draft_model=HEAD)
    assert [each.draft_tokens for each in found] == [1, 2, 3, 5, 7]
    yields = [each.tokens_per_step for each in found]
    assert yields == sorted(yields)


def test_nobody_guesses_unasked() -> None:
    """No method, no way."""
    assert ways() == ()


def test_the_domain_chooses_the_curve() -> None:
    """Prompt lookup finds more in code than in arithmetic."""
    coding, maths = (
        ways(speculative="ngram", draft_tokens=5, domain=domain)[0] for domain in ("coding", "math")
    )
    assert coding.tokens_per_step > maths.tokens_per_step
    assert "InstructCoder" in coding.source
