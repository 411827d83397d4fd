"""Genomes that spell deployments: which are legal, how many there are, and what each one spells."""

from dataclasses import replace

import numpy as np
import pytest

from budsim.simulator.planning.genome import SearchSpace
from budsim.simulator.planning.question import FixedKnobs
from tests.benchmarks.spaces import LIMIT, make_space, space_of
from tests.simulator.situations import make_cluster, make_question
from tests.simulator.test_evolution import SMALL, SPACES


@pytest.mark.parametrize("name", SPACES)
def test_legal_genomes_are_counted_without_being_listed(name):
    """A space's count is the number of its legal genomes."""
    assert space_of(name).count == len(space_of(name).all_genomes(LIMIT))


def test_all_legal_genomes_are_their_own_repair():
    """Repair leaves legal genomes as they are, and turns any other into a legal one."""
    space = space_of(SMALL)
    legal = space.all_genomes(LIMIT)
    assert np.array_equal(space.repair(legal), legal)
    strange = space.repair(
        np.random.default_rng(0).integers(0, space.sizes, size=(500, len(space.sizes)))
    )
    assert {tuple(row) for row in strange.tolist()} <= {tuple(row) for row in legal.tolist()}


def test_attention_is_split_where_experts_are_shared_only():
    """DeepSeek-V3 may split its attention on GPUs, never in a pipeline.

    A dense model never does.
    """
    space = space_of("DeepSeek-V3, H200")
    choices = space.decode(space.all_genomes(LIMIT))
    assert set(choices.dp.tolist()) == {1, 2, 4, 8, 16}
    assert (choices.tp % choices.dp == 0).all()
    assert (choices.dp[choices.pp > 1] == 1).all()
    assert (space_of(SMALL).decode(space_of(SMALL).all_genomes(LIMIT)).dp == 1).all()


def test_adapters_leave_one_attention_rank_or_all():
    """DeepSeek-V3 with adapters on H200: what vLLM starts, counted as it is listed."""
    plain = space_of("DeepSeek-V3, H200")
    options = [replace(option, max_loras=1) for option in plain.options]
    space = SearchSpace(options, plain.scoring.question)
    genomes = space.all_genomes(LIMIT)
    choices = space.decode(genomes)
    assert ((choices.dp == 1) | (choices.dp == choices.tp)).all()
    assert (choices.dp > 1).any()
    assert space.count == len(genomes)


def wide_space() -> SearchSpace:
    """Return the space of DeepSeek-R1 on two nodes of eight H100, best estimates compared."""
    cluster = make_cluster((("H100-SXM", 8),), (("H100-SXM", 8),))
    question = make_question(cluster, model="deepseek-ai/DeepSeek-R1", engines=frozenset({"vllm"}))
    return make_space(question)


def test_experts_are_spread_over_nodes_and_attention_is_not():
    """Sixteen devices of two nodes share experts, and each attention rank stays in a node."""
    space = wide_space()
    choices = space.decode(space.all_genomes(LIMIT))
    wide = choices.tp == 16
    assert wide.any()
    assert set(choices.ep[wide].tolist()) == {16}
    assert set(choices.dp[wide].tolist()) == {2, 4, 8, 16}
    assert set(choices.pp[wide].tolist()) == {1}
    assert space.count == len(choices.tp)


def test_a_dense_model_is_not_spread_over_a_network():
    """A 70B model on two nodes of H100 is split over eight devices at most."""
    cluster = make_cluster((("H100-SXM", 8),), (("H100-SXM", 8),))
    space = make_space(make_question(cluster, model="meta-llama/Llama-3.1-70B-Instruct"))
    assert max(max(option.tp) for option in space.options) == 8


def test_whoever_starts_engines_himself_is_offered_no_group_over_nodes():
    """A deployer that sets limits by itself starts one process for a replica's tensor ranks."""
    cluster = make_cluster((("H100-SXM", 8),), (("H100-SXM", 8),))
    question = make_question(cluster, model="deepseek-ai/DeepSeek-R1")
    knobs = FixedKnobs(memory_fraction=0.95, engines=frozenset({"vllm"}))
    space = make_space(replace(question, fixed_knobs=knobs))
    assert max(max(option.tp) for option in space.options) == 8


def test_a_space_under_another_load_is_that_of_the_question_under_it():
    """Numbers of replicas, sizes, count and what genomes spell are those of a space made anew."""
    space = space_of(SMALL)
    question = space.scoring.question.with_concurrency(7)
    moved, made = space.under(question), SearchSpace(space.options, question)
    assert (moved.sizes, moved.count) == (made.sizes, made.count) != (space.sizes, space.count)
    assert moved.replicas.tolist() == made.replicas.tolist()
    genomes = made.repair(space.first_genomes(50))
    assert np.array_equal(moved.repair(genomes), genomes)
    assert np.array_equal(moved.decode(genomes).concurrency, made.decode(genomes).concurrency)
