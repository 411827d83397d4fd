"""Genomes that spell deployments: which are legal, how many there are, and what each one spells."""

from dataclasses import replace

import numpy as np
import pytest

from budsim.simulator.planning.genome import SearchSpace
from tests.benchmarks.spaces import LIMIT, space_of
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
    assert set(choices.dp.tolist()) == {1, 2, 4, 8}
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
