"""What is searched by itself: found alone as beside others, and read back from bytes to the last digit."""

from dataclasses import replace

import numpy as np
import pytest

from budsim.performance.candidates import Candidates
from budsim.performance.predictions import MemoryUse, Predictions
from budsim.performance.predictor import AnalyticPredictor, load_predictor
from budsim.simulator.answers import answer, parts_of, search_part
from budsim.simulator.parts import Searched
from budsim.simulator.plans import Question
from tests.benchmarks.spaces import make_space
from tests.simulator.situations import make_cluster, make_question

PREDICTOR = AnalyticPredictor()


@pytest.fixture
def question() -> Question:
    """Return a question whose spaces are too large to be looked at in full, about two types of devices."""
    nodes = ((("L40S", 8),), (("A100-SXM4-80GB", 8),))
    return make_question(make_cluster(*nodes), targets={"ttft_s": 0.5, "tokens_per_s_per_user": 50.0}, may_quantize=True)


def found_in_parts(question: Question) -> dict[str, Searched]:
    """Return what each part's search finds, one after another and the last first."""
    found = {name: search_part(question, PREDICTOR, name) for name in reversed(parts_of(question))}
    assert all(found.values())
    return {name: each for name, each in found.items() if each}


def test_every_engine_on_every_group_of_devices_is_a_part(question: Question):
    """Two types of devices and two engines: four parts, named after cluster, device and engine."""
    named = [name.split("/")[:3] for name in parts_of(question)]
    assert named == [["lab", device, engine] for device in ("L40S", "A100-SXM4-80GB") for engine in ("vllm", "sglang")]


def test_parts_searched_alone_give_the_answer_of_all_together(question: Question):
    """Plans, reasons and evaluations are the same byte for byte, also when the parts travelled as bytes."""
    known = {name: Searched.unpacked(found.packed()) for name, found in found_in_parts(question).items()}
    assert repr(answer(question, PREDICTOR, known=known)) == repr(answer(question, PREDICTOR))


def test_a_part_s_search_looks_at_the_same_whenever_it_is_repeated(question: Question):
    """L5: the same seed finds the same to the last digit, part by part; another seed looks at others."""
    assert {name: each.packed() for name, each in found_in_parts(question).items()} == {
        name: each.packed() for name, each in found_in_parts(question).items()
    }
    other = replace(question, seed=question.seed + 1)
    assert not set(parts_of(question)) & set(parts_of(other))


def test_nothing_known_is_searched_again(question: Question):
    """With every part known, fewer rows are predicted: by exactly as many as the searches looked at."""
    rows = []

    class Counting:
        def predict(self, candidates: Candidates) -> tuple[MemoryUse, Predictions]:
            rows.append(len(candidates.tp))
            return PREDICTOR.predict(candidates)

    answer(question, Counting())
    everything = sum(rows)
    rows.clear()
    known = found_in_parts(question)
    answer(question, Counting(), known=known)
    assert everything - sum(rows) == sum(found.evaluations for found in known.values())


def test_what_was_found_on_other_devices_is_not_taken(question: Question):
    """A part's name changes with its devices: after one node more, nothing found before is used for it."""
    larger = make_cluster((("L40S", 8),), (("A100-SXM4-80GB", 8),), (("L40S", 8),))
    after = replace(question, clusters=(larger,))
    assert not {name for name in parts_of(question) if "L40S" in name} & set(parts_of(after))
    assert repr(answer(after, PREDICTOR, known=found_in_parts(question))) == repr(answer(after, PREDICTOR))
    assert search_part(after, PREDICTOR, parts_of(question)[0]) is None


def test_a_prediction_does_not_depend_on_its_company(question: Question):
    """Scored among others, by the shipped regressors, a genome has the scores it has alone, to the last digit."""
    space, predictor = make_space(question), load_predictor()
    genomes = space.repair(np.random.default_rng(0).integers(0, space.sizes, size=(500, len(space.sizes))))
    together = space.score(genomes, predictor)
    for rows in ([0], [499, 3], list(range(7, 400, 9))):
        apart = space.score(genomes[rows], predictor)
        assert apart.objectives.tobytes() == together.objectives[rows].tobytes()
        assert apart.violation.tobytes() == together.violation[rows].tobytes()
