"""`budsim capacity` and `budsim size`: what a cluster serves, and which devices a load needs."""

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
from budsim.cli.questions import posed, predictor_of, wishes_of, workload_of

Devices = Annotated[
    list[str] | None,
    typer.Option(help="Try this device only. May be repeated. Default: the whole catalog."),
]


@with_option_groups
def capacity(
    *,
    model: Model,
    cluster: ClusterFile,
    lengths: LengthOptions,
    targets: TargetOptions,
    search: SearchOptions,
    shared: Shared = False,
    as_json: AsJson = False,
) -> None:
    """Find how many requests in flight each cluster serves within the targets, to 1 %."""
    from budsim.cli import documents, sizing_tables, tables
    from budsim.simulator import services

    workload = workload_of(lengths.input_tokens, lengths.output_tokens, concurrency=1)
    wishes = wishes_of(search, shared=shared)
    question = posed(model, workload, targets, read_clusters(cluster), wishes)
    with progress() as report:
        found = services.capacities(question, predictor_of(search), progress=report)
    if as_json:
        tables.write_json(documents.capacity_document(question, found))
    else:
        sizing_tables.print_capacities(question, found)


@with_option_groups
def size(
    *,
    model: Model,
    lengths: LengthOptions,
    load: LoadOptions,
    targets: TargetOptions,
    search: SearchOptions,
    device: Devices = None,
    as_json: AsJson = False,
) -> None:
    """Find the cheapest devices of the catalog for a load, as if any number could be had."""
    from budsim.cli import documents, sizing_tables, tables
    from budsim.simulator import services

    workload = workload_of(lengths.input_tokens, lengths.output_tokens, load.concurrency)
    question = posed(model, workload, targets, (), wishes_of(search))
    with progress() as report:
        predictor = predictor_of(search)
        found = services.cheapest_devices(question, predictor, device or (), progress=report)
    if as_json:
        tables.write_json(documents.sized_document(question, found))
    else:
        sizing_tables.print_sized(question, found)
