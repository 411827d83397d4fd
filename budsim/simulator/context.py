"""What admission and the steps of a run share: where things are kept, looked up, computed, counted."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from budsim.commons.tracing import Tracing
from budsim.simulator.backlog import Backlog
from budsim.simulator.questions import ModelSource, Subject
from budsim.simulator.schemas import LaunchOverrides, RunRequest
from budsim.simulator.signals import Signals

if TYPE_CHECKING:
    from budsim.commons.telemetry import Metrics
    from budsim.simulator.background.worker_processes import Workers
    from budsim.simulator.cluster_sources import Inventory
    from budsim.simulator.storage.repository import Repository


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceOptions:
    """The settings that runs and their admission need.

    Attributes
    ----------
    own_topic : str
        The topic requests arrive on; events name it so that callers can answer.
    lease_s : float
        How long a run stays with a silent holder, s.
    plans_kept : int
        Ranked plans stored for one run.
    max_pending : int
        Runs that may wait; more are refused.
    max_attempts : int
        Tries of one step when what it depends on is not there.
    workers : int
        Simulations at a time, at least 1.
    source : ModelSource
        Where models are looked up.
    engines : frozenset of str
        Engines that may be used here; empty: all.
    images : mapping
        The site's own images; see `budsim.engine_ops.shared.images.with_own_image`.
    event_topics : tuple of str
        Patterns (`fnmatch`) of topics that a request may have its events published on.
    notify_topic : str or None
        Topic of the notification service; None: nothing is sent there.
    """

    own_topic: str = "budSimMessages"
    lease_s: float = 30.0
    plans_kept: int = 50
    max_pending: int = 10_000
    max_attempts: int = 100
    workers: int = 1
    source: ModelSource = field(default_factory=ModelSource)
    engines: frozenset[str] = frozenset()
    images: Mapping[str, str] = field(default_factory=dict)
    event_topics: tuple[str, ...] = ("*",)
    notify_topic: str | None = None

    def overrides(self, model: str, method: str | None = None) -> LaunchOverrides:
        """Return what pods load in place of ``model``, how it is quantized, and from which image."""
        return LaunchOverrides(
            path=self.source.path_in_pod(model),
            method=(method or "").strip().upper(),
            images=self.images,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceContext:
    """The parts of the service that its operations use.

    ``owner`` names this process as a holder of runs; ``clock`` returns seconds since the epoch.
    """

    repository: Repository
    inventory: Inventory
    workers: Workers
    metrics: Metrics
    options: ServiceOptions
    tracing: Tracing
    signals: Signals
    backlog: Backlog
    owner: str
    clock: Callable[[], float]

    def subject(self, request: RunRequest) -> Subject:
        """Return what a request is about, on the clusters and engines of this site."""
        return Subject(request, self.inventory, self.options.source, self.options.engines)
