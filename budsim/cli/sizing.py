"""`budsim capacity` and `budsim size`: what a cluster serves, and which devices a load needs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

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
from budsim.commons.errors import NotFound

if TYPE_CHECKING:
    from budsim.hardware_ops.device import Device

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
    from budsim.simulator.planning import sizing

    workload = workload_of(lengths.input_tokens, lengths.output_tokens, concurrency=1)
    question = posed(model, workload, targets, read_clusters(cluster), search, shared=shared)
    with progress() as report:
        found = sizing.capacities(question, predictor_of(search), progress=report)
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
    from budsim.simulator.planning import sizing

    workload = workload_of(lengths.input_tokens, lengths.output_tokens, load.concurrency)
    question = posed(model, workload, targets, (), search)
    with progress() as report:
        predictor = predictor_of(search)
        chosen = _devices(device or ())
        found = sizing.cheapest_devices(question, predictor, chosen, progress=report)
    if as_json:
        tables.write_json(documents.sized_document(question, found))
    else:
        sizing_tables.print_sized(question, found)


def _devices(names: Sequence[str]) -> list[Device]:
    """Return the devices of the catalog with these names; without names, all of them."""
    from budsim.hardware_ops.catalog import devices
    from budsim.hardware_ops.device_names import find_device

    if not names:
        return list(devices().values())
    found = {name: find_device(name) for name in names}
    for name, device in found.items():
        if device is None:
            raise NotFound("--device", name, "`budsim devices` lists them")
    return [device for device in found.values() if device]
