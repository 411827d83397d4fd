"""`budsim simulate`: the best deployments of a model on a cluster."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar

import typer

from budsim.cli.files import read_clusters, writing
from budsim.cli.option_groups import with_option_groups
from budsim.cli.options import (
    AsJson,
    ClusterFile,
    LoadOptions,
    Model,
    PriceOptions,
    RequestOptions,
    SearchOptions,
    Shared,
    TargetOptions,
)
from budsim.cli.progress import progress
from budsim.cli.questions import predictor_of, prices_of, search_of, targets_of
from budsim.cli.traffic import traffic_of, with_media
from budsim.commons.errors import InvalidInput

if TYPE_CHECKING:
    from budsim.api.answers import Simulation
    from budsim.simulator.planning.knob_changes import KnobChange


WHAT_IF = "--what-if"


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputOptions:
    """What is shown of the answer, and how."""

    panel: ClassVar[str] = "Output"

    what_if: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KNOB=VALUE",
            help="Also show the best plan with this setting changed, or with several at once: "
            "tp=4,replicas=2. May be repeated.",
        ),
    ] = None
    plot: Annotated[
        bool,
        typer.Option(
            "--plot",
            help="Also draw cost against speed, what requests see, and TTFT against load.",
        ),
    ] = False
    report: Annotated[
        Path | None, typer.Option(help="HTML file to write: the plans and the same plots.")
    ] = None
    explain: Annotated[
        bool, typer.Option("--explain", help="Explain every plan, and list every rejection.")
    ] = False
    as_json: AsJson = False


@with_option_groups
def simulate(
    *,
    model: Model,
    cluster: ClusterFile,
    lengths: RequestOptions,
    load: LoadOptions,
    targets: TargetOptions,
    search: SearchOptions,
    prices: PriceOptions,
    shared: Shared = False,
    output: OutputOptions,
) -> None:
    """Find the best deployments of a model on a cluster."""
    from budsim.api import inputs
    from budsim.api.answers import Simulation
    from budsim.simulator.planning.answer import answer

    options, clusters = search_of(search, targets, shared=shared), read_clusters(cluster)
    traffic = with_media(traffic_of(lengths, load, model), lengths)
    options |= prices_of(prices)
    question = inputs.question_of(model, traffic, targets_of(targets), clusters, options)
    settings = [_settings(change) for change in output.what_if or ()]
    with progress() as tell:
        predictor = predictor_of(search)
        outcome = answer(question, predictor, progress=tell)
    found = Simulation(question=question, outcome=outcome, predictor=predictor)
    changes = [_changed(found, each) for each in settings]
    _print(found, changes, output)
    if not output.as_json:
        _print_hints(model, found)
    in_terminal = output.plot and not output.as_json
    if output.report or in_terminal:
        _draw(found, output.report, in_terminal=in_terminal)


def _print(found: Simulation, changes: list[KnobChange], output: OutputOptions) -> None:
    """Print the answer as tables or as one JSON document."""
    from budsim.api import documents
    from budsim.cli import change_tables, plan_tables, tables

    if output.as_json:
        changed = documents.changes_document(found.question, changes)
        tables.write_json(found.to_dict() | ({"what_if": changed} if changed else {}))
        return
    plan_tables.print_outcome(found.question, found.outcome, explain=output.explain)
    if changes:
        change_tables.print_changes(found.question, changes)


def _print_hints(model: str, found: Simulation) -> None:
    """Say which model a short name was taken for, and which cheaper checkpoint of it exists."""
    from budsim.cli import hints, tables
    from budsim.simulator.planning.checkpoint_offers import cheaper_checkpoint

    console = tables.console()
    hints.print_model_taken(console, model, found.question.architecture.model_id)
    offer = cheaper_checkpoint(found.question, found.outcome, found.predictor)
    if offer:
        hints.print_checkpoint(console, offer)


def _draw(found: Simulation, report: Path | None, *, in_terminal: bool) -> None:
    """Draw what requests of the best plan see, in the terminal or into a file."""
    from budsim.simulator.planning.replay_curves import replay_plan

    if found.best is None:
        return
    replayed = replay_plan(found.question, found.best, found.predictor)
    if in_terminal:
        from budsim.cli.terminal_plots import print_plots

        print_plots(found.plans, replayed)
    if report:
        from budsim.cli.plan_report import report_page

        with writing(report, "--report"):
            report.write_text(report_page(found, replayed), encoding="utf-8")
        typer.echo(f"written to {report}", err=True)


def _changed(found: Simulation, settings: dict[str, str]) -> KnobChange:
    """Return what a change does to the best plan; errors name the option, then the setting."""
    from budsim.simulator.planning.whatif import what_if

    with _naming_what_if():
        return what_if(found.question, found.outcome, found.predictor, settings)


@contextmanager
def _naming_what_if() -> Iterator[None]:
    """Let errors name the option, then the setting."""
    from budsim.simulator.planning.knob_changes import FIELD as WHAT_IF_FIELD

    try:
        yield
    except InvalidInput as error:
        told = error.problem if error.field == WHAT_IF_FIELD else f"{error.field}: {error.problem}"
        raise InvalidInput(WHAT_IF, told, error.expected) from error


def _settings(change: str) -> dict[str, str]:
    """Return names and values of ``KNOB=VALUE``, or of several joined by commas.

    What no plan can have is refused here, before one is searched.
    """
    from budsim.simulator.planning.knob_changes import check_changes

    found: dict[str, str] = {}
    for part in change.split(","):
        knob, equals, value = part.partition("=")
        if not (knob.strip() and equals and value.strip()):
            expected = "KNOB=VALUE, such as max_num_seqs=64, or several joined by commas"
            raise InvalidInput(WHAT_IF, f"{part!r} is no change", expected)
        if knob.strip() in found:
            raise InvalidInput(WHAT_IF, f"{knob.strip()} stands twice", "each setting once")
        found[knob.strip()] = value
    with _naming_what_if():
        check_changes(found)
    return found
