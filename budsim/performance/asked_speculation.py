"""From what a caller asks about speculative decoding to the ways a replica may guess."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from budsim.commons.errors import InvalidInput, NotFound
from budsim.model_ops.architecture import Architecture
from budsim.model_ops.drafters import has_mtp_layer
from budsim.performance.acceptance import domains, speculation_of
from budsim.performance.speculation import Method, Speculation, check_guessed

# Draft lengths tried where the caller names none: those that published runs use. MTP layers were
# trained for one guess and recipes go to three; EAGLE-3 heads and draft models are run with 1 to 7;
# prompt lookup costs no pass, so that longer drafts are cheap while few sequences run.
SEARCHED_DRAFT_TOKENS: Final = {
    Method.MTP: (1, 2, 3),
    Method.EAGLE3: (1, 2, 3, 5, 7),
    Method.DRAFT_MODEL: (1, 2, 3, 5),
    Method.NGRAM: (1, 3, 5, 8),
}
# Methods for which the caller names what guesses.
NAMED_DRAFTERS: Final = frozenset({Method.EAGLE3, Method.DRAFT_MODEL})
# Names of drafters; they go into commands, where anything else may mean something to a shell.
DRAFTER_NAMES: Final = re.compile(r"[A-Za-z0-9_./][A-Za-z0-9_./-]{0,511}")
# Highest temperature that OpenAI's API takes.
MOST_TEMPERATURE: Final = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class AskedSpeculation:
    """What a caller says about speculative decoding, in the words of every interface.

    Attributes
    ----------
    speculative : str, optional
        ``mtp``, ``eagle3``, ``draft_model`` or ``ngram``; None: replicas do not guess.
    draft_tokens : int, optional
        Tokens guessed for each step (K), 1 to 16; None: the search tries several.
    draft_model : str
        What guesses: the EAGLE-3 head or the smaller model.
    acceptance : float, optional
        Share (0..1) of guesses that are right, each after right ones; None: as published.
    domain : str, optional
        What the texts are about, for published acceptance: ``chat``, ``coding``, ``math``...
    temperature : float, optional
        Sampling temperature of the requests, for published acceptance.
    """

    speculative: str | None = None
    draft_tokens: int | None = None
    draft_model: str | None = None
    acceptance: float | None = None
    domain: str | None = None
    temperature: float | None = None

    def ways(
        self, architecture: Architecture, find: Callable[[str], Architecture]
    ) -> tuple[Speculation, ...]:
        """Return how replicas of a model may guess: one way for each draft length.

        ``find`` returns the architecture of a model by its name. Empty where no method is asked.

        Raises
        ------
        NotFound
            Nobody knows the draft model.
        InvalidInput
            A value is out of range, contradicts another, or what drafts cannot guess for the model.
        """
        if self.speculative is None:
            self._check_without_method()
            return ()
        method, drafter = self._method(architecture), self.draft_model or ""
        self._check_drafter(method)
        self._check_texts()
        draft = _found(drafter, find) if method is Method.DRAFT_MODEL else None
        return tuple(
            speculation_of(
                architecture,
                method,
                tokens,
                acceptance=self.acceptance,
                draft=draft,
                drafter_name=drafter,
                domain=self.domain or "",
                temperature=self.temperature,
            )
            for tokens in self._draft_lengths(method)
        )

    def _draft_lengths(self, method: Method) -> tuple[int, ...]:
        if self.draft_tokens is None:
            return SEARCHED_DRAFT_TOKENS[method]
        return (self.draft_tokens,)

    def _method(self, architecture: Architecture) -> Method:
        name, model = (self.speculative or "").strip().lower(), architecture.model_id
        if name not in set(Method):
            raise InvalidInput("speculative", f"{name[:60]!r} is no method", ", ".join(Method))
        if architecture.is_embedding:
            raise InvalidInput("speculative", f"{model} generates no tokens", "none")
        check_guessed("speculative", architecture)
        if name == Method.MTP and not has_mtp_layer(architecture):
            problem = f"{model} has no layer for multi-token prediction"
            raise InvalidInput("speculative", problem, "eagle3, draft_model or ngram")
        return Method(name)

    def _check_without_method(self) -> None:
        others = ("draft_tokens", "draft_model", "acceptance", "domain", "temperature")
        for name in others:
            if getattr(self, name) is not None:
                raise InvalidInput(name, "is given without a method", "`speculative` beside it")

    def _check_drafter(self, method: Method) -> None:
        if method in NAMED_DRAFTERS and not self.draft_model:
            what = "EAGLE-3 head" if method is Method.EAGLE3 else "model that drafts"
            raise InvalidInput("draft_model", "is missing", f"the Hugging Face id of the {what}")
        if self.draft_model and not DRAFTER_NAMES.fullmatch(self.draft_model):
            problem = f"{self.draft_model[:60]!r} is no name of a model"
            raise InvalidInput("draft_model", problem, "a Hugging Face id, or a path")
        if self.draft_model and method not in NAMED_DRAFTERS:
            problem = f"is given, and {method} has none"
            raise InvalidInput("draft_model", problem, "no `draft_model`")

    def _check_texts(self) -> None:
        """Refuse texts that no published curve is about, and texts beside a stated acceptance."""
        if self.domain is not None and self.domain not in domains():
            problem = f"{self.domain[:60]!r} is not known"
            raise InvalidInput("domain", problem, f"one of {', '.join(domains())}")
        if self.temperature is not None and not 0.0 <= self.temperature <= MOST_TEMPERATURE:
            expected = f"a number from 0 to {MOST_TEMPERATURE:g}"
            raise InvalidInput("temperature", f"is {self.temperature:g}", expected)
        for name in ("domain", "temperature"):
            if self.acceptance is not None and getattr(self, name) is not None:
                problem = "chooses a published acceptance, and `acceptance` is given"
                raise InvalidInput(name, problem, "one of both")


def _found(name: str, find: Callable[[str], Architecture]) -> Architecture:
    """Return the model that drafts; an error names its own field."""
    try:
        return find(name)
    except NotFound as error:
        raise NotFound("draft_model", error.value, error.hint) from error
