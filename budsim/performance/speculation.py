"""Speculative decoding: what guesses tokens ahead, how many, and how many of them are right."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from budsim.commons.errors import InvalidInput
from budsim.model_ops.architecture import Architecture
from budsim.model_ops.drafters import eagle3_head, has_mtp_layer, mtp_layer

# Longest draft we answer for. Engines verify each draft in one step, so that longer ones are
# batches of prompts; published acceptance ends at 8 positions.
MOST_DRAFT_TOKENS = 16


class Method(StrEnum):
    """What guesses the tokens.

    ``MTP``: a layer the checkpoint brings along; ``EAGLE3``: a small head trained for the model;
    ``DRAFT_MODEL``: a smaller model of the same vocabulary; ``NGRAM``: the text so far.
    """

    MTP = "mtp"
    EAGLE3 = "eagle3"
    DRAFT_MODEL = "draft_model"
    NGRAM = "ngram"


@dataclass(frozen=True, slots=True, kw_only=True)
class Speculation:
    """How one replica speculates.

    Attributes
    ----------
    method : Method
        What guesses.
    draft_tokens : int
        Tokens guessed for each step and sequence (K); the step verifies K + 1. 0 speculates not at
        all.
    tokens_per_step : float
        Mean tokens a step yields for a sequence, from 1 (no guess is right) to K + 1 (all are).
    spread : float
        Half width of the 90 % interval of ``tokens_per_step``, in the log.
    drafter : Architecture or None
        Model that runs once for each guessed token; None where guessing costs no step.
    drafter_name : str
        What the engine loads as the drafter; empty where the checkpoint brings it along.
    source : str
        Where ``tokens_per_step`` comes from.
    """

    method: Method = Method.NGRAM
    draft_tokens: int = 0
    tokens_per_step: float = 1.0
    spread: float = 0.0
    drafter: Architecture | None = None
    drafter_name: str = ""
    source: str = ""

    def __post_init__(self) -> None:
        if not 0 <= self.draft_tokens <= MOST_DRAFT_TOKENS:
            raise InvalidInput(
                "draft_tokens", f"is {self.draft_tokens}", f"1 to {MOST_DRAFT_TOKENS} tokens"
            )
        most = self.draft_tokens + 1.0
        if not 1.0 <= self.tokens_per_step <= most:
            raise InvalidInput(
                "tokens_per_step",
                f"is {self.tokens_per_step:g}",
                f"1 to {most:g}: one token, and at most {self.draft_tokens} guesses",
            )

    @property
    def shares_tables(self) -> bool:
        """Whether the drafter uses the token table and output head of the model."""
        return self.method is not Method.DRAFT_MODEL

    @property
    def passes(self) -> int:
        """Forward passes of the drafter for each step."""
        return self.draft_tokens if self.drafter else 0


# Rows that do not speculate.
PLAIN = Speculation()


def tokens_per_step(acceptance: float, draft_tokens: int) -> float:
    """Return the mean tokens a step yields when each guess is right with ``acceptance`` (0..1).

    A guess counts only when all before it were right: 1 + a + a^2 + ... + a^K (Leviathan et al.,
    Fast inference from transformers via speculative decoding, 2023). Half right and two guesses
    give 1 + 0.5 + 0.25 = 1.75.

    Raises
    ------
    InvalidInput
        When the acceptance is no share.
    """
    if not 0.0 <= acceptance <= 1.0:
        raise InvalidInput("acceptance", f"is {acceptance:g}", "a share from 0 to 1")
    return float(sum(acceptance**position for position in range(draft_tokens + 1)))


def drafter_of(architecture: Architecture, method: Method) -> Architecture | None:
    """Return what a method runs to guess, None for one that runs nothing or a model of its own."""
    if method is Method.MTP:
        return mtp_layer(architecture)
    return eagle3_head(architecture) if method is Method.EAGLE3 else None


def check_guessed(field: str, architecture: Architecture) -> None:
    """Refuse guesses for a decoder that reads an encoder; the error names ``field``.

    No engine documents them, and SGLang 0.5.23's drafters pass no positions of encoders on
    (``speculative/``). Nothing of a spoken text stands in its prompt for n-grams to find.
    """
    if architecture.reads_encoder:
        problem = f"{architecture.model_id} reads an encoder, beside which engines guess no tokens"
        raise InvalidInput(field, problem, "none")


def check_drafts(architecture: Architecture, method: Method, draft: Architecture | None) -> None:
    """Refuse what cannot guess for a model.

    Raises
    ------
    InvalidInput
        When a draft model is missing or has another vocabulary, or the model no layer for
        multi-token prediction, or reads a tower. Padded vocabularies may differ by less than one
        part in a hundred.
    """
    check_guessed("speculative_method", architecture)
    if method is Method.MTP and not has_mtp_layer(architecture):
        raise InvalidInput(
            "speculative_method",
            f"{architecture.model_id} has no layer for multi-token prediction",
            "eagle3, draft_model or ngram",
        )
    if method is not Method.DRAFT_MODEL:
        return
    if draft is None:
        raise InvalidInput("draft_model", "is missing", "the model that drafts")
    apart = abs(architecture.vocab_size - draft.vocab_size)
    if apart * 100 >= architecture.vocab_size:
        raise InvalidInput(
            "draft_model",
            f"{draft.model_id} has {draft.vocab_size} tokens, {architecture.model_id} "
            f"{architecture.vocab_size}",
            "a draft model of the same vocabulary",
        )
