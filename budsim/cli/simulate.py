"""`budsim simulate`: the best deployments of a model on a cluster."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

import typer

from budsim.cli.files import read_clusters
from budsim.cli.option_groups import with_option_groups
from budsim.cli.options import (
    AsJson,
    ClusterFile,
    LengthOptions,
    LoadOptions,
    Model,
    SearchOptions,
    Shared,
    TargetOptions,
)
from budsim.cli.progress import progress
from budsim.cli.questions import posed, predictor_of, workload_of
from budsim.commons.errors import InvalidInput

if TYPE_CHECKING:
    from budsim.performance.predictor import Predictor
    from budsim.simulator.planning.plans import Outcome
    from budsim.simulator.planning.question import Question
    from budsim.simulator.planning.whatif import KnobChange

Risk = Annotated[
    Literal["expected", "cautious"],
    typer.Option(
        help="Compare targets with the expected values, or with the worse end of their 90 % "
        "ranges.",
        rich_help_panel="Targets",
    ),
]
WhatIf = Annotated[
    list[str] | None,
    typer.Option(
        metavar="KNOB=VALUE",
        help="Also show the best plan with this setting changed. May be repeated.",
    ),
]


@with_option_groups
def simulate(
    *,
    model: Model,
    cluster: ClusterFile,
    lengths: LengthOptions,
    load: LoadOptions,
    targets: TargetOptions,
    risk: Risk = "expected",
    search: SearchOptions,
    shared: Shared = False,
    what_if: WhatIf = None,
    as_json: AsJson = False,
) -> None:
    """Find the best deployments of a model on a cluster."""
    from budsim.cli import change_tables, documents, plan_tables, tables
    from budsim.simulator import searching

    workload = workload_of(lengths.input_tokens, lengths.output_tokens, load.concurrency)
    question = posed(
        model, workload, targets, read_clusters(cluster), search, shared=shared, risk=risk
    )
    with progress() as report:
        predictor = predictor_of(search)
        outcome = searching.simulate(question, predictor, progress=report)
    changes = [_changed(question, outcome, predictor, change) for change in what_if or ()]
    if as_json:
        more = {"what_if": documents.changes_document(question, changes)} if changes else {}
        tables.write_json(documents.outcome_document(question, outcome) | more)
        return
    plan_tables.print_outcome(question, outcome)
    if changes:
        change_tables.print_changes(question, changes)


def _changed(question: Question, outcome: Outcome, predictor: Predictor, change: str) -> KnobChange:
    from budsim.simulator.planning.whatif import what_if

    knob, equals, value = change.partition("=")
    if not (knob.strip() and equals and value.strip()):
        raise InvalidInput(
            "--what-if", f"{change!r} is no change of a knob", "KNOB=VALUE, such as max_num_seqs=64"
        )
    return what_if(question, outcome, predictor, knob, value)
