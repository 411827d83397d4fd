"""`budsim day`: how many replicas each hour of a day needs, and what that costs."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar

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
from budsim.cli.traffic import at_any_rate_of, traffic_of

if TYPE_CHECKING:
    from budsim.performance.traffic import Traffic

# Longest file of hourly rates, characters: 24 numbers are far shorter.
MOST_CHARACTERS = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class DayOptions:
    """When requests come in the course of a day."""

    panel: ClassVar[str] = "Traffic"

    hourly: Annotated[
        str | None,
        typer.Option(
            metavar="RATES",
            help="Requests per second of each hour, 1 to 24 numbers from midnight: 2,2,1,5,... or "
            "a file of them.",
        ),
    ] = None
    arrival: Annotated[
        str,
        typer.Option(
            metavar="PROCESS",
            help="How the gaps between requests of an hour vary: constant, poisson, gamma:CV or "
            "burst:SIZE.",
        ),
    ] = "poisson"
    trace: Annotated[
        Path | None,
        typer.Option(help="Recorded requests instead of rates, cut into hours from the first one."),
    ] = None
    lead_time_s: Annotated[
        float | None,
        typer.Option(
            help="Seconds from asking for a replica until it serves, at most 3600.",
            show_default="weights at 1 GiB/s, and 120 s",
        ),
    ] = None


@with_option_groups
def day(
    *,
    model: Model,
    cluster: ClusterFile,
    lengths: LengthOptions,
    load: DayOptions,
    targets: TargetOptions,
    search: SearchOptions,
    shared: Shared = False,
    plot: Annotated[bool, typer.Option("--plot", help="Also draw load and replicas.")] = False,
    as_json: AsJson = False,
) -> None:
    """Find how many replicas each hour of a day needs within the targets, and what that costs."""
    from budsim.api import inputs
    from budsim.api.daily import DailyReplicas
    from budsim.cli import day_tables, tables
    from budsim.simulator.planning.daily_replicas import hours_of, replicas_over_a_day

    traffic, rates = _traffic_and_rates(lengths, load, model)
    hours = hours_of(traffic, rates)
    busiest = max(hours, key=lambda hour: hour.rate)
    options, clusters = search_of(search, targets, shared=shared), read_clusters(cluster)
    question = inputs.question_of(model, busiest, targets_of(targets), clusters, options)
    with progress() as report:
        found = replicas_over_a_day(
            question, hours, predictor_of(search), lead_time_s=load.lead_time_s, progress=report
        )
    if as_json:
        tables.write_json(DailyReplicas(question=question, found=found).to_dict())
        return
    day_tables.print_day(question, found)
    if plot and found.day:
        from budsim.cli.terminal_plots import print_day_plot

        print_day_plot(found.day)


def _traffic_and_rates(
    lengths: LengthOptions, load: DayOptions, model: str
) -> tuple[Traffic, list[float] | None]:
    """Return a trace, or requests at any rate and the rates of the hours."""
    if (load.hourly is None) == (load.trace is None):
        problem = "give one of both" if load.trace else "one of them is needed"
        raise typer.BadParameter(f"{problem}.", param_hint="'--hourly' / '--trace'")
    if load.hourly is None:
        return traffic_of(lengths, LoadOptions(trace=load.trace), model), None
    return at_any_rate_of(lengths, load.arrival), _rates(load.hourly)


def _rates(text: str) -> list[float]:
    """Return the numbers of a list, or of the file it names."""
    path = Path(text)
    if len(text) < 256 and path.is_file():
        text = path.read_text(encoding="utf-8", errors="replace")[:MOST_CHARACTERS]
    found = []
    for word in re.split(r"\s*[,;]\s*|\s+", text.strip()):
        try:
            found.append(float(word))
        except ValueError:
            raise typer.BadParameter(
                f"{word[:60]!r} is neither a number nor a file; requests/s of each hour are "
                "needed, such as 2,2,1,5.",
                param_hint="'--hourly'",
            ) from None
    return found
