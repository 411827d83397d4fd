"""One changed knob: what follows from it, and what is refused."""

import pytest

from budsim.commons.errors import InvalidInput
from budsim.performance.predictor import AnalyticPredictor
from budsim.simulator.planning.answer import answer
from budsim.simulator.planning.knob_changes import KnobChange
from budsim.simulator.planning.question import Question
from budsim.simulator.planning.whatif import what_if
from tests.simulator.situations import make_cluster, make_question

FOUR = make_cluster((("H100-SXM", 4),))
ASKED = make_question(
    FOUR, analytic_only=True, engines=frozenset({"vllm"}), targets={"tokens_per_s_per_user": 20.0}
)


def change(text: str, question: Question = ASKED) -> KnobChange:
    """Return what a change does to the best plan."""
    outcome = answer(question, AnalyticPredictor())
    return what_if(
        question, outcome, AnalyticPredictor(), dict(part.split("=") for part in text.split(","))
    )


def test_a_knob_left_as_it_is_changes_nothing():
    """Setting a knob to the value it has gives the same group, to the configuration's id."""
    same = change(f"max_num_seqs={change('tp=2').before.config.max_num_seqs}")
    assert same.after == same.before


def test_half_the_requests_are_what_two_replicas_serve():
    """Two replicas of 32 requests are as fast as one of 16, and cost twice as much per hour."""
    doubled, halved = change("replicas=2"), change("concurrency=16")
    assert doubled.after.service == halved.after.service
    assert doubled.after.cost_usd_per_h == pytest.approx(2 * doubled.before.cost_usd_per_h)
    assert doubled.after.replicas == len(doubled.after.placements) == 2


def test_several_knobs_change_at_once():
    """Two replicas of TP 2 use all four devices; the text tells the figures before and after."""
    both = change("tp=2,replicas=2")
    assert both.after is not None
    assert (both.after.config.tp, both.after.replicas, both.after.devices) == (2, 2, 4)
    lines = repr(both).splitlines()
    assert lines[0] == "tp=2, replicas=2:"
    assert lines[1] == "  runs: 1 x H100-SXM tp1 -> 2 x H100-SXM tp2"
    assert all(" -> " in line for line in lines[1:])


def test_what_does_not_fit_tells_why():
    """The text of a change that fails is its reason."""
    failed = KnobChange(
        knob="tp", value="8", before=change("tp=2").before, after=None, problem="too large"
    )
    assert repr(failed) == "tp=8: too large"


def test_nothing_changed_is_refused():
    """A change without a setting says what is expected."""
    with pytest.raises(InvalidInput, match="nothing is changed"):
        what_if(ASKED, answer(ASKED, AnalyticPredictor()), AnalyticPredictor(), {})


def test_fewer_sequences_than_requests_make_them_wait():
    """With four places for 32 requests tokens come faster and the first one later."""
    few = change("max_num_seqs=4")
    assert few.after.service.tpot_s.value < few.before.service.tpot_s.value
    assert few.after.service.ttft_s.value > 2 * few.before.service.ttft_s.value
    assert few.after.service.bound_by == "queue"
    assert "4" in few.after.launch.command[few.after.launch.command.index("--max-num-seqs") + 1]


@pytest.mark.parametrize("spelled", ["tp=2", "--tensor-parallel-size=2", "tensor_parallel_size=2"])
def test_knobs_go_by_the_engines_own_names(spelled):
    """Our name and the engine's mean the same knob; two devices halve the weights of each."""
    found = change(spelled)
    assert found.knob == "tp"
    assert found.after.devices == 2
    assert found.after.memory.weight_bytes == pytest.approx(
        found.before.memory.weight_bytes / 2, rel=0.05
    )
    assert found.after.service.tpot_s.value < found.before.service.tpot_s.value


def test_quantized_weights_take_less_memory():
    """Eight instead of sixteen bits: about half the weights, and faster decoding."""
    found = change("weight_precision=fp8")
    assert 0.5 <= found.after.memory.weight_bytes / found.before.memory.weight_bytes < 0.65
    assert found.after.service.tpot_s.value < found.before.service.tpot_s.value


def test_what_does_not_fit_is_an_answer_with_figures():
    """70B parameters on one H100 instead of what they need.

    No service, a sentence with the gigabytes.
    """
    question = make_question(
        FOUR,
        model="meta-llama/Llama-3.1-70B-Instruct",
        engines=frozenset({"vllm"}),
        analytic_only=True,
    )
    found = change("tp=1", question)
    assert found.after is None
    assert "does not fit" in found.problem
    assert "GiB" in found.problem


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("turbo=1", "turbo"),
        ("max_num_seqs=many", "whole number"),
        ("max_num_seqs=0", "whole number"),
        ("memory_fraction=1.5", "memory_fraction"),
        ("memory_fraction=nan", "memory_fraction"),
        ("memory_fraction=much", "a number"),
        ("weight_precision=fp7", "fp7"),
        ("weight_precision=mxfp4", "mxfp4"),
        ("tp=3", "one of 1, 2, 4"),
        ("replicas=99", "at most 4"),
        ("input_tokens=99999999", "input_tokens"),
    ],
)
def test_changes_that_make_no_sense_are_refused(text, word):
    """Each refusal names what is wrong and what would be right."""
    with pytest.raises(InvalidInput, match=word):
        change(text)


def test_there_must_be_a_plan_to_change():
    """Nothing fits: nothing can be changed."""
    with pytest.raises(InvalidInput, match="no plan"):
        change("tp=2", make_question(make_cluster((("Frobnicator-9000", 1),))))


def test_a_mix_is_changed_in_its_slowest_group():
    """Of a deployment on two device types the group that sets the service changes.

    With its share of the requests.
    """
    cluster = make_cluster((("A100-SXM4-80GB", 2),), (("H100-SXM", 1),))
    targets = {"ttft_s": 0.25, "tokens_per_s_per_user": 80.0}
    question = make_question(cluster, concurrency=60, targets=targets, analytic_only=True)
    best = answer(question, AnalyticPredictor()).plans[0]
    assert len(best.groups) == 2
    found = change(f"max_num_seqs={best.slowest.config.max_num_seqs}", question)
    assert found.before == best.slowest
    assert found.after.service == best.slowest.service


def test_devices_of_other_groups_are_not_free():
    """Three H100, a replica of two and one of one: a second one of either has no room."""
    targets = {"ttft_s": 0.2, "tokens_per_s_per_user": 100.0}
    cluster = make_cluster((("H100-SXM", 3),))
    asked = [
        make_question(cluster, concurrency=load, targets=targets, analytic_only=True)
        for load in range(40, 140, 8)
    ]
    full = [
        question
        for question in asked
        if len(answer(question, AnalyticPredictor()).plans[0].groups) == 2
    ]
    assert full
    with pytest.raises(InvalidInput, match="at most 1"):
        change("replicas=2", full[0])
