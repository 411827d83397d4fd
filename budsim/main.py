"""Builds the ASGI application: settings, its parts, background loops and routes."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial

from fastapi import FastAPI

from budsim import __version__
from budsim.commons.config import Settings
from budsim.commons.dapr import GrpcSidecar, Sidecar, connect
from budsim.commons.dapr_workflow import WorkflowHub
from budsim.commons.database import Database
from budsim.commons.errors import BudsimError
from budsim.commons.hub import fetch_config
from budsim.commons.placeholder_secrets import load_settings
from budsim.commons.stored_settings import stored_settings
from budsim.commons.telemetry import configure_logging, new_metrics
from budsim.commons.tracing import tracing
from budsim.hardware_ops.price_file import read_pricing
from budsim.page.mounting import add_page
from budsim.performance.predictor import load_predictor
from budsim.simulator.background.lifecycle import (
    draining_before_stop,
    freeze_garbage_collector,
    shut_down,
    start_loops,
)
from budsim.simulator.background.worker_processes import ProcessWorkers, ThreadWorkers, Workers
from budsim.simulator.cluster_sources import (
    FileInventory,
    Inventory,
    NoInventory,
    PricedInventory,
    StateInventory,
)
from budsim.simulator.context import ServiceOptions
from budsim.simulator.http import service_routes
from budsim.simulator.http.application_state import ApplicationState, set_application_state
from budsim.simulator.http.cloud_event_schema import add_cloud_event
from budsim.simulator.http.error_envelopes import add_error_table
from budsim.simulator.http.middleware import AdmissionMiddleware
from budsim.simulator.http.server import protect_running_server
from budsim.simulator.http.startup_errors import OneLineStartupErrors
from budsim.simulator.questions import DEPLOYER, ModelSource
from budsim.simulator.routes import router
from budsim.simulator.searching import simulate
from budsim.simulator.services import Simulations
from budsim.simulator.site_costs import SiteCosts
from budsim.simulator.storage.repository import Repository

# What answers and the page need first. The last one is missing where nobody installed the page.
FIRST_NEEDED = ("budsim.simulator.planning.answer", "budsim.page.views", "jinja2")
# Threads that wait for the database; asyncio's default follows the number of cores.
DATABASE_THREADS = 16

ABOUT = (
    "What to deploy for a model, traffic and targets on given machines;"
    " how it will perform, what it will cost, how sure that is."
)


def create_app(
    settings: Settings | None = None,
    *,
    inventory: Inventory | None = None,
    workers: Workers | None = None,
    clock: Callable[[], float] = time.time,
) -> FastAPI:
    """Return the application; nothing is opened before its lifespan begins.

    Parameters
    ----------
    settings : Settings, optional
        Read from the environment when left out.
    inventory, workers : optional
        Take the place of those the settings describe.
    clock : callable
        Seconds since the epoch.
    """

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        """Build the application state, run the background loops, and close both at the end."""
        given = settings or load_settings()
        # Database calls run in threads; asyncio's default of cores + 4 would make them wait.
        threads = ThreadPoolExecutor(DATABASE_THREADS, thread_name_prefix="work")
        asyncio.get_running_loop().set_default_executor(threads)
        configure_logging(given.app.log_level)
        sidecar = connect(given.dapr, largest_bytes=given.inventory.inventory_max_bytes)
        chosen = await _with_stored_settings(given, sidecar)
        state = _assemble(chosen, sidecar, inventory, workers, clock)
        set_application_state(app, state)
        if chosen.database.migrate_at_start:
            await asyncio.to_thread(state.database.migrate_if_reachable)
        # Before the first request: the server accepts connections when the lifespan has begun.
        protect_running_server(chosen)
        loops = start_loops(state)
        freeze_garbage_collector()
        try:
            with draining_before_stop(state):
                yield
        finally:
            await shut_down(state, loops)

    app = FastAPI(
        title="budsim",
        version=__version__,
        lifespan=lifespan,
        description=ABOUT,
        strict_content_type=False,
        # Generated clients name their functions after these: `run`, not `run_simulator_run_post`.
        generate_unique_id_function=lambda route: route.name,
    )
    _add_routes(app)
    return app


def _add_routes(app: FastAPI) -> None:
    """Add routes, errors and the page, inside the middleware."""
    app.include_router(router)
    app.include_router(service_routes.router)
    add_cloud_event(app)
    add_error_table(app)
    # The middleware added last is the outermost.
    app.add_middleware(AdmissionMiddleware)
    add_page(app)
    app.add_middleware(OneLineStartupErrors)


async def _with_stored_settings(settings: Settings, sidecar: Sidecar | None) -> Settings:
    """Return the settings with the values of the sidecar's stores; without those, do not start."""
    try:
        chosen = await stored_settings(settings, sidecar)
    except BudsimError:
        if sidecar:
            await sidecar.close()
        raise
    configure_logging(chosen.app.log_level)
    return chosen


