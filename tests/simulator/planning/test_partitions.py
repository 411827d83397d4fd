"""What is searched by itself.

Found alone as beside others, and read back from bytes to the last digit.
"""

from dataclasses import replace

import numpy as np
import pytest

from budsim.performance.predictor import AnalyticPredictor, Predictor, load_predictor
from budsim.simulator.evolution import SearchSettings
from budsim.simulator.planning.answer import answer, partitions_of, search_partition
from budsim.simulator.planning.genome import OPTION, SearchSpace
from budsim.simulator.planning.partitions import (
    PartitionResult,
    merge_results,
    partition_names,
    search_partitions,
)
from budsim.simulator.planning.question import Question
from budsim.simulator.search_result import SearchResult
from tests.benchmarks.spaces import drawn, make_space
from tests.simulator.situations import CountingPredictor, make_cluster, make_question

PREDICTOR = AnalyticPredictor()
SEEDS = (0, 21)


@pytest.fixture(scope="module")
def question() -> Question:
    """Return a question whose spaces are too large to be looked at in full.

    About two types of devices.
    """
    nodes = ((("L40S", 8),), (("A100-SXM4-80GB", 8),))
    return make_question(
        make_cluster(*nodes),
        targets={"ttft_s": 0.5, "tokens_per_s_per_user": 50.0},
        may_quantize=True,
    )


@pytest.fixture(scope="module")
def parts(question: Question) -> dict[str, PartitionResult]:
    """Return what each part's search finds."""
    return found_in_parts(question)


def found_in_parts(question: Question) -> dict[str, PartitionResult]:
    """Return what each part's search finds, one after another and the last first."""
    found = {
        name: search_partition(question, PREDICTOR, name)
        for name in reversed(partitions_of(question))
    }
    assert all(found.values())
    return {name: each for name, each in found.items() if each}


def test_every_engine_on_every_group_of_devices_is_a_part(question: Question):
    """Two types of devices and two engines: four parts, named after cluster, device and engine."""
    named = [name.split("/")[:3] for name in partitions_of(question)]
    assert named == [
        ["lab", device, engine]
        for device in ("L40S", "A100-SXM4-80GB")
        for engine in ("vllm", "sglang")
    ]


def test_parts_searched_alone_give_the_answer_of_all_together(
    question: Question, parts: dict[str, PartitionResult]
):
    """Plans, reasons and evaluations are the same byte for byte.

    Also when the parts travelled as bytes.
    """
    known = {name: PartitionResult.unpacked(found.packed()) for name, found in parts.items()}
    assert repr(answer(question, PREDICTOR, known=known)) == repr(answer(question, PREDICTOR))


def test_a_part_s_search_looks_at_the_same_whenever_it_is_repeated(
    question: Question, parts: dict[str, PartitionResult]
):
    """L5: the same seed finds the same to the last digit, part by part.

    Another seed looks at others.
    """
    again = found_in_parts(question)
    assert {name: each.packed() for name, each in parts.items()} == {
        name: each.packed() for name, each in again.items()
    }
    other = replace(question, seed=question.seed + 1)
    assert not set(partitions_of(question)) & set(partitions_of(other))


def searched(question: Question, predictor: Predictor) -> tuple[SearchSpace, SearchResult, int]:
    """Return the whole space of a question, what is found in it.

    How many genomes are looked at.
    """
    space = make_space(question)
    names = partition_names("lab", space)
    parts = search_partitions("lab", space, predictor, names)
    return space, *merge_results(space, predictor, [parts[name] for name in names])


def test_many_small_parts_do_not_add_up_to_a_search_of_everything():
    """L7.

    In a cluster of many types that leave little choice, a tenth of the genomes is looked at, and
    some of every offer.
    """
    names = ("L40S", "A100-SXM4-80GB", "T4", "A10G", "L4", "H100-PCIe")
    cluster = make_cluster((("MI300X", 4),), *(((name, 1),) for name in names))
    question = make_question(cluster, concurrency=16, targets={"ttft_s": 0.5}, may_quantize=True)
    space, found, evaluations = searched(question, PREDICTOR)
    assert space.count > SearchSettings().enumerate_below
    assert evaluations <= 0.1 * space.count
    assert set(found.genomes[:, OPTION].tolist()) == set(range(len(space.options)))


@pytest.mark.parametrize("seed", SEEDS)
def test_the_best_is_looked_around_however_small_its_part_is(seed: int):
    """In clusters of many types, with the shipped regressors.

    No other value of one knob misses by less, or costs less.
    """
    predictor = load_predictor()
    space, found, _ = searched(drawn(seed), predictor)
    best = found.ranking()[0]
    values = [(knob, value) for knob in space.knobs for value in range(space.sizes[knob])]
    turned = np.repeat(found.genomes[[best]], len(values), axis=0)
    for row, (knob, value) in zip(turned, values, strict=True):
        row[knob] = value
    scores = space.score(space.repair(turned), predictor)
    others = scores.objectives[scores.violation <= 0, :2].tolist()
    assert found.objectives[best, :2].tolist() == min(others)


def test_nothing_known_is_searched_again(question: Question, parts: dict[str, PartitionResult]):
    """With every part known, fewer rows are predicted.

    By exactly as many as the searches looked at.
    """
    everything, rest = CountingPredictor(), CountingPredictor()
    answer(question, everything)
    answer(question, rest, known=parts)
    searched = sum(found.evaluations for found in parts.values())
    assert sum(everything.calls) - sum(rest.calls) == searched


def test_what_was_found_on_other_devices_is_not_taken(
    question: Question, parts: dict[str, PartitionResult]
):
    """A part's name changes with its devices.

    After one node more, nothing found before is used for it.
    """
    larger = make_cluster((("L40S", 8),), (("A100-SXM4-80GB", 8),), (("L40S", 8),))
    after = replace(question, clusters=(larger,))
    assert not {name for name in partitions_of(question) if "L40S" in name} & set(
        partitions_of(after)
    )
    assert repr(answer(after, PREDICTOR, known=parts)) == repr(answer(after, PREDICTOR))
    assert search_partition(after, PREDICTOR, partitions_of(question)[0]) is None


def test_what_parts_left_of_the_budget_is_spent_around_the_best_of_all(
    question: Question, parts: dict[str, PartitionResult]
):
    """Joining the parts looks at more genomes, and finds nothing worse."""
    found, evaluations = merge_results(make_space(question), PREDICTOR, list(parts.values())[::-1])
    assert evaluations > 1.5 * sum(each.evaluations for each in parts.values())
    best = found.objectives[found.ranking()[0], :2].tolist()
    of_parts = [each.found.objectives[each.found.ranking()[0], :2] for each in parts.values()]
    assert best <= min(each.tolist() for each in of_parts)


def test_a_prediction_does_not_depend_on_its_company(question: Question):
    """Scored among others, by the shipped regressors, a genome has the scores it has alone.

    To the last digit.
    """
    space, predictor = make_space(question), load_predictor()
    genomes = space.repair(
        np.random.default_rng(0).integers(0, space.sizes, size=(500, len(space.sizes)))
    )
    together = space.score(genomes, predictor)
    for rows in ([0], [499, 3], list(range(7, 400, 9))):
        apart = space.score(genomes[rows], predictor)
        assert apart.objectives.tobytes() == together.objectives[rows].tobytes()
        assert apart.violation.tobytes() == together.violation[rows].tobytes()
