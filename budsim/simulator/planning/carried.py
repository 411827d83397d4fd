"""How many requests in flight all devices of a cluster may carry, guessed without a search."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from budsim.performance.candidates import Integers
from budsim.performance.limits import MOST_REQUESTS
from budsim.performance.predictor import Predictor
from budsim.simulator.planning.choices import Choices
from budsim.simulator.planning.genome import OPTION, REPLICAS, SearchSpace
from budsim.simulator.planning.load_curves import LoadModel
from budsim.simulator.planning.partitions import PartitionResult
from budsim.simulator.planning.plain_variants import with_default_limits
from budsim.simulator.planning.replica_groups import judge_rows
from budsim.simulator.search_result import first_of_each

# Loads of a replica tried in each round: of every layout, then three times closer around the
# largest load that it serves within the targets. The last of them are 0.1 % apart.
LOADS: Final = (24, 10, 10, 10)
# Replayed loads of a replica are first four times apart, and in the end 1 % or one request.
STRIDE: Final = 4.0
CLOSE: Final = 1.01
# Layouts that carry so much less than the best on the same devices are left out after each round.
WORTH: Final = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class _Loaded:
    """Ways to run a replica: the group of each, how many fit, and what one may carry at most.

    One carries ``low`` requests within the targets (0: none), and not ``high``.
    """

    choices: Choices
    group: Integers
    most: Integers
    low: Integers
    high: Integers

    def rows(self, rows: Integers) -> _Loaded:
        """Return some of them."""
        columns = (self.group, self.most, self.low, self.high)
        group, most, low, high = (column[rows] for column in columns)
        return _Loaded(choices=self.choices.rows(rows), group=group, most=most, low=low, high=high)

    def worth(self) -> _Loaded:
        """Return those that may be the best of their group."""
        return self.rows(np.flatnonzero(WORTH * self.low * self.most >= self._best()))

    def undecided(self) -> Integers:
        """Return those whose ends are apart and that may still be the best of their group."""
        apart = self.high > np.maximum(self.low + 1, CLOSE * self.low)
        return np.flatnonzero(apart & (self.high * self.most > self._best()))

    def next_loads(self, tried: Integers) -> Integers:
        """Return the loads to try next: four times more or fewer, or between the ends."""
        middle = np.sqrt(np.maximum(self.low, 1.0) * self.high)
        middle = np.where(self.high < MOST_REQUESTS, middle, STRIDE * tried)
        middle = np.where(self.low > 0, middle, tried / STRIDE)
        return np.clip(middle.astype(np.int64), self.low + 1, np.maximum(self.high - 1, 1))

    def _best(self) -> Integers:
        """Return what the best of its group carries, for each of them."""
        return np.asarray(self.carried_by_group()[self.group])

    def carried_by_group(self) -> Integers:
        """Return what the best of each group carries."""
        best = np.zeros(self.group.max(initial=0) + 1, dtype=np.int64)
        np.maximum.at(best, self.group, self.low * self.most)
        return best

    def closer(self, model: LoadModel, count: int) -> _Loaded:
        """Return them after so many loads between ``low`` and ``high`` were predicted."""
        ends = np.maximum(self.low, 1), np.maximum(self.high, 1)
        loads = np.geomspace(*ends, count, axis=1).round().astype(np.int64)
        _, miss = model.serve(self.choices, loads)
        met = miss.reshape(loads.shape) <= 0
        last = np.where(met, np.arange(count), -1).max(axis=1)
        rows = np.arange(len(loads))
        low = np.where(last >= 0, loads[rows, last], self.low)
        high = np.where(last < count - 1, loads[rows, np.minimum(last + 1, count - 1)], self.high)
        return replace(self, low=low, high=np.maximum(low, high))


def most_carried(
    space: SearchSpace, results: Sequence[PartitionResult], predictor: Predictor
) -> int:
    """Return about how many requests in flight all devices carry together; 0: not even one.

    Each group of devices runs as many replicas as it holds of the way, of those a search has kept
    (``results``, one for each option of ``space``), that carries most within the targets on means.
    Eight H100 as two tp4 of 40 requests and eight L4 as eight tp1 of 5: 120.
    """
    loaded = _kept(space, results)
    if not len(loaded.group):
        return 0
    model = LoadModel(space.scoring.question, space.scoring, predictor)
    for count in LOADS:
        loaded = loaded.closer(model, count).worth()
    return int(loaded.carried_by_group().sum())


def most_carried_replayed(
    space: SearchSpace, results: Sequence[PartitionResult], predictor: Predictor
) -> int:
    """Return about how many requests in flight one type of device carries; 0: not even one.

    As `most_carried`, for targets on percentiles and shares of requests in a closed loop. Of every
    layout one replica is replayed under growing loads, with the engine's own knobs. Types of
    devices that share the traffic are loaded by means, and rarely keep to percentiles together.
    """
    loaded = _one_of_each_layout(space, _kept(space, results))
    if not len(loaded.group):
        return 0
    model = LoadModel(space.scoring.question, space.scoring, predictor)
    first = np.maximum(1, space.scoring.question.concurrency // np.maximum(loaded.most, 1))
    loads = first.astype(np.int64)
    while len(rows := loaded.undecided()):
        choices = model.launched_for(loaded.choices.rows(rows), loads[rows])
        judged = judge_rows(space.scoring, choices, predictor, np.ones(len(rows)))
        fits = space.scoring.violation(choices, judged.memory) <= 0
        good = fits & (judged.judged.shortfall == 0.0)
        loaded.low[rows[good]], loaded.high[rows[~good]] = loads[rows[good]], loads[rows[~good]]
        loads = loaded.next_loads(loads)
    return int(loaded.carried_by_group().max())


def _one_of_each_layout(space: SearchSpace, loaded: _Loaded) -> _Loaded:
    """Return one way for each layout, with the engine's own knobs."""
    choices = with_default_limits(space, loaded.choices)
    columns = ("option", "tp", "pp", "ep", "dp")
    layouts = np.stack([getattr(choices, name) for name in columns], axis=1)
    return replace(loaded, choices=choices).rows(first_of_each(layouts))


def _kept(space: SearchSpace, results: Sequence[PartitionResult]) -> _Loaded:
    """Return the different ways to run a replica that searches have kept and memory holds."""
    found = []
    for number, result in enumerate(results):
        genomes = result.found.genomes[result.found.feasible].copy()
        genomes[:, OPTION] = number
        found.append(genomes)
    genomes = np.concatenate(found)
    genomes = genomes[first_of_each(np.delete(genomes, REPLICAS, axis=1))]
    choices = space.decode(genomes)
    # What a search set for fewer requests does not bound how many a replica may run.
    largest = np.array([option.max_num_seqs[-1] for option in space.options])[choices.option]
    labels = [option.group.label.name for option in space.options]
    layouts = zip(choices.option.tolist(), choices.tp.tolist(), choices.pp.tolist(), strict=True)
    most = [space.options[at].group.capacity(tp, pp) for at, tp, pp in layouts]
    rows = len(genomes)
    return _Loaded(
        choices=replace(choices, max_num_seqs=largest),
        group=np.unique(labels, return_inverse=True)[1][choices.option],
        most=np.array(most, dtype=np.int64),
        low=np.zeros(rows, dtype=np.int64),
        high=np.full(rows, MOST_REQUESTS, dtype=np.int64),
    )
