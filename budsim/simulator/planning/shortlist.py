"""Which deployments found on a cluster become plans, and why some devices are in none."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from budsim.commons.units import GIB
from budsim.hardware_ops.cluster import Cluster
from budsim.performance.candidates import Booleans, Integers
from budsim.performance.predictor import Predictor
from budsim.simulator.planning.chances import chance_text
from budsim.simulator.planning.choices import PRECISIONS, Choices
from budsim.simulator.planning.explanations import smallest_layout_that_fits
from budsim.simulator.planning.genome import (
    DP,
    EP,
    KV,
    OPTION,
    PP,
    REPLICAS,
    TP,
    WEIGHTS,
    SearchSpace,
)
from budsim.simulator.planning.mixed_deployments import MixedDeployments
from budsim.simulator.planning.plain_variants import PlainRows, plain_mixes, plain_rows
from budsim.simulator.planning.plans import Outcome, Plan, Rejection
from budsim.simulator.planning.question import Question
from budsim.simulator.planning.replica_groups import PredictedChoices, plan_of, predict_choices
from budsim.simulator.planning.replica_search import more_replicas, replayed_rows
from budsim.simulator.planning.taste import (
    in_order,
    with_knee,
    without_filler_pipelines,
    without_repeats,
)
from budsim.simulator.search_result import OBJECTIVES, SearchResult, first_of_each

# Genes that make a plan another plan to whoever has to choose; the other genes are knobs of the
# engine.
LAYOUT: Final = [OPTION, TP, PP, EP, DP, WEIGHTS, KV, REPLICAS]

PLANS_PER_CLUSTER: Final = 12
# Rows looked at to find so many: some of them are the same deployment once they are plain.
ROWS_PER_CLUSTER: Final = 24
# Layouts replayed beside those of the usual plans, of each part of the targets.
LAYOUTS_OF_EACH_PART: Final = 2
# Layouts replayed where none of the others meets the targets.
SPARE_LAYOUTS: Final = 6
# Parts of the targets on means that rows to be replayed keep within.
PARTS_OF_TARGETS: Final = (1.0, 0.7, 0.5, 0.35, 0.25)

SLOWEST: Final = OBJECTIVES.index("latency over target")


@dataclass(frozen=True, slots=True)
class Shortlist:
    """What was found on one cluster, and how it becomes plans and reasons."""

    cluster: Cluster
    space: SearchSpace
    found: SearchResult
    predictor: Predictor

    @property
    def question(self) -> Question:
        """The question that is answered."""
        return self.space.scoring.question

    def answer(self, mixed: MixedDeployments | None) -> Outcome:
        """Return the plans worth having, best first, and reasons for devices in no good plan.

        The plans are those of equal replicas that were found, and mixed ones. Of traffic that has
        to be replayed only deployments that carry it become plans.
        """
        shown = self._to_show()
        predicted, members = self._predicted(shown, mixed)
        plans, evaluations = _carried(predicted, members), shown.evaluations
        more = self._more_replicas(shown, predicted)
        if more:
            plans += _carried(*self._predicted(more, None))
            evaluations += more.evaluations
        plans = in_order(plans)
        reasons = [*self._too_small(), *self._misses(plans), *self._unstable(predicted, plans)]
        if self.question.needs_replay:
            plans = _best_of_each(plans)
        plans = with_knee(without_filler_pipelines(without_repeats(plans)))
        return Outcome(plans=tuple(plans), rejections=tuple(reasons), evaluations=evaluations)

    def _to_show(self) -> PlainRows:
        """Return the deployments of equal replicas to show."""
        if self.question.needs_replay:
            found = self.found.genomes[self._layouts_to_replay()]
            plain = plain_rows(self.space, found, self.predictor)
            layouts = plain.genomes[first_of_each(plain.genomes[:, LAYOUT[:-1]])]
            spare = self.found.genomes[self._spare_layouts(layouts)]
            return replayed_rows(self.space, layouts, spare, self.predictor)
        plain = plain_rows(self.space, self.found.genomes[self._rows()], self.predictor)
        # Several rows may be the same deployment once they are plain.
        return plain.rows(first_of_each(plain.genomes[:, LAYOUT]))

    def _more_replicas(self, shown: PlainRows, predicted: PredictedChoices) -> PlainRows | None:
        """Return rows with more replicas, where the search thought those shown were enough.

        It compared means of the closed form with the targets; a replay may find a miss.
        """
        if self.question.needs_replay or not self.question.targets:
            return None
        by_means = self.space.scoring.score(shown.choices, self.predictor).objectives[:, 0]
        short = np.asarray(predicted.judged.shortfall[: len(by_means)] > 0.0)
        rows = np.flatnonzero((by_means == 0.0) & short)
        if not len(rows):
            return None
        found = more_replicas(self.space, shown.genomes[rows], self.predictor)
        known = {tuple(genome) for genome in shown.genomes[:, LAYOUT].tolist()}
        new = [tuple(genome) not in known for genome in found.genomes[:, LAYOUT].tolist()]
        return found.rows(np.flatnonzero(new)) if any(new) else None

    def _predicted(
        self, shown: PlainRows, mixed: MixedDeployments | None
    ) -> tuple[PredictedChoices, list[tuple[int, ...]]]:
        """Return equal and mixed deployments, predicted, and the rows that make each of them."""
        choices, equal = shown.choices, len(shown.genomes)
        hardware = [self.space.options[option].group for option in choices.option.tolist()]
        members: list[tuple[int, ...]] = [(row,) for row in range(equal)]
        shares = np.ones(equal)
        if mixed:
            members += [tuple(equal + row for row in each) for each in mixed.members]
            unlike, of_unlike = plain_mixes(self.space, mixed, self.predictor)
            choices, hardware = choices.followed_by(unlike), [*hardware, *mixed.groups]
            shares = np.concatenate([shares, of_unlike])
        scoring = self.space.scoring
        predicted = predict_choices(
            self.cluster, scoring, choices, hardware, self.predictor, shares
        )
        return predicted, members

    def _too_small(self) -> list[Rejection]:
        """Return a rejection with figures for every device type on which the model does not fit."""
        options, option = self.space.options, self.found.genomes[:, OPTION]
        rejections = []
        for device in dict.fromkeys(each.group.device for each in options):
            mine = [at for at, each in enumerate(options) if each.group.device == device]
            # A device on which one engine fits needs no reason why another does not.
            if np.any(self.found.feasible[np.isin(option, mine)]):
                continue
            nearest = min(mine, key=lambda at: self._least_violation(option == at))
            rows = np.flatnonzero(option == nearest)
            row = int(rows[np.argmin(self.found.violation[rows])])
            rejections.append(
                Rejection(
                    cluster_id=self.cluster.cluster_id,
                    subject=options[nearest].group.label.name,
                    reason=self._why_too_small(row),
                    devices=max(options[at].group.devices for at in mine),
                )
            )
        return rejections

    def _misses(self, plans: Sequence[Plan]) -> list[Rejection]:
        """Return which targets are missed by each device type in no plan that meets them all."""
        good = {group.label.name for plan in plans if plan.meets_targets for group in plan.groups}
        best: dict[str, Plan] = {}
        for plan in plans:
            if len(plan.groups) == 1:
                best.setdefault(plan.groups[0].label.name, plan)
        return [self._missed(label, plan) for label, plan in best.items() if label not in good]

    def _unstable(self, predicted: PredictedChoices, plans: Sequence[Plan]) -> list[Rejection]:
        """Return a rejection for every device type none of whose deployments carries the rate."""
        carrying = {group.label.name for plan in plans for group in plan.groups}
        served, replicas = predicted.replayed.served, predicted.choices.replicas
        carried = np.nan_to_num(served.largest_stable_rate) * replicas
        best: dict[str, int] = {}
        for row, group in enumerate(predicted.hardware):
            if group.label.name not in carrying:
                nearest = best.setdefault(group.label.name, row)
                best[group.label.name] = row if carried[row] > carried[nearest] else nearest
        return [
            Rejection(
                cluster_id=self.cluster.cluster_id,
                subject=label,
                reason=_why_unstable(self.question, predicted.choices, row, float(carried[row])),
            )
            for label, row in best.items()
        ]

    def _missed(self, label: str, plan: Plan) -> Rejection:
        group = plan.groups[0]
        margins = group.explanation.headroom
        missed = ", ".join(self.question.targets.misses(margins))
        layout = f"{group.replicas} x {group.engine} tp={group.config.tp}, pp={group.config.pp}"
        reason = f"misses its targets: {missed}; nearest: {layout}"
        if not missed:
            reason = (
                f"meets its targets with a chance of {chance_text(group.chance)}, and "
                f"{self.question.chance:.0%} was asked for; nearest: {layout}"
            )
        return Rejection(cluster_id=self.cluster.cluster_id, subject=label, reason=reason)

    def _rows(self) -> list[int]:
        """Return the best of each device type and engine, with and without a pipeline, and more.

        The knee and the best of the front: one of each layout, about `ROWS_PER_CLUSTER`.
        """
        ranking = [row for row in self.found.ranking().tolist() if self.found.violation[row] <= 0]
        best: dict[tuple[object, str, bool], int] = {}
        # Whoever owns a device wants to see what it would do, even if it is not the best; and the
        # best without a pipeline, which pipelines of all kinds may outrank by a little.
        for row in ranking:
            option = self.space.options[int(self.found.genomes[row, OPTION])]
            is_plain = bool(self.found.genomes[row, PP] == 0)
            best.setdefault((option.group.device, option.engine.name, is_plain), row)
        kept = {self._layout(row): row for row in best.values()}
        knee, front = self.found.knee(), set(self.found.front().tolist())
        if knee is not None:
            kept.setdefault(self._layout(knee), knee)
        for row in ranking:
            if row in front and len(kept) < ROWS_PER_CLUSTER:
                kept.setdefault(self._layout(row), row)
        return list(kept.values())

    def _layouts_to_replay(self) -> list[int]:
        """Return the rows whose layouts are replayed with as many replicas as they need.

        Means do not tell percentiles, and a p99 may be several times its mean. So beside the best
        layouts those are taken that keep within ever smaller parts of the targets.
        """
        ranking = [row for row in self.found.ranking().tolist() if self.found.violation[row] <= 0]
        used = self.found.objectives[:, SLOWEST]
        kept = {self._one_replica(row): row for row in reversed(self._rows())}
        for within in PARTS_OF_TARGETS:
            taken = 0
            for row in ranking:
                layout = self._one_replica(row)
                if layout not in kept and used[row] <= within:
                    kept[layout] = row
                    taken += 1
                if taken == LAYOUTS_OF_EACH_PART:
                    break
        return list(kept.values())

    def _spare_layouts(self, layouts: Integers) -> list[int]:
        """Return rows of other layouts, those that miss least on means and then the fastest first.

        Simpler layouts were preferred to them, as good on means, and may not keep to percentiles.
        """
        found = self.found
        order = np.lexsort((found.objectives[:, SLOWEST], found.objectives[:, 0]))
        able = order[found.violation[order] <= 0]
        known = set(map(tuple, layouts[:, LAYOUT[:-1]].tolist()))
        spare: dict[tuple[int, ...], int] = {}
        for row in able.tolist():
            if (layout := self._one_replica(row)) not in known:
                spare.setdefault(layout, row)
        return list(spare.values())[:SPARE_LAYOUTS]

    def _one_replica(self, row: int) -> tuple[int, ...]:
        """Return the layout of a row's replicas, however many there are."""
        return tuple(self.found.genomes[row, LAYOUT[:-1]].tolist())

    def _layout(self, row: int) -> tuple[int, ...]:
        return tuple(self.found.genomes[row, LAYOUT].tolist())

    def _least_violation(self, rows: Booleans) -> float:
        return float(self.found.violation[rows].min()) if rows.any() else float("inf")

    def _why_too_small(self, row: int) -> str:
        """Return which memory is missing, in GiB of one device, and how many devices would do."""
        scoring, choices = self.space.scoring, self.space.decode(self.found.genomes[[row]])
        memory, _ = self.predictor.predict(scoring.candidates(choices))
        option = self.space.options[int(choices.option[0])]
        weights_in = PRECISIONS[int(choices.weights[0])]
        layout = f"tp={int(choices.tp[0])}, pp={int(choices.pp[0])}, {weights_in}"
        budget, weights = float(memory.budget_bytes[0]), float(memory.weight_bytes[0])
        # How many would do is what people ask next.
        enough = smallest_layout_that_fits(scoring, option, self.predictor)
        has = (
            f"a device has {option.group.device.memory_bytes / GIB:.1f} GiB, "
            f"of which {option.engine.name} may take {budget / GIB:.1f} GiB; "
        ) + (
            f"{enough.tp * enough.pp} would do (tp={enough.tp}, pp={enough.pp})"
            if enough
            else "no number of them would do"
        )
        if weights > budget:
            return f"weights need {weights / GIB:.1f} GiB per device at {layout}; {has}"
        others = float(memory.activation_bytes[0] + memory.reserved_bytes[0])
        cache = scoring.context_tokens * float(memory.kv_bytes_per_token[0])
        return (
            f"weights ({weights / GIB:.1f} GiB), activations and reserve ({others / GIB:.1f} GiB) "
            f"and the KV cache of one sequence of {scoring.context_tokens} tokens "
            f"({cache / GIB:.1f} GiB) do not fit at {layout}; {has}"
        )


