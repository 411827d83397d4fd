"""From the fields of the form to the question the search answers."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, fields, replace

from budsim.commons.errors import InvalidInput, NotFound
from budsim.commons.units import GIB, MILLI
from budsim.engine_ops.kv_store import kv_store_of
from budsim.engine_ops.limits import DEFAULT_MAX_LORA_RANK
from budsim.hardware_ops.cluster import Cluster
from budsim.hardware_ops.cluster_file import clusters_in
from budsim.hardware_ops.device import DeviceKind, PriceBasis
from budsim.hardware_ops.device_names import find_device
from budsim.hardware_ops.power import PowerSite
from budsim.hardware_ops.price_file import PriceFile, refuse_idle_options
from budsim.hardware_ops.pricing import Pricing, basis_named, term_named
from budsim.hardware_ops.rents import provider_named
from budsim.model_ops.architecture import Architecture
from budsim.model_ops.media import Media
from budsim.page.fields import Asked
from budsim.page.work import read_clusters, read_uploaded_prices, read_uploaded_trace
from budsim.performance.asked_speculation import AskedSpeculation
from budsim.performance.lengths import lengths_of_mean, prompts_and_outputs, prompts_up_to
from budsim.performance.prefixes import prefix_of
from budsim.performance.traffic import Arrivals, ClosedLoop, OpenLoop, Traffic
from budsim.simulator.cluster_sources import PricedInventory
from budsim.simulator.context import ServiceOptions
from budsim.simulator.planning.question import Question, chance_of, disaggregation_of
from budsim.simulator.planning.targets import PercentileTarget, Targets
from budsim.simulator.questions import allowed_engines, chosen_clusters, served
from budsim.simulator.services import Simulations
from budsim.simulator.site_costs import AskedCosts, SiteCosts

# The fields that bound a percentile, and their unit in seconds.
PERCENTILES = {
    "ttft_p95_ms": MILLI,
    "ttft_p99_ms": MILLI,
    "itl_p99_ms": MILLI,
    "e2e_p95_s": 1.0,
    "e2e_p99_s": 1.0,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class PosedQuestion:
    """The question a form asks, and which rows of its trace are left out, in words."""

    question: Question
    note: str = ""


async def question_of(asked: Asked, service: Simulations) -> Question:
    """Return the question a form asks; errors as those of `posed_question`."""
    return (await posed_question(asked, service)).question


async def posed_question(asked: Asked, service: Simulations) -> PosedQuestion:
    """Return the question a form asks, with what there is to say about its trace.

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
    architecture = await asyncio.to_thread(service.options.source.find, asked.model)
    traffic, note = await _traffic_of(asked, architecture, service)
    own = await _own_prices(asked, service)
    costs = await asyncio.to_thread(_costs, asked, service, own)
    clusters = await asyncio.to_thread(costs.pricing.priced_clusters, found)
    question = await asyncio.to_thread(
        _question, asked, architecture, traffic, clusters, costs.power_site, service.options
    )
    return PosedQuestion(question=question, note=note)


def _question(
    asked: Asked,
    architecture: Architecture,
    traffic: Traffic,
    clusters: tuple[Cluster, ...],
    power_site: PowerSite,
    options: ServiceOptions,
) -> Question:
    targets = targets_of(asked)
    architecture, traffic = served(architecture, traffic, targets)
    names = [each.name for each in fields(AskedSpeculation)]
    guesses = AskedSpeculation(**{name: getattr(asked, name) for name in names})
    return Question(
        architecture=architecture,
        traffic=traffic,
        targets=targets,
        clusters=clusters,
        power_site=power_site,
        engines=allowed_engines([asked.engine] if asked.engine else None, options.engines),
        may_quantize=asked.quantize,
        disaggregation=disaggregation_of(asked.disaggregated),
        chance=chance_of(asked.risk),
        max_loras=asked.max_loras or 0,
        max_lora_rank=asked.max_lora_rank or DEFAULT_MAX_LORA_RANK,
        kv_offload_bytes=(asked.kv_offload_gib or 0.0) * GIB,
        kv_store=kv_store_of(asked.kv_store_gib, asked.kv_store, asked.kv_store_gb_per_s),
        speculations=guesses.ways(architecture, options.source.find),
    )


async def _traffic_of(
    asked: Asked, architecture: Architecture, service: Simulations
) -> tuple[Traffic, str]:
    """Return what clients send: as the fields say, or as an uploaded trace recorded it."""
    if asked.load != "trace":
        return traffic_of(asked), ""
    if asked.trace is None:
        raise InvalidInput("trace", "is missing", "recorded requests in CSV or JSON lines")
    # A large file takes seconds to parse, in which the service would answer nobody.
    longest = architecture.max_context_tokens
    traffic, note = await service.workers.compute(read_uploaded_trace, asked.trace, longest)
    return replace(traffic, media=media_of(asked)), note


def traffic_of(asked: Asked) -> Traffic:
    """Return what clients send, by the fields of the form.

    Raises
    ------
    InvalidInput
        The load or a length is missing, or a law is none.
    """
    prompts, outputs = prompts_and_outputs(asked.lengths or "fixed")
    return Traffic(
        arrivals=_arrivals(asked),
        prompt=prompts_up_to(prompts, _tokens(asked, "input_tokens"), asked.max_input_tokens),
        output=lengths_of_mean(outputs, _tokens(asked, "output_tokens")),
        prefix=prefix_of(
            asked.prefix_hits or 0.0,
            asked.prefix_set_tokens,
            by_prefix=asked.route_by_prefix,
            turns=asked.turns,
            interval_s=asked.turn_interval_s,
        ),
        media=media_of(asked),
    )


def media_of(asked: Asked) -> Media:
    """Return the images, video and audio of each request; errors name their fields."""
    return Media.named(
        images=asked.images_per_request or 0,
        size=asked.image_size or "",
        video_frames=asked.video_frames or 0,
        audio_s=asked.audio_seconds or 0.0,
    )


def _tokens(asked: Asked, name: str) -> int:
    found: int | None = getattr(asked, name)
    if found is None:
        raise InvalidInput(name, "is missing", "a mean number of tokens")
    return found


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


async def _own_prices(asked: Asked, service: Simulations) -> PriceFile:
    """Return the prices of the uploaded file; none without one."""
    if asked.prices is None:
        return PriceFile(prices={})
    return await service.workers.compute(read_uploaded_prices, asked.prices, None)


def _costs(asked: Asked, service: Simulations, own: PriceFile) -> SiteCosts:
    """Return how devices and power are priced: as at the site, except for what the form says.

    Prices and assumptions of the uploaded file win over those of the site, single fields over both.
    """
    inventory = service.inventory
    known = inventory.pricing if isinstance(inventory, PricedInventory) else Pricing()
    basis = basis_named(asked.basis) if asked.basis else known.basis
    refuse_idle_options(basis is PriceBasis.OWN, asked.term, asked.provider, {})
    term = term_named(asked.term) if asked.term else known.term
    pricing = replace(
        known,
        basis=basis,
        term=term,
        provider=provider_named(asked.provider, term) if asked.provider else known.provider,
        given={**known.given, **own.prices},
        ownership=replace(known.ownership, **own.ownership),
    )
    grid = service.options.costs.g_co2_per_kwh
    wish = AskedCosts(
        pue=asked.pue, usd_per_kwh=asked.usd_per_kwh, g_co2_per_kwh=asked.g_co2_per_kwh
    )
    return SiteCosts(pricing=pricing, g_co2_per_kwh=grid).asked(wish)


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
