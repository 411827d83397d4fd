"""The plainest way to run what the search found.

The search keeps whatever is best by a hair: a pipeline that beats as many plain replicas by 0.5 %,
a token budget that saves 0.04 %. The few deployments that are shown are tried again without
pipeline, without attention ranks, and with the engine's own defaults. What does as well, as far as
a prediction can tell, is shown instead.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from budsim.performance.candidates import Booleans, Floats, Integers
from budsim.performance.predictor import Predictor
from budsim.simulator.planning.choices import COLUMNS, Choices, ServingOption, with_burst_room
from budsim.simulator.planning.genome import (
    BUDGET,
    DP,
    EP,
    FRACTION,
    OPTION,
    PP,
    REPLICAS,
    SEQS,
    TP,
    SearchSpace,
)
from budsim.simulator.planning.mixed_deployments import MixedDeployments
from budsim.simulator.planning.taste import FILLER, NOISE, nearest, plainest
from budsim.simulator.search_result import Scores


@dataclass(frozen=True, slots=True, kw_only=True)
class PlainRows:
    """Genomes and the choices they are launched as, one row each.

    ``choices`` differ from what the genomes spell in ``max_num_seqs`` only: see
    `with_default_sequences`. ``evaluations`` counts the candidates predicted to find them.
    """

    genomes: Integers
    choices: Choices
    evaluations: int

    def rows(self, rows: Integers) -> PlainRows:
        """Return some of the rows."""
        return replace(self, genomes=self.genomes[rows], choices=self.choices.rows(rows))


def plain_rows(space: SearchSpace, genomes: Integers, predictor: Predictor) -> PlainRows:
    """Return the plainest variant of each genome that is as good as any of its variants.

    One row a genome, in their order, and after them pipelines that are well cheaper.
    """
    if not len(genomes):
        return PlainRows(genomes=genomes, choices=space.decode(genomes), evaluations=0)
    variants = [variants_of(space, genome) for genome in genomes]
    tried = np.concatenate(variants)
    choices = with_default_sequences(space, space.decode(tried))
    scores = space.scoring.score(choices, predictor)
    chosen, cheaper, start = [], [], 0
    for each in variants:
        mine = np.arange(start, start + len(each))
        best = int(mine[_plainest(space, choices, scores, mine)])
        chosen.append(best)
        cheaper += _cheaper_pipelines(space, choices, scores, mine, best)
        start += len(each)
    rows = [*chosen, *cheaper]
    return PlainRows(
        genomes=tried[rows], choices=choices.rows(np.array(rows)), evaluations=len(tried)
    )


def _plainest(space: SearchSpace, choices: Choices, scores: Scores, rows: Integers) -> int:
    """Return the place in ``rows`` of the plainest of them that is as good as any."""
    some = Scores(objectives=scores.objectives[rows], violation=scores.violation[rows])
    return plainest(space.options, choices.rows(rows), some)


def _cheaper_pipelines(
    space: SearchSpace, choices: Choices, scores: Scores, rows: Integers, plain: int
) -> list[int]:
    """Return the plainest pipeline of ``rows`` that is well cheaper than the plain row.

    It comes after that one, and whoever wants the lowest cost still sees it.
    """
    miss, cost = scores.objectives[:, 0], scores.objectives[:, 1]
    saves = (miss[rows] <= miss[plain]) & (cost[rows] * (1.0 + FILLER) < cost[plain])
    mine = rows[(choices.pp[rows] > 1) & (scores.violation[rows] <= 0) & saves]
    if not len(mine) or choices.pp[plain] > 1:
        return []
    return [int(mine[_plainest(space, choices, scores, mine)])]


def variants_of(space: SearchSpace, genome: Integers) -> Integers:
    """Return a genome with simpler layouts and the engine's knobs, in all combinations."""
    layouts = simpler_layouts(space, genome)
    return np.unique(
        np.concatenate([_with_knobs(space, each, _default_knobs(space, each)) for each in layouts]),
        axis=0,
    )


def simpler_layouts(space: SearchSpace, genome: Integers) -> Integers:
    """Return a genome and what uses as many devices without pipeline or attention ranks.

    One replica of TP 4 in a pipeline of 2: also two replicas of TP 4, and one of TP 8.
    """
    found = [genome]
    option, pp = space.options[int(genome[OPTION])], int(genome[PP])
    if option.pp[pp] > 1:
        replicas = int(space.replicas[genome[REPLICAS]]) * option.pp[pp]
        found.append(_changed(genome, {PP: 0, REPLICAS: space.replica_gene(replicas)}))
        wider = option.tp[int(genome[TP])] * option.pp[pp]
        if wider in option.tp:
            found.append(_changed(genome, {PP: 0, TP: option.tp.index(wider)}))
    for genes in ({DP: 0}, {EP: 0}, {DP: 0, EP: 0}):
        found += [_changed(each, genes) for each in tuple(found[:3])]
    return np.asarray(np.unique(space.repair(np.array(found)), axis=0))


def with_default_knobs(space: SearchSpace, genomes: Integers) -> Integers:
    """Return genomes with the engine's own knobs."""
    found = [_changed(genome, _default_knobs(space, genome)) for genome in genomes]
    return space.repair(np.array(found, dtype=np.int64).reshape(genomes.shape))


def with_smaller_budget(space: SearchSpace, genomes: Integers, steps: int) -> Integers:
    """Return genomes with a token budget so many values below their own, or the smallest."""
    changed = genomes.copy()
    changed[:, BUDGET] = np.maximum(changed[:, BUDGET] - steps, 0)
    return space.repair(changed)


