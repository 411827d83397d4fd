"""What kernels cost beside arithmetic and weights: launches, narrow formats, routed tokens, sparse indexers, first waves."""

from __future__ import annotations

import numpy as np

from budsim.commons.precision import Precision
from budsim.performance.candidates import Candidates
from budsim.performance.physics.memory import memory_use
from budsim.performance.physics.operators import StepTime, step_time
from budsim.performance.physics.ranks import prepare
from budsim.performance.serving.steady_state import steady_state
from tests.performance.populations import population


def step(
    candidates: Candidates, *, prefill: float = 0.0, decode: float = 0.0, context: float = 1024.0
) -> StepTime:
    """Return one step of every candidate."""
    rows = len(candidates)
    full = {
        name: np.full(rows, value) for name, value in (("prefill", prefill), ("decode", decode))
    }
    lengths = {name: np.full(rows, context) for name in ("prefill_context", "decode_context")}
    return step_time(prepare(candidates), **full, **lengths)


def test_narrow_formats_take_longer_to_launch() -> None:
    """FP8 reads half of what bf16 does, but each product first brings its activations to FP8; Hopper multiplies FP4 in bf16."""
    overhead = [
        step(population(precision=p), decode=1.0).overhead_s[0]
        for p in (Precision.BF16, Precision.FP8, Precision.NVFP4)
    ]
    assert overhead[0] < overhead[1]
    assert overhead[0] == overhead[2]


def test_formats_reach_less_of_a_peak_the_narrower_they_are() -> None:
    """A long prompt is faster in FP8 than in bf16 and in FP4 than in FP8, but by less than the data sheet's factor of two."""
    formats = (Precision.BF16, Precision.FP8, Precision.NVFP4)
    seconds = [
        step(population(device="B200-SXM", precision=p), prefill=8192.0).compute_s[0]
        for p in formats
    ]
    assert seconds[0] / 2 < seconds[1] < seconds[0]
    assert seconds[1] / 2 < seconds[2] < seconds[1]


def test_routed_tokens_move_less_where_experts_are_spread() -> None:
    """With tensor parallelism each rank moves every routed token, with expert parallelism an eighth of them."""
    table = population(model="deepseek-ai/DeepSeek-R1", precision=Precision.FP8, ep=[1, 8], tp=8)
    together, spread = step(table, prefill=8192.0).compute_s
    assert spread < together


def test_a_sparse_indexer_costs_each_layer() -> None:
    """DeepSeek V3.2 is V3 with an indexer: its steps take longer over short contexts, where there is nothing to leave out."""
    dense, sparse = (
        step(
            population(model=f"deepseek-ai/DeepSeek-{name}", precision=Precision.FP8), decode=1.0
        ).total_s[0]
        for name in ("V3", "V3.2")
    )
    assert sparse > dense * 1.2


def test_a_benchmarks_first_wave_finds_sglang_unready() -> None:
    """A tenth of the requests in a first wave lengthens SGLang's mean TTFT by about a tenth of a second."""
    table = population(engine="sglang", burst_share=[0.0, 0.1], concurrency=1)
    ranks = prepare(table)
    steady, mean = steady_state(ranks, memory_use(ranks)).ttft_s
    assert 0.05 < mean - steady < 0.2


def test_a_pair_in_a_mesh_has_only_the_links_between_them() -> None:
    """Of eight meshed devices two reduce over one seventh of the links and eight over all; a switch gives two all of theirs."""
    meshed, switched = (
        prepare(population(device=device, tp=[2, 4, 8])).links.group
        for device in ("MI300X", "H100-SXM")
    )
    assert np.allclose(meshed / meshed[-1], [1 / 7, 3 / 7, 1.0])
    assert np.allclose(switched / switched[-1], 1.0)
    pair, ends = (
        prepare(population(device="MI300X", pp=[2], tp=1)),
        prepare(population(device="MI300X", tp=[2])),
    )
    assert pair.links.hop == ends.links.group


def test_a_step_takes_the_host_longer_the_more_sequences_run() -> None:
    """Scheduling and sampling are charged for each running sequence, of each rank where attention is data parallel."""
    alone, shared = (step(population(dp=dp, tp=8), decode=256.0).overhead_s[0] for dp in (1, 8))
    single = step(population(tp=8), decode=8.0).overhead_s[0]
    assert single < shared < alone