def _why_unstable(question: Question, choices: Choices, row: int, carried: float) -> str:
    """Return in words that a row's replicas cannot carry the traffic."""
    if carried <= 0.0:
        return "the longest request does not fit the KV cache"
    layout = f"{choices.replicas[row]} x tp={choices.tp[row]}, pp={choices.pp[row]}"
    return (
        f"unstable: {question.traffic.rate:.3g} requests/s come and {layout} carries "
        f"{carried:.3g}; the queue grows without end"
    )


def _carried(predicted: PredictedChoices, members: Sequence[tuple[int, ...]]) -> list[Plan]:
    """Return the plans of deployments that carry the traffic."""
    return [
        plan_of(predicted, member)
        for member in members
        if np.isfinite(predicted.judged.shortfall[list(member)]).all()
    ]


def _best_of_each(plans: Sequence[Plan]) -> list[Plan]:
    """Return the best `PLANS_PER_CLUSTER` plans, and the best of each device type and engine."""
    best: dict[tuple[object, ...], Plan] = {}
    for plan in plans:
        parts = tuple((group.config.device, group.engine) for group in plan.groups)
        best.setdefault(parts, plan)
    shown = {id(plan) for plan in (*plans[:PLANS_PER_CLUSTER], *best.values())}
    return [plan for plan in plans if id(plan) in shown]