def with_replicas(space: SearchSpace, genomes: Integers, genes: Integers) -> Integers:
    """Return genomes with other numbers of replicas.

    ``max_num_seqs`` that leaves room for bursts does so again; one that binds stays.
    """
    choices, changed = space.decode(genomes), genomes.copy()
    changed[_is_roomy(space, choices), SEQS] = space.sizes[SEQS] - 1
    changed[:, REPLICAS] = genes
    return space.repair(changed)


def _is_roomy(space: SearchSpace, choices: Choices) -> Booleans:
    """Return which rows' ``max_num_seqs`` leaves room for bursts, as far as its values reach."""
    largest = np.array([option.max_num_seqs[-1] for option in space.options])[choices.option]
    roomy = np.minimum(with_burst_room(-(-choices.concurrency // choices.dp)), largest)
    return np.asarray(choices.max_num_seqs >= roomy)


def with_default_sequences(space: SearchSpace, choices: Choices) -> Choices:
    """Return choices that run as many sequences as the engine does by default.

    Only where the limit is not there to hold requests back, is not somebody else's, does not decide
    the size of a cache, and the default is among the values searched (SGLang's 2,048 is none: it
    stands for whatever the memory holds). The default must leave room for bursts; of requests at a
    rate, whose number in flight has only a pessimistic bound, a replay tells whether it does.
    """
    options = [space.options[at] for at in choices.option.tolist()]
    usual = np.array([option.default_limits[1] for option in options], dtype=np.int64)
    is_ours = [
        not (option.follows_requests or option.profile.cache_is_stated)
        and option.default_limits[1] <= option.max_num_seqs[-1]
        for option in options
    ]
    # A step that holds fewer tokens than sequences is refused by the engine.
    usual = np.minimum(usual, choices.max_num_batched_tokens)
    default = np.array(is_ours, dtype=bool) & _is_roomy(space, choices)
    if not space.scoring.question.traffic.is_open:
        default &= usual >= with_burst_room(-(-choices.concurrency // choices.dp))
    return replace(choices, max_num_seqs=np.where(default, usual, choices.max_num_seqs))


def with_default_limits(space: SearchSpace, choices: Choices) -> Choices:
    """Return choices with the engine's own token budget and memory fraction."""
    knobs = [_default_values(space.options[at]) for at in choices.option.tolist()]
    budgets, fractions = (np.array(each) for each in zip(*knobs, strict=True))
    return replace(choices, max_num_batched_tokens=budgets, memory_fraction=fractions)


def plain_mixes(
    space: SearchSpace, mixed: MixedDeployments, predictor: Predictor
) -> tuple[Choices, Floats]:
    """Return the rows of mixed deployments as they are launched, and each one's share of the load.

    With the engine's own knobs where all rows of a deployment, which share the traffic, then do as
    well.
    """
    choices, shares = mixed.choices, np.ones(len(mixed.choices.tp))
    if not mixed.members:
        return choices, shares
    usual = with_default_limits(space, choices)
    budgets = np.maximum(usual.max_num_batched_tokens, choices.max_num_seqs)
    usual = with_default_sequences(space, replace(usual, max_num_batched_tokens=budgets))
    as_well = _as_good(space, usual, choices, predictor)
    load = choices.replicas * choices.concurrency
    for member in mixed.members:
        rows = list(member)
        as_well[rows] = as_well[rows].all()
        shares[rows] = load[rows] / load[rows].sum()
    columns = {
        name: np.where(as_well, getattr(usual, name), getattr(choices, name)) for name in COLUMNS
    }
    return Choices(**columns), shares


def _as_good(
    space: SearchSpace, tried: Choices, choices: Choices, predictor: Predictor
) -> Booleans:
    """Return which rows of ``tried`` fit as well, miss no target more and are about as fast."""
    now, then = (space.scoring.score(each, predictor) for each in (choices, tried))
    fits = then.violation <= now.violation
    as_good = then.objectives[:, 0] <= now.objectives[:, 0]
    as_fast = then.objectives[:, -1] <= now.objectives[:, -1] * (1.0 + NOISE)
    return np.asarray(fits & as_good & as_fast)


def _default_values(option: ServingOption) -> tuple[int, float]:
    """Return the token budget and memory fraction of the values searched nearest the default."""
    budgets, fractions = option.max_num_batched_tokens, option.memory_fraction
    return (
        budgets[nearest(budgets, option.default_limits[0])],
        fractions[nearest(fractions, option.profile.memory_fraction)],
    )


def _default_knobs(space: SearchSpace, genome: Integers) -> dict[int, int]:
    """Return the genes of the engine's own knobs."""
    option = space.options[int(genome[OPTION])]
    return {
        SEQS: space.sizes[SEQS] - 1,  # repaired to what leaves room for bursts
        BUDGET: nearest(option.max_num_batched_tokens, option.default_limits[0]),
        FRACTION: nearest(option.memory_fraction, option.profile.memory_fraction),
    }


def _with_knobs(space: SearchSpace, genome: Integers, usual: dict[int, int]) -> Integers:
    """Return a genome with its own and the usual values of some genes, in all combinations."""
    values = np.meshgrid(*([int(genome[gene]), at] for gene, at in usual.items()))
    knobs = np.stack(values, axis=-1).reshape(-1, len(usual))
    variants = np.repeat(genome[None, :], len(knobs), axis=0)
    variants[:, list(usual)] = knobs
    return space.repair(variants)


def _changed(genome: Integers, genes: dict[int, int]) -> Integers:
    changed = genome.copy()
    changed[list(genes)] = list(genes.values())
    return changed
