"""What is shown is the plainest of what does as well."""

from dataclasses import replace
from functools import cache

import numpy as np

from budsim.performance.predictor import AnalyticPredictor, load_predictor
from budsim.simulator.planning.answer import answer
from budsim.simulator.planning.genome import PP, REPLICAS, TP, SearchSpace
from budsim.simulator.planning.hardware_groups import usable
from budsim.simulator.planning.plain_variants import (
    plain_rows,
    simpler_layouts,
    with_default_knobs,
    with_default_sequences,
    with_replicas,
)
from budsim.simulator.planning.plans import Plan
from budsim.simulator.planning.question import FixedKnobs, Question
from budsim.simulator.planning.serving_options import serving_options
from budsim.simulator.planning.targets import PercentileTarget
from tests.simulator.situations import make_cluster, make_question

SEVENTY = "meta-llama/Llama-3.1-70B-Instruct"


def seventy(**changes: object) -> Question:
    """Return the README's question on two nodes of eight H100."""
    cluster = make_cluster((("H100-SXM", 8),), (("H100-SXM", 8),))
    question = make_question(
        cluster,
        model=SEVENTY,
        input_tokens=2048,
        output_tokens=512,
        concurrency=64,
        targets={"ttft_s": 2.0, "tokens_per_s_per_user": 20.0},
        engines=frozenset({"vllm"}),
        chance=0.8,
    )
    return replace(question, **changes)


@cache
def space() -> SearchSpace:
    """Return the search space of that question."""
    question = seventy()
    hardware = usable(question.clusters[0], question.mode, skip_master_cpus=True)
    options, _ = serving_options(question, question.clusters[0], hardware.groups)
    return SearchSpace(options, question)


def genome(tp: int, pp: int, replicas: int) -> np.ndarray:
    """Return a genome of that layout with generous limits."""
    every = space().first_genomes(10_000)
    choices = space().decode(every)
    wanted = (choices.tp == tp) & (choices.pp == pp) & (choices.replicas == replicas)
    return every[np.flatnonzero(wanted)[0]]


@cache
def plans(**changes: object) -> tuple[Plan, ...]:
    """Return the answer to that question."""
    return answer(seventy(**changes), load_predictor()).plans


def test_a_pipeline_has_plain_layouts_of_as_many_devices():
    """TP 4 in a pipeline of 2: also two replicas of TP 4, and one of TP 8."""
    found = space().decode(simpler_layouts(space(), genome(4, 2, 1)))
    shapes = set(zip(found.tp.tolist(), found.pp.tolist(), found.replicas.tolist(), strict=True))
    assert shapes == {(4, 2, 1), (4, 1, 2), (8, 1, 1)}


def test_a_pipeline_gives_way_to_as_many_replicas():
    """One replica of TP 4 in three stages becomes three replicas of TP 4."""
    found = plain_rows(space(), genome(4, 3, 1)[None, :], load_predictor())
    assert space().decode(found.genomes).replicas.tolist() == [3]
    assert found.genomes[0, PP] == 0
    assert found.genomes[0, TP] == genome(4, 3, 1)[TP]


def test_more_replicas_keep_room_for_bursts():
    """Changing eight replicas to one grows ``max_num_seqs`` with the requests of a replica."""
    eight = genome(2, 1, 8)[None, :]
    one = space().decode(with_replicas(space(), eight, np.array([0])))
    assert one.replicas.tolist() == [1]
    assert one.max_num_seqs[0] >= 64


def test_running_sequences_are_the_engines_default_where_it_has_room():
    """VLLM runs 1,024 sequences on an H100 by default, more than 64 requests and a quarter."""
    choices = with_default_sequences(space(), space().decode(genome(4, 1, 1)[None, :]))
    assert choices.max_num_seqs.tolist() == [1024]


def test_a_limit_that_holds_requests_back_is_kept():
    """64 requests and a limit of 8: the queue is wanted."""
    binding = replace(space().decode(genome(4, 1, 1)[None, :]), max_num_seqs=np.array([8]))
    assert with_default_sequences(space(), binding).max_num_seqs.tolist() == [8]


def test_the_best_plan_has_one_kind_of_replica_and_the_engines_flags():
    """No pipeline, no mix, and vLLM's own limits on an H100: 1,024 sequences, 8,192 tokens."""
    best = plans()[0]
    assert [(g.config.pp, g.config.dp) for g in best.groups] == [(1, 1)]
    assert best.groups[0].config.max_num_seqs == 1024
    assert best.groups[0].config.max_num_batched_tokens == 8192


def test_without_mixes_the_best_has_no_pipeline_either():
    """Who may not mix replicas, and who sets limits by himself, is told plain replicas too."""
    knobs = FixedKnobs(memory_fraction=0.95, engines=frozenset({"vllm"}))
    first = plans(allow_mixed=False, fixed_knobs=knobs)[0]
    assert [(g.config.pp, g.config.dp) for g in first.groups] == [(1, 1)]
    assert first.cost_per_million_tokens_usd <= 1.05 * plans()[0].cost_per_million_tokens_usd


def test_every_number_of_replicas_is_a_gene():
    """A gene counts replicas in ascending order."""
    counts = space().replicas.tolist()
    assert [space().replica_gene(count) for count in counts] == list(range(len(counts)))
    assert genome(8, 1, 2)[REPLICAS] == counts.index(2)


def test_no_genomes_have_no_knobs():
    """Where nothing fits no genome is left, and none gets the engine's knobs."""
    none = space().first_genomes(1)[:0]
    assert with_default_knobs(space(), none).shape == none.shape


def test_what_fits_nowhere_has_no_plan_for_percentiles():
    """A model of 120 B on two A10G: no plan, and the memory that is missing as the reason."""
    targets = {"percentiles": (PercentileTarget.named("ttft_p95_s", 1.0),)}
    small = make_cluster((("A10G", 2),))
    asked = make_question(small, model="openai/gpt-oss-120b", targets=targets, analytic_only=True)
    outcome = answer(asked, AnalyticPredictor())
    assert not outcome.plans
    assert "weights need" in outcome.rejections[0].reason
