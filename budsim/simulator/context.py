"""Parts and options that admission and the steps of a run share."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from budsim.commons.errors import InvalidInput
from budsim.commons.tracing import Tracing
from budsim.simulator.backlog import Backlog
from budsim.simulator.events import Announcer
from budsim.simulator.planning.question import FixedKnobs
from budsim.simulator.questions import DEPLOYER, ModelSource, Subject
from budsim.simulator.schemas import LaunchOverrides, RunRequest
from budsim.simulator.signals import Signals
from budsim.simulator.site_costs import SiteCosts

if TYPE_CHECKING:
    from budsim.commons.telemetry import Metrics
    from budsim.simulator.background.worker_processes import Workers
    from budsim.simulator.cluster_sources import Inventory
    from budsim.simulator.storage.records import Run
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
    deployer : FixedKnobs
        What the deployer passes to engines in place of a plan's own values.
    images : mapping
        The site's own images; see `budsim.engine_ops.shared.images.with_own_image`.
    event_topics : tuple of str
        Patterns (`fnmatch`) of topics that a request may have its events published on.
    notify_topic : str or None
        Topic of the notification service; None: nothing is sent there.
    costs : SiteCosts
        How this site prices devices and power.
    """

    own_topic: str = "budSimMessages"
    lease_s: float = 30.0
    plans_kept: int = 50
    max_pending: int = 10_000
    max_attempts: int = 100
    workers: int = 1
    source: ModelSource = field(default_factory=ModelSource)
    engines: frozenset[str] = frozenset()
    deployer: FixedKnobs = DEPLOYER
    images: Mapping[str, str] = field(default_factory=dict)
    event_topics: tuple[str, ...] = ("*Messages",)
    notify_topic: str | None = None
    costs: SiteCosts = field(default_factory=SiteCosts)

    def check_topics(self, topics: Iterable[str]) -> None:
        """Refuse topics that events may not be published on.

        Any other topic could be somebody else's, or none at all: events would be refused for ever.

        Raises
        ------
        InvalidInput
            A topic that no pattern of `event_topics` allows.
        """
        always = {self.own_topic, self.notify_topic}
        for topic in topics:
            if topic in always or any(fnmatchcase(topic, each) for each in self.event_topics):
                continue
            allowed = ", ".join([*self.event_topics, self.own_topic])
            raise InvalidInput("source_topic", f"{topic!r} is not allowed", f"one of {allowed}")

    def overrides(self, model: str, method: str | None = None) -> LaunchOverrides:
        """Return the path pods load ``model`` from, its quantization, and the site's images."""
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
        options = self.options
        return Subject(
            request,
            self.inventory,
            options.source,
            options.engines,
            proxy_image=options.images.get("litellm/any"),
            deployer=options.deployer,
            costs=options.costs,
        )

    def announcer(self, run: Run, request: RunRequest) -> Announcer:
        """Return what makes the events of a run, told at this moment."""
        return Announcer(
            run,
            request,
            own_topic=self.options.own_topic,
            notify_topic=self.options.notify_topic,
            now_s=self.clock(),
        )
