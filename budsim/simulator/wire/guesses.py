"""Speculative decoding, as requests ask for it and node groups tell it."""

from __future__ import annotations

from dataclasses import fields
from typing import Annotated

from pydantic import BaseModel, BeforeValidator, Field

from budsim.performance.asked_speculation import MOST_TEMPERATURE, AskedSpeculation
from budsim.performance.speculation import MOST_DRAFT_TOKENS, Speculation
from budsim.simulator.wire.fields import Share, Text, only_number

DraftTokens = Annotated[int, Field(ge=1, le=MOST_DRAFT_TOKENS), BeforeValidator(only_number)]
Temperature = Annotated[
    float, Field(ge=0, le=MOST_TEMPERATURE, allow_inf_nan=False), BeforeValidator(only_number)
]


class SpeculationFields(BaseModel):
    """What a request says about guessing tokens ahead; null or left out: replicas do not."""

    speculative: Text | None = Field(
        None,
        description="guess tokens ahead where it gains: mtp, eagle3, draft_model or ngram; "
        "null: do not",
    )
    draft_tokens: DraftTokens | None = Field(
        None, description="tokens guessed for each step; null: several are tried"
    )
    draft_model: Text | None = Field(
        None, description="Hugging Face id of the EAGLE-3 head or of the smaller model that drafts"
    )
    acceptance: Share | None = Field(
        None,
        description="share of guesses that are right, each after right ones, 0 to 1; null: as "
        "published for the model and method",
    )
    domain: Text | None = Field(
        None,
        description="texts whose published acceptance is taken: chat, coding, math...; null: any",
    )
    temperature: Temperature | None = Field(
        None, description="sampling temperature whose published acceptance is taken; null: any"
    )

    @property
    def asked_speculation(self) -> AskedSpeculation:
        """The same in the core's words."""
        names = [each.name for each in fields(AskedSpeculation)]
        return AskedSpeculation(**{name: getattr(self, name) for name in names})


class GuessedTokens(BaseModel):
    """How the replicas of a node group guess tokens ahead."""

    method: str = Field(description="what guesses: mtp, eagle3, draft_model or ngram")
    draft_tokens: int = Field(description="tokens guessed for each step and sequence")
    tokens_per_step: float = Field(description="mean tokens a step yields for a sequence")
    drafter: str | None = Field(None, description="model that guesses; null: the checkpoint itself")
    source: str = Field(description="where the tokens a step yields were published")

    @classmethod
    def of(cls, way: Speculation) -> GuessedTokens:
        """Return a way to guess in the wire's words."""
        return cls(
            method=way.method,
            draft_tokens=way.draft_tokens,
            tokens_per_step=round(way.tokens_per_step, 4),
            drafter=way.drafter_name or None,
            source=way.source,
        )
