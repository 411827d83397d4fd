"""The workflow `run_simulation`: which activities it calls, and how many."""

from types import SimpleNamespace
from typing import Any

import pytest

from budsim.simulator.background.workflows import MOST_SEARCHES, batches_of, workflow_of


def test_very_many_parts_are_searched_in_batches():
    """No workflow has more searches than its history may hold, and every part is in one of them."""
    parts = [f"part-{number}" for number in range(1000)]
    batches = batches_of(parts)
    assert len(batches) == MOST_SEARCHES
    assert sorted(part for batch in batches for part in batch) == sorted(parts)
    assert batches_of(parts[:3]) == [["part-0"], ["part-1"], ["part-2"]]


class Context:
    """Notes the activities a workflow calls."""

    def __init__(self) -> None:
        self.called: list[tuple[str, dict[str, Any]]] = []

    def call_activity(self, name: str, **given: Any) -> str:
        """Note a call."""
        self.called.append((name, given["input"]))
        return name


def replayed(answers: list[Any], monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, Any]]:
    """Return the activities of a workflow whose yields are answered so."""
    monkeypatch.setattr("dapr.ext.workflow.when_all", lambda tasks: SimpleNamespace(tasks=tasks))
    context, left = Context(), list(answers)
    steps = workflow_of(3)(context, {"run_id": "r", "attempt": 1})
    try:
        steps.send(None)
        while True:
            steps.send(left.pop(0))
    except StopIteration:
        return context.called


def test_a_run_is_validated_searched_ranked_and_published(monkeypatch: pytest.MonkeyPatch):
    """One search for each batch of parts; each activity knows its run."""
    called = replayed([[["a"], ["b"]], None, None, {}], monkeypatch)
    assert [name for name, _ in called] == [
        "validation",
        "performance_estimation",
        "performance_estimation",
        "ranking",
        "publish",
    ]
    assert all(given["run_id"] == "r" for _, given in called)
    assert [given["parts"] for _, given in called[1:3]] == [["a"], ["b"]]


def test_a_run_that_has_ended_or_is_paused_is_only_published(monkeypatch: pytest.MonkeyPatch):
    """Its validation returns nothing to search."""
    assert [name for name, _ in replayed([None, {}], monkeypatch)] == ["validation", "publish"]
