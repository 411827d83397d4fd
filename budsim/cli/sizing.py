"""`budsim capacity` and `budsim size`: what a cluster serves, and which devices a load needs."""

from __future__ import annotations

from typing import Annotated

import typer

from budsim.cli.files import read_clusters
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
from budsim.cli.traffic import at_any_rate_of, closed_loop_of, traffic_of, with_media

Arrival = Annotated[
    str | None,
    typer.Option(
        metavar="PROCESS",
        help="Find the largest rate of requests that come by this process (constant, poisson, "
        "gamma:CV, burst:SIZE) instead of the most in flight.",
        rich_help_panel="Traffic",
    ),
]
Devices = Annotated[
    list[str] | None,
    typer.Option(
        help="Try this device only. May be repeated. Default: data centre and workstation boards "
        "that can be rented (--basis own: bought) today."
    ),
]
Include = Annotated[
    list[str] | None,
    typer.Option(help="Offer these boards too: desktop, embedded, china. May be repeated."),
]
Explain = Annotated[
    bool, typer.Option("--explain", help="Name every device that is not in the answer.")
]


@with_option_groups
def capacity(
    *,
    model: Model,
    cluster: ClusterFile,
    lengths: RequestOptions,
    arrival: Arrival = None,
    targets: TargetOptions,
    search: SearchOptions,
    prices: PriceOptions,
    shared: Shared = False,
    as_json: AsJson = False,
) -> None:
    """Find how many requests each cluster serves within the targets.

    In flight (to 1 %) with the requests/s they make, or with --arrival the largest rate (to 2 %).
    """
    from budsim.api import documents, inputs
    from budsim.cli import sizing_tables, tables
    from budsim.simulator.planning.sizing import capacities

    traffic = at_any_rate_of(lengths, arrival) if arrival else closed_loop_of(lengths, 1)
    traffic = with_media(traffic, lengths)
    options, clusters = search_of(search, targets, shared=shared), read_clusters(cluster)
    options |= prices_of(prices)
    question = inputs.question_of(model, traffic, targets_of(targets), clusters, options)
    with progress() as report:
        found = capacities(question, predictor_of(search), progress=report)
    if as_json:
        tables.write_json(documents.capacity_document(question, found))
    else:
        sizing_tables.print_capacities(question, found)


@with_option_groups
def size(
    *,
    model: Model,
    lengths: RequestOptions,
    load: LoadOptions,
    targets: TargetOptions,
    search: SearchOptions,
    prices: PriceOptions,
    device: Devices = None,
    include: Include = None,
    explain: Explain = False,
    as_json: AsJson = False,
) -> None:
    """Find the cheapest devices for a load, as if any number could be had."""
    from budsim.api import documents, inputs
    from budsim.cli import sizing_tables, tables
    from budsim.simulator.planning.device_sets import cheapest_devices

    traffic = with_media(traffic_of(lengths, load, model), lengths)
    options = search_of(search, targets) | prices_of(prices)
    question = inputs.question_of(model, traffic, targets_of(targets), (), options)
    devices = inputs.offer_of(device or (), include or (), options)
    with progress() as report:
        found = cheapest_devices(question, predictor_of(search), devices, progress=report)
    if as_json:
        tables.write_json(documents.sized_document(question, found))
    else:
        sizing_tables.print_sized(question, found, explain=explain)