def _assemble(
    settings: Settings,
    sidecar: Sidecar | None,
    inventory: Inventory | None,
    workers: Workers | None,
    clock: Callable[[], float],
) -> ApplicationState:
    database = Database(settings.database.url, pool_size=settings.database.database_pool_size)
    metrics = new_metrics()
    spans = tracing(settings.telemetry.otel_exporter_otlp_endpoint)
    service = Simulations(
        Repository(database),
        inventory or _inventory(settings, sidecar),
        workers or _workers(settings),
        metrics,
        _options(settings),
        clock=clock,
        tracing=spans,
    )
    return ApplicationState(
        settings=settings,
        database=database,
        sidecar=sidecar,
        hub=_hub(settings, sidecar, slots=2 * service.options.workers),
        simulations=service,
        metrics=metrics,
        tracing=spans,
        synchronous=asyncio.Semaphore(settings.limits.max_synchronous_runs),
    )


def _options(settings: Settings) -> ServiceOptions:
    limits, models = settings.limits, settings.models
    return ServiceOptions(
        own_topic=settings.dapr.pubsub_topic,
        lease_s=limits.lease_s,
        plans_kept=limits.plans_kept,
        max_pending=limits.max_pending_runs,
        max_attempts=limits.max_attempts,
        workers=max(1, limits.worker_processes),
        source=ModelSource(
            registry_dir=models.model_registry_dir,
            hub=fetch_config if models.hugging_face_hub else None,
            pod_dir=models.model_registry_pod_dir,
        ),
        engines=settings.serving.engines,
        deployer=replace(DEPLOYER, max_loras=settings.serving.deployer_max_loras),
        images={
            f"{engine}/{kind}": image for (engine, kind), image in settings.serving.images.items()
        },
        event_topics=settings.dapr.event_topics,
        notify_topic=settings.dapr.notify_service_topic,
        costs=_costs(settings),
    )


def _inventory(settings: Settings, sidecar: Sidecar | None) -> Inventory:
    return PricedInventory(_inventory_source(settings, sidecar), _costs(settings).pricing)


def _costs(settings: Settings) -> SiteCosts:
    """Return how the site prices devices and power; single settings win over the price file."""
    prices = settings.prices
    pricing = read_pricing(
        basis=prices.price_basis,
        term=prices.price_term,
        provider=prices.price_provider,
        prices=prices.prices_file,
    )
    # A site that rents may still be asked what owning would cost there.
    power = {"pue": prices.pue, "usd_per_kwh": prices.usd_per_kwh}
    stated = {name: value for name, value in power.items() if value is not None}
    ownership = replace(pricing.ownership, **stated)
    return SiteCosts(
        pricing=replace(pricing, ownership=ownership), g_co2_per_kwh=prices.g_co2_per_kwh
    )


def _inventory_source(settings: Settings, sidecar: Sidecar | None) -> Inventory:
    chosen = settings.inventory
    if sidecar:
        return StateInventory(
            sidecar,
            chosen.cluster_info_state_key,
            max_bytes=chosen.inventory_max_bytes,
            ttl_s=chosen.inventory_ttl_s,
        )
    if chosen.inventory_file:
        return FileInventory(chosen.inventory_file, max_bytes=chosen.inventory_max_bytes)
    return NoInventory()


def _workers(settings: Settings) -> Workers:
    models, limits = settings.models, settings.limits
    load = partial(load_predictor, models.pretrained_models_dir, models.calibration_file)
    if limits.worker_processes:
        return ProcessWorkers(
            simulate,
            load,
            processes=limits.worker_processes,
            timeout_s=limits.simulation_timeout_s,
            modules=FIRST_NEEDED,
        )
    return ThreadWorkers(simulate, load)


def _hub(settings: Settings, sidecar: Sidecar | None, *, slots: int) -> WorkflowHub | None:
    if settings.dapr.has_workflows and isinstance(sidecar, GrpcSidecar):
        return WorkflowHub(settings.dapr, sidecar, slots=slots)
    return None


app = create_app()
