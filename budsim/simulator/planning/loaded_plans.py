"""Plans of whole replicas under other loads than the one they were made for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import reduce

import numpy as np

from budsim.performance.candidates import Floats, Integers
from budsim.performance.predictor import Predictor
from budsim.simulator.planning.carried import under
from budsim.simulator.planning.choices import Choices, ServingOption
from budsim.simulator.planning.group_changes import (
    hardware_of_group,
    option_of_group,
    row_of,
)
from budsim.simulator.planning.hardware_groups import HardwareGroup
from budsim.simulator.planning.plans import Plan
from budsim.simulator.planning.question import Question
from budsim.simulator.planning.replica_groups import (
    AskedRows,
    judge_loads,
    means_missed,
    plan_of,
    predict_choices,
    room_left,
)
from budsim.simulator.planning.scoring import Scoring


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedPlans:
    """Plans of whole replicas on one cluster, as rows of choices: one for each of their groups.

    ``first`` is the row of each plan's first group, with the number of rows after the last one.
    ``shares`` (0..1] of the traffic go to the rows of a plan, as its groups share its own load.
    """

    question: Question
    cluster_id: str
    predictor: Predictor
    options: tuple[ServingOption, ...]
    hardware: tuple[HardwareGroup, ...]
    choices: Choices
    shares: Floats
    first: Integers

    @classmethod
    def of(
        cls,
        question: Question,
        plans: Sequence[Plan],
        predictor: Predictor,
        *,
        on_all_devices: bool = False,
    ) -> LoadedPlans:
        """Return the plans; those of one group may take all devices it may lie on.

        The question's own load does not matter. The plans, at least one, have no pools.
        """
        options: list[ServingOption] = []
        hardware, rows, shares = [], [], []
        for plan in plans:
            load = np.array([each.replicas * each.config.concurrency for each in plan.groups])
            shares.append(load / load.sum())
            for group in plan.groups:
                devices = hardware_of_group(question, plan, group)
                replicas = group.replicas
                if on_all_devices and len(plan.groups) == 1:
                    replicas = devices.capacity(group.config.tp, group.config.pp)
                row = row_of(group.config, replicas)
                rows.append(replace(row, option=row.option + len(options)))
                options.append(option_of_group(question, devices, group))
                hardware.append(devices)
        return cls(
            question=question,
            cluster_id=plans[0].cluster_id,
            predictor=predictor,
            options=tuple(options),
            hardware=tuple(hardware),
            choices=reduce(Choices.followed_by, rows),
            shares=np.concatenate(shares),
            first=np.cumsum([0, *(len(plan.groups) for plan in plans)]),
        )

    def __len__(self) -> int:
        """Return the number of plans."""
        return len(self.first) - 1

    def rooms(self, plans: Integers, loads: Integers) -> Floats:
        """Return how far plans (rows) are within the targets under loads (columns).

        See `largest_load`.
        """
        room = room_left(self.question, judge_loads(self._under(plans, loads), self.predictor))
        return -self._worst(-room, plans, loads)

    def _under(self, plans: Integers, loads: Integers) -> list[AskedRows]:
        """Return the rows of plans under each load."""
        rows = np.concatenate([self._rows(int(plan)) for plan in plans])
        return [self._asked(int(load), rows) for load in loads]

    def _rows(self, plan: int) -> Integers:
        return np.arange(self.first[plan], self.first[plan + 1])

    def _worst(self, missed: Floats, plans: Integers, loads: Integers) -> Floats:
        """Return the largest of the rows of each plan (rows) under each load (columns)."""
        counts = self.first[plans + 1] - self.first[plans]
        starts = np.cumsum(counts) - counts
        return np.maximum.reduceat(missed.reshape(len(loads), -1), starts, axis=1).T

    def rooms_found_again(self, plans: Integers, loads: Integers) -> Floats:
        """Return what `rooms` does, and misses where means miss the targets too.

        A search goes by means first: where they miss, it may show other plans than these.
        """
        rooms = self.rooms(plans, loads)
        if rooms.max() < 0.0:
            return rooms
        missed = means_missed(self._under(plans, loads), self.predictor)
        return np.minimum(rooms, -self._worst(missed, plans, loads))

    def plan(self, number: int, load: int) -> Plan | None:
        """Return what a plan does under a load; None if it is not carried."""
        rows = self._rows(number)
        asked = self._asked(load, rows)
        predicted = predict_choices(
            self.question.cluster(self.cluster_id),
            asked.scoring,
            asked.choices,
            [self.hardware[row] for row in rows],
            self.predictor,
            asked.shares,
        )
        carried = np.isfinite(predicted.judged.shortfall).all()
        return plan_of(predicted, range(len(rows))) if carried else None

    def _asked(self, load: int, rows: Integers) -> AskedRows:
        """Return some rows under a load, each with its share of it."""
        asked, choices, shares = under(self.question, load), self.choices.rows(rows), self.shares
        each = np.ceil(shares[rows] * asked.concurrency / choices.replicas).astype(np.int64)
        return AskedRows(
            scoring=Scoring(asked, self.options),
            choices=replace(choices, concurrency=each),
            shares=shares[rows],
        )
