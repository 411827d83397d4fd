"""From a question to its answer.

Search every cluster, and turn what was found into plans and reasons.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from types import MappingProxyType

from budsim.commons.units import GIGA
from budsim.engine_ops.kv_store import store_text
from budsim.hardware_ops.cluster import Cluster
from budsim.performance.predictor import AnalyticPredictor, Predictor
from budsim.simulator.evolution import Progress
from budsim.simulator.planning.carried import as_closed_loop
from budsim.simulator.planning.carried_replayed import loads_replayed
from budsim.simulator.planning.choices import ServingOption
from budsim.simulator.planning.genome import SearchSpace
from budsim.simulator.planning.guessing import LEAST_GAIN
from budsim.simulator.planning.hardware_groups import usable
from budsim.simulator.planning.mixed_deployments import find_mixed_deployments
from budsim.simulator.planning.partitions import (
    KnownResults,
    PartitionResult,
    merge_results,
    partition_names,
    search_partitions,
)
from budsim.simulator.planning.plans import Outcome, Plan, Rejection
from budsim.simulator.planning.pool_plans import (
    PoolSearch,
    with_better_pools,
    with_racks,
    without_adapters,
)
from budsim.simulator.planning.question import Disaggregation, Question
from budsim.simulator.planning.serving_options import serving_options
from budsim.simulator.planning.shortlist import Shortlist
from budsim.simulator.planning.taste import in_order, with_knee


def answer(
    question: Question,
    predictor: Predictor,
    *,
    known: KnownResults = MappingProxyType({}),
    progress: Progress = lambda _: None,
) -> Outcome:
    """Return the deployments worth having, best first, and a reason for everything else.

    Plans that meet every target come first, cheapest first; then the others by how much they miss.
    There are several for each cluster: the best of the Pareto front and the best of every device
    type. Partitions whose results are ``known`` (see `search_partition`) are not searched again.
    Pure: same question and predictor, same answer, whoever searched the partitions.
    """
    # One predictor for all clusters: the regressors are loaded once.
    judge = _predictor_for(question, predictor)
    plans: list[Plan] = []
    rejections: list[Rejection] = []
    evaluations = 0
    for number, cluster in enumerate(question.clusters):

        def share(done: float, number: int = number) -> None:
            """Report the progress over all clusters."""
            progress((number + done) / len(question.clusters))

        found = _answer_cluster(_cluster_search(question, cluster), judge, known, share)
        plans += found.plans
        rejections += found.rejections
        evaluations += found.evaluations
        share(1.0)
    if not question.clusters:
        nothing = Rejection(cluster_id="", subject="inventory", reason="it has no clusters")
        rejections.append(nothing)
    return Outcome(
        plans=tuple(in_order(plans)), rejections=tuple(rejections), evaluations=evaluations
    )


def partitions_of(question: Question) -> tuple[str, ...]:
    """Return the names of what can be searched by itself.

    Every engine on every group of equal devices of every cluster.
    """
    searches = [_cluster_search(question, cluster) for cluster in question.clusters]
    return tuple(name for search in searches for name in search.partitions)


def search_partition(question: Question, predictor: Predictor, name: str) -> PartitionResult | None:
    """Return what the search of one partition finds; None where it does not exist (any more)."""
    for cluster in question.for_partition(name).clusters:
        search = _cluster_search(question, cluster)
        if name in search.partitions:
            return search.run(_predictor_for(question, predictor), [name])[name]
    return None


def carried_loads(question: Question, predictor: Predictor) -> list[int]:
    """Return loads that the only cluster of a question carries, the largest first; none: empty.

    The next one is surer. No plan is made: each way to run a replica is put under load. The
    question's own load does not matter; see `carried.under` for how loads are counted.
    """
    judge = _predictor_for(question, predictor)
    search = _cluster_search(as_closed_loop(question), *question.clusters)
    if not search.options:
        return []
    return loads_replayed(question, search.space, judge)


def _predictor_for(question: Question, predictor: Predictor) -> Predictor:
    return AnalyticPredictor() if question.analytic_only else predictor


@dataclass(frozen=True, kw_only=True)
class _ClusterSearch:
    """A cluster with what may be chosen there, and reasons for the devices where nothing may."""

    question: Question
    cluster: Cluster
    options: tuple[ServingOption, ...]
    rejections: tuple[Rejection, ...]

    @cached_property
    def space(self) -> SearchSpace:
        """Everything that may be chosen."""
        return SearchSpace(self.options, self.question)

    @cached_property
    def partitions(self) -> list[str]:
        """Names of what can be searched by itself."""
        if not self.options or self.question.disaggregation is Disaggregation.ONLY:
            return []
        return partition_names(self.cluster.cluster_id, self.space)

    def run(
        self, predictor: Predictor, names: Sequence[str], progress: Progress = lambda _: None
    ) -> dict[str, PartitionResult]:
        """Return what the searches of some partitions find."""
        if not names:
            return {}
        return search_partitions(
            self.cluster.cluster_id, self.space, predictor, names, progress=progress
        )


def _cluster_search(question: Question, cluster: Cluster) -> _ClusterSearch:
    hardware = usable(cluster, question.mode, skip_master_cpus=question.skip_master_cpus)
    options, refused = serving_options(question, cluster, hardware.groups)
    rejections = (*hardware.rejections, *refused)
    return _ClusterSearch(
        question=question, cluster=cluster, options=tuple(options), rejections=rejections
    )


def _answer_cluster(
    search: _ClusterSearch, predictor: Predictor, known: KnownResults, progress: Progress
) -> Outcome:
    question, cluster, rejections = search.question, search.cluster, list(search.rejections)
    if not search.options:
        if not rejections:
            reason = "it has no devices"
            rejections = [
                Rejection(cluster_id=cluster.cluster_id, subject=cluster.name, reason=reason)
            ]
        return Outcome(plans=(), rejections=tuple(rejections), evaluations=0)
    plain = _plain_outcome(search, predictor, known, progress)
    reasons = (*rejections, *plain.rejections, *_unused_guesses(search, plain.plans))
    if question.disaggregation is Disaggregation.OFF:
        return replace(plain, rejections=(*reasons, *_unused_store(search, plain.plans)))
    options = with_racks(without_adapters(question, search.options))
    found = PoolSearch(question=question, cluster=cluster, options=options).answer()
    both = with_better_pools(question, plain.plans, found)
    return Outcome(
        plans=tuple(with_knee(both.plans)),
        rejections=(*reasons, *_unused_store(search, both.plans), *both.rejections),
        evaluations=plain.evaluations + both.evaluations,
    )


def _unused_guesses(search: _ClusterSearch, plans: Sequence[Plan]) -> list[Rejection]:
    """Return the reason why plans do not guess tokens ahead, where that was asked for."""
    ways, groups = search.question.speculations, [group for each in plans for group in each.groups]
    if not ways or not groups or any(group.speculation for group in groups):
        return []
    gain = f"{round(100 * (1.0 - LEAST_GAIN))} %"
    lengths = ", ".join(str(each.draft_tokens) for each in ways)
    reason = (
        f"guessing {lengths} tokens a step ends no request {gain} sooner within the targets, or "
        "engines do not guess on these devices: plans go without"
    )
    cluster = search.cluster.cluster_id
    return [Rejection(cluster_id=cluster, subject=ways[0].method.value, reason=reason)]


def _unused_store(search: _ClusterSearch, plans: Sequence[Plan]) -> list[Rejection]:
    """Return the reason why plans read no shared store, where they could."""
    groups = [group for each in plans for group in each.groups]
    linked = [option.store for option in search.options if option.store]
    if not groups or not linked or any(group.config.kv_store for group in groups):
        return []
    if not search.question.traffic.prefix_set_tokens():
        return []  # told already: it changes nothing
    reason = (
        f"reading it ({linked[0].device_bytes_per_s / GIGA:.1f} GB/s a device at most) ends no "
        "request sooner than computing again: plans go without"
    )
    cluster = search.cluster.cluster_id
    return [Rejection(cluster_id=cluster, subject=store_text(linked[0].store), reason=reason)]


def _plain_outcome(
    search: _ClusterSearch, predictor: Predictor, known: KnownResults, progress: Progress
) -> Outcome:
    """Return plans whose replicas serve whole requests; none where nothing of them is asked."""
    names = search.partitions
    if not names:
        return Outcome(plans=(), rejections=(), evaluations=0)
    space = search.space
    # A workflow hands in what its activities found; a plain call finds all of it here.
    missing = [name for name in names if name not in known]
    results = {**known, **search.run(predictor, missing, progress)}
    found, evaluations = merge_results(space, predictor, [results[name] for name in names])
    # Mixes are made of what the search kept, so that they cost few further predictions.
    mixed = find_mixed_deployments(search.question, space, found, predictor)
    shown = Shortlist(search.cluster, space, found, predictor).answer(mixed)
    evaluations += shown.evaluations + (mixed.evaluations if mixed else 0)
    return Outcome(plans=shown.plans, rejections=shown.rejections, evaluations=evaluations)
