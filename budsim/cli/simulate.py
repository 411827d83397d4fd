"""`budsim simulate`: the best deployments of a model on a cluster."""

from __future__ import annotations

from typing import Annotated

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
from budsim.cli.questions import predictor_of, search_of, targets_of
from budsim.cli.traffic import traffic_of
from budsim.commons.errors import InvalidInput

Risk = Annotated[
    str | None,
    typer.Option(
        help="Least chance of meeting all targets a plan must have, 0 to 0.99. expected: compare "
        "the best estimates; cautious: 0.95.",
        show_default="0.8",
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
    risk: Risk = None,
    search: SearchOptions,
    shared: Shared = False,
    what_if: WhatIf = None,
    as_json: AsJson = False,
) -> None:
    """Find the best deployments of a model on a cluster."""
    from budsim.api import documents, inputs
    from budsim.cli import change_tables, plan_tables, tables
    from budsim.simulator.planning.answer import answer
    from budsim.simulator.planning.whatif import what_if as changed

    traffic = traffic_of(lengths, load)
    options = search_of(search, shared=shared, risk=risk)
    clusters = read_clusters(cluster)
    question = inputs.question_of(model, traffic, targets_of(targets), clusters, options)
    with progress() as report:
        predictor = predictor_of(search)
        outcome = answer(question, predictor, progress=report)
    changes = [changed(question, outcome, predictor, *_setting(change)) for change in what_if or ()]
    if as_json:
        more = {"what_if": documents.changes_document(question, changes)} if changes else {}
        tables.write_json(documents.outcome_document(question, outcome) | more)
        return
    plan_tables.print_outcome(question, outcome)
    if changes:
        change_tables.print_changes(question, changes)


def _setting(change: str) -> tuple[str, str]:
    """Return name and value of ``KNOB=VALUE``."""
    knob, equals, value = change.partition("=")
    if not (knob.strip() and equals and value.strip()):
        raise InvalidInput(
            "--what-if", f"{change!r} is no change", "KNOB=VALUE, such as max_num_seqs=64"
        )
    return knob, value
