"""Answers the page may come back to: for sliders, curves and files of a plan.

Each has a name nobody can guess, so no two people share one. An answer that is gone (forgotten, or
given by another replica) is computed again from the question, which the page always sends along.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from uuid import uuid4

from budsim.simulator.planning.plans import Outcome
from budsim.simulator.planning.question import Question


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """A question with its answer."""

    question: Question
    outcome: Outcome


class RememberedAnswers:
    """The answers used last, ``most`` of them."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._answers: OrderedDict[str, Answer] = OrderedDict()

    def add(self, answer: Answer) -> str:
        """Remember an answer and return its name; forget the one not used for longest."""
        name = uuid4().hex
        self._answers[name] = answer
        if len(self._answers) > self._most:
            self._answers.popitem(last=False)
        return name

    def get(self, name: str) -> Answer | None:
        """Return the answer of a name, or None where it is forgotten."""
        if name in self._answers:
            self._answers.move_to_end(name)
        return self._answers.get(name)
