"""From the fields of the form to the question the search answers."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from budsim.commons.errors import InvalidInput, NotFound
from budsim.commons.units import MILLI
from budsim.hardware_ops.cluster import Cluster
from budsim.hardware_ops.pricing import Pricing, basis_named, term_named
from budsim.hardware_ops.rents import provider_named
from budsim.page.fields import Asked
from budsim.page.work import read_clusters
from budsim.performance.lengths import lengths_of_mean, prompts_and_outputs
from budsim.performance.traffic import (
    Arrivals,
    ClosedLoop,
    OpenLoop,
    PrefixShare,
    Traffic,
)
from budsim.simulator.cluster_sources import Inventory, PricedInventory
from budsim.simulator.planning.question import Question, chance_of
from budsim.simulator.planning.targets import PercentileTarget, Targets
from budsim.simulator.questions import allowed_engines, chosen_clusters, served
from budsim.simulator.services import Simulations

# The fields that bound a percentile, and their unit in seconds.
PERCENTILES = {
    "ttft_p95_ms": MILLI,
    "ttft_p99_ms": MILLI,
    "itl_p99_ms": MILLI,
    "e2e_p95_s": 1.0,
    "e2e_p99_s": 1.0,
}


async def question_of(asked: Asked, service: Simulations) -> Question:
    """Return the question a form asks.

    Raises
    ------
    InvalidInput
        A field is missing or out of range, or the uploaded file is no inventory.
    NotFound
        No such model, device, cluster or engine.
    Unavailable
        There is no inventory now.
    """
    found = await _clusters_of(asked, service)
    pricing = await asyncio.to_thread(_pricing, asked, service.inventory)
    clusters = await asyncio.to_thread(pricing.priced_clusters, found)
    return await asyncio.to_thread(_question, asked, clusters, service)


def _question(asked: Asked, clusters: tuple[Cluster, ...], service: Simulations) -> Question:
    options = service.options
    targets = targets_of(asked)
    architecture = options.source.find(asked.model)
    architecture, traffic = served(architecture, traffic_of(asked), targets)
    return Question(
        architecture=architecture,
        traffic=traffic,
        targets=targets,
        clusters=clusters,
        engines=allowed_engines([asked.engine] if asked.engine else None, options.engines),
        may_quantize=asked.quantize,
        chance=chance_of(asked.risk),
    )


def traffic_of(asked: Asked) -> Traffic:
    """Return what clients send.

    Raises
    ------
    InvalidInput
        The load is missing, or a law is none.
    """
    prompts, outputs = prompts_and_outputs(asked.lengths or "fixed")
    return Traffic(
        arrivals=_arrivals(asked),
        prompt=lengths_of_mean(prompts, asked.input_tokens),
        output=lengths_of_mean(outputs, asked.output_tokens),
        prefix=PrefixShare(share=asked.prefix_hits or 0.0),
    )


def targets_of(asked: Asked) -> Targets:
    """Return the targets in seconds and tokens per second; blank and 0 set none."""
    limits_s = {name: (getattr(asked, name) or 0.0) * unit for name, unit in PERCENTILES.items()}
    return Targets(
        ttft_s=(asked.ttft_ms or 0.0) * MILLI or None,
        tokens_per_s_per_user=asked.tokens_per_s_per_user or None,
        e2e_s=asked.e2e_s or None,
        percentiles=tuple(
            PercentileTarget.named(f"{name.rpartition('_')[0]}_s", limit_s)
            for name, limit_s in limits_s.items()
            if limit_s
        ),
        goodput=asked.goodput or None,
    )


def _arrivals(asked: Asked) -> Arrivals:
    if asked.load == "rate":
        if asked.rate is None:
            raise InvalidInput("rate", "is missing", "requests per second")
        return OpenLoop.named(asked.arrival, asked.rate)
    if asked.concurrency is None:
        raise InvalidInput("concurrency", "is missing", "requests in flight")
    return ClosedLoop(concurrency=asked.concurrency)


def _pricing(asked: Asked, inventory: Inventory) -> Pricing:
    """Return how devices are priced: as the service does, except for what the form says."""
    known = inventory.pricing if isinstance(inventory, PricedInventory) else Pricing()
    return replace(
        known,
        basis=basis_named(asked.basis) if asked.basis else known.basis,
        term=term_named(asked.term) if asked.term else known.term,
        provider=provider_named(asked.provider) if asked.provider else known.provider,
    )


async def _clusters_of(asked: Asked, service: Simulations) -> tuple[Cluster, ...]:
    if asked.source == "inventory":
        inventory = service.inventory
        # Without the prices of the service: the form may ask for others.
        source = inventory.source if isinstance(inventory, PricedInventory) else inventory
        return chosen_clusters(await source.clusters(), asked.cluster_id or None)
    if asked.source == "upload":
        if asked.upload is None:
            raise InvalidInput("upload", "is missing", "an inventory in JSON or the short YAML")
        # A large file takes seconds to parse, in which the service would answer nobody.
        return await service.workers.compute(read_clusters, asked.upload, None)
    return await asyncio.to_thread(_named_devices, asked)


def _named_devices(asked: Asked) -> tuple[Cluster, ...]:
    """Return a cluster of equal nodes with the device that was chosen."""
    from budsim.hardware_ops.cluster_file import clusters_in
    from budsim.hardware_ops.device import DeviceKind
    from budsim.hardware_ops.device_names import find_device

    device = find_device(asked.device) if asked.device else None
    if device is None:
        raise NotFound("device", asked.device, "choose one of the list")
    count = "sockets" if device.kind is DeviceKind.CPU else "count"
    node = {
        "name": "node",
        "count": asked.nodes or 1,
        "devices": [{"device": device.name, count: asked.devices_per_node or 1}],
    }
    return clusters_in({"clusters": [{"name": device.name, "nodes": [node]}]})
