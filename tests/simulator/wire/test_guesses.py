"""Speculative decoding on the wire: ranges of the fields, and what node groups tell."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from budsim.performance.speculation import Method, Speculation
from budsim.simulator.schemas import RunRequest
from budsim.simulator.wire.guesses import GuessedTokens


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("draft_tokens", 0),
        ("draft_tokens", 50),
        ("draft_tokens", "3"),
        ("acceptance", 1.01),
        ("acceptance", True),
        ("temperature", -1),
        ("speculative", ""),
    ],
)
def test_values_out_of_range_are_refused(body: dict[str, Any], field: str, value: object) -> None:
    """The error names the field."""
    with pytest.raises(ValidationError, match=field):
        RunRequest.model_validate(body | {"speculative": "ngram", field: value})


def test_a_request_without_guesses_is_stored_as_before(body: dict[str, Any]) -> None:
    """Digests of requests that older versions stored stay what they were."""
    assert "speculative" not in RunRequest.model_validate(body).stored()
    assert RunRequest.model_validate(body).asked_speculation.speculative is None


def test_node_groups_tell_what_guesses() -> None:
    """The checkpoint's own layer has no name of its own."""
    way = Speculation(method=Method.MTP, draft_tokens=2, tokens_per_step=2.0, source="measured")
    told = GuessedTokens.of(way)
    assert (told.method, told.draft_tokens, told.tokens_per_step) == ("mtp", 2, 2.0)
    assert told.drafter is None
