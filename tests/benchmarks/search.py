"""The search against the truth, random search and pymoo's NSGA-II.

``python -m tests.benchmarks.search``, off by default.

Every space is enumerated once with the shipped regressors; all searches then read their scores from
that table. The rivals get the same repair, the same memory of what they evaluated, and as many
distinct evaluations as ours used at most.
"""

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import islice

import numpy as np

from budsim.performance.candidates import Integers
from budsim.performance.predictor import Predictor, load_predictor
from budsim.simulator.evolution import SearchSettings
from budsim.simulator.planning.genome import SearchSpace
from budsim.simulator.search_result import SearchResult
from tests.benchmarks.spaces import (
    SEARCHED,
    Truth,
    drawn_truths,
    enumerate_space,
    questions,
    search_remembered,
    space_of,
)

DRAWN_LIMIT = 100_000
"""Genomes a drawn space may have, so that a hundred take minutes."""
Rival = Callable[[SearchSpace, Truth, int, int], SearchResult]
HEADER = (
    f"{'space':<32}{'genomes':>8}  {'evaluated':>14}"
    f"  {'ours':>22}  {'random':>22}  {'pymoo NSGA-II':>22}"
)


def main() -> int:
    """Print the table.

    1 when a mark is missed: every best within 1 %, at most 10 % evaluated, hypervolume within 2 %.
    """
    arguments = _arguments()
    predictor = load_predictor()
    settings = replace(SEARCHED, share=arguments.share)
    if arguments.drawn:
        _report_drawn(arguments.drawn, settings, predictor)
        return 0
    print(
        "found: seeds whose best feasible cost is within 1 % of the true one;"
        f" hv: least hypervolume ratio\n{HEADER}"
    )
    missed = 0
    for name in arguments.space or questions():
        space = space_of(name)
        truth = enumerate_space(space, predictor)
        found = [
            search_remembered(questions()[name], truth, seed, settings)
            for seed in range(arguments.seeds)
        ]
        ours, used = zip(*found, strict=True)
        missed += not _meets_marks(truth, ours, max(used))
        rivals = [
            _run(rival, space, truth, max(used), arguments.rival_seeds)
            for rival in (_random, _nsga2)
        ]
        columns = "".join(f"  {_summary(truth, found):>22}" for found in (ours, *rivals))
        share = f"{np.mean(used):6.0f} ({max(used) / len(truth.keys):5.2%})"
        print(f"{name:<32}{len(truth.keys):>8}  {share:>14}{columns}", flush=True)
    return int(missed > 0)


def _report_drawn(count: int, settings: SearchSettings, predictor: Predictor) -> None:
    """Print how the search does in spaces of drawn questions."""
    best, ratios, shares = 0, [], []
    for asked, truth in islice(drawn_truths(predictor, DRAWN_LIMIT), count):
        found, used = search_remembered(asked, truth, 0, settings)
        best += truth.found_by(found)
        ratios.append(truth.hypervolume_ratio(found))
        shares.append(used / len(truth.keys))
    within = np.mean(np.array(ratios) >= 0.98)
    print(
        f"{count} drawn: found {best}, hv within 2 % in {within:.0%},"
        f" {np.mean(shares):.1%} ({max(shares):.1%}) evaluated"
    )


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=50, help="seeds of our search")
    parser.add_argument(
        "--rival-seeds", type=int, default=10, help="seeds of the rivals; 0 leaves them out"
    )
    parser.add_argument(
        "--share", type=float, default=SEARCHED.share, help="share of a space that may be evaluated"
    )
    parser.add_argument(
        "--space",
        action="append",
        choices=list(questions()),
        help="only this space; may be repeated",
    )
    parser.add_argument(
        "--drawn", type=int, default=0, help="instead: so many spaces of questions drawn at random"
    )
    return parser.parse_args()


def _run(
    rival: Rival, space: SearchSpace, truth: Truth, budget: int, seeds: int
) -> list[SearchResult]:
    return [rival(space, truth, budget, seed) for seed in range(seeds)]


def _meets_marks(truth: Truth, found: Sequence[SearchResult], evaluations: int) -> bool:
    few = evaluations <= 0.1 * len(truth.keys)
    return few and all(
        truth.found_by(each) and truth.hypervolume_ratio(each) >= 0.98 for each in found
    )


def _summary(truth: Truth, found: Sequence[SearchResult]) -> str:
    if not found:
        return "-"
    best = sum(truth.found_by(each) for each in found)
    return (
        f"found {best}/{len(found)}, hv {min(truth.hypervolume_ratio(each) for each in found):.3f}"
    )


def _random(space: SearchSpace, truth: Truth, budget: int, seed: int) -> SearchResult:
    """Return distinct legal genomes drawn evenly from all of them."""
    rows = np.random.default_rng(seed).choice(len(truth.keys), size=budget, replace=False)
    return _explored(truth.explored.genomes[rows], truth)


def _nsga2(space: SearchSpace, truth: Truth, budget: int, seed: int) -> SearchResult:
    """Return what pymoo's NSGA-II evaluates with integer operators of its own and our repair.

    Until the budget is spent.
    """
    from pymoo.algorithms.moo.nsga2 import NSGA2
    from pymoo.core.problem import Problem
    from pymoo.operators.crossover.sbx import SBX
    from pymoo.operators.mutation.pm import PM
    from pymoo.operators.repair.rounding import RoundingRepair
    from pymoo.operators.sampling.rnd import IntegerRandomSampling
    from pymoo.termination.max_gen import MaximumGenerationTermination

    seen: dict[tuple[int, ...], None] = {}

    class _Problem(Problem):
        def __init__(self) -> None:
            super().__init__(
                n_var=len(space.sizes),
                n_obj=4,
                n_ieq_constr=1,
                xl=0,
                xu=np.array(space.sizes) - 1,
                vtype=int,
            )

        def _evaluate(self, x: Integers, out: dict[str, object], *_: object, **__: object) -> None:
            genomes = space.repair(np.asarray(x, dtype=np.int64))
            seen.update(dict.fromkeys(map(tuple, genomes.tolist())))
            scores = truth.score(genomes)
            out["F"], out["G"] = scores.objectives, scores.violation[:, None]

    repair = RoundingRepair()
    algorithm = NSGA2(
        pop_size=min(100, max(10, budget // 10)),
        sampling=IntegerRandomSampling(),
        crossover=SBX(prob=0.9, eta=3.0, vtype=float, repair=repair),
        mutation=PM(eta=3.0, vtype=float, repair=repair),
        eliminate_duplicates=True,
    )
    algorithm.setup(_Problem(), termination=MaximumGenerationTermination(GENERATIONS), seed=seed)
    while len(seen) < budget and algorithm.has_next():
        algorithm.next()
    return _explored(np.array(list(seen)[:budget], dtype=np.int64), truth)


GENERATIONS = 1000
"""Generations after which a rival that finds nothing new is stopped."""


def _explored(genomes: Integers, truth: Truth) -> SearchResult:
    scores = truth.score(genomes)
    return SearchResult(genomes=genomes, objectives=scores.objectives, violation=scores.violation)


if __name__ == "__main__":
    sys.exit(main())
