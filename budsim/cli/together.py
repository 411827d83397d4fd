"""`budsim together`: several models on one cluster."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from budsim.cli import tables
from budsim.cli.files import read_clusters
from budsim.cli.options import AsJson, ClusterFile
from budsim.cli.progress import progress
from budsim.commons.errors import InvalidInput, NotFound
from budsim.commons.safe_yaml import load_yaml

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

    from budsim.api.several_models import Ask, SharedCluster
    from budsim.simulator.planning.shared_clusters import OneMoreNode, SharedOutcome

MOST_BYTES = 2**20
MOST_MODELS = 20
EXPECTED = "a list of models, each with model, input_tokens, output_tokens and concurrency or so"

Questions = Annotated[
    Path,
    typer.Argument(help="YAML or JSON: a list of models with their loads and targets."),
]
Analytic = Annotated[
    bool, typer.Option("--analytic", help="Use physics alone, without trained models.")
]


def together(
    questions: Questions,
    *,
    cluster: ClusterFile,
    analytic: Analytic = False,
    as_json: AsJson = False,
) -> None:
    """Find plans of several models that fit on one cluster together."""
    from budsim.api.several_models import together as found_together

    asks = read_asks(questions)
    clusters = read_clusters(cluster)
    with progress() as tell:
        found = found_together(asks, cluster=clusters, analytic=analytic, progress=tell)
    if as_json:
        tables.write_json(found.to_dict())
    else:
        _print(found)


def read_asks(path: Path) -> list[Ask]:
    """Return the questions of a file.

    Raises
    ------
    NotFound
        There is no such file.
    InvalidInput
        It cannot be read, or a field of a question is wrong.
    """
    from pydantic import ValidationError

    from budsim.api.several_models import ask_of
    from budsim.simulator.wire.model_loads import ModelLoad

    asks = []
    for number, entry in enumerate(_entries(path)):
        try:
            asks.append(ask_of(ModelLoad.model_validate(entry)))
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(part) for part in (f"questions[{number}]", *first["loc"]))
            raise InvalidInput(where, *_problem(first)) from None
    return asks


def _problem(first: ErrorDetails) -> tuple[str, str]:
    """Return what is wrong with a field, and what would be right."""
    from budsim.simulator.wire.model_loads import ModelLoad

    told = first["msg"]
    for start in ("Value error, ", "Input should be ", "must be "):
        told = told.removeprefix(start)
    if first["type"] == "extra_forbidden":
        return "is no field of a model", f"one of {', '.join(ModelLoad.model_fields)}"
    if first["type"] == "missing":
        return "is missing", "a value"
    if first["type"] == "model_type":
        return "is no mapping", EXPECTED
    problem, _, expected = told.partition("; expected ")
    return (problem, expected) if expected else (f"is {first['input']!r}"[:60], told)


def _entries(path: Path) -> list[Any]:
    if not path.is_file():
        raise NotFound("QUESTIONS", str(path), "name a file that exists")
    if path.stat().st_size > MOST_BYTES:
        raise InvalidInput("QUESTIONS", f"{path.name} is larger than 1 MiB", EXPECTED)
    try:
        found = load_yaml(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InvalidInput("QUESTIONS", f"{path.name} is not YAML ({error})", EXPECTED) from None
    if not isinstance(found, list) or not 0 < len(found) <= MOST_MODELS:
        problem = f"{path.name} holds no list of 1 to {MOST_MODELS} models"
        raise InvalidInput("QUESTIONS", problem, EXPECTED)
    return found


def _print(found: SharedCluster) -> None:
    console = tables.console()
    console.print(found.summary())
    for question, row in zip(found.questions, found.rows(), strict=True):
        console.print(f"  {row['model']}: {_told(row, has_targets=bool(question.targets))}")
    outcome, names = found.outcome, [each.architecture.model_id for each in found.questions]
    for each in outcome.contentions:
        held = ", ".join(f"{names[n]} uses {count}" for n, count in each.held_by.items())
        console.print(
            f"{names[each.model]} would take {each.wanted} x {each.device} alone; "
            f"{each.left} are left: {held}"
        )
    gains = [more for more in outcome.more if _gains(more, outcome)]
    if outcome.more and not gains:
        console.print("one more node of any kind would change nothing")
    for more in gains:
        console.print(
            f"one more node like {more.node} ({more.cluster}): {more.served} models served, "
            f"{more.cost_usd_per_h:.2f} USD/h"
        )


def _gains(more: OneMoreNode, outcome: SharedOutcome) -> bool:
    """Return whether one more node serves another model, or the same ones for less."""
    return (more.served, -more.cost_usd_per_h) > (outcome.served, -outcome.cost_usd_per_h)


def _told(row: dict[str, Any], *, has_targets: bool) -> str:
    """Return a model's plan in words, or why it has none."""
    if "reason" in row:
        return f"not served: {row['reason']}"
    from budsim.cli.cells import CERTAIN

    chance = ">99%" if row["chance"] > CERTAIN else f"{row['chance']:.0%}"
    sure = f"meets its targets with a chance of {chance}" if has_targets else "no targets"
    return f"{row['runs']}, {row['usd_per_h']:.2f} USD/h, {sure}"
