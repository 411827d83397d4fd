"""Step times a person can check: one layer, one device, round numbers.

The toy model (tests/performance/by_hand.py) has 10 million values a layer in 16 bit, hidden size
1000 and 4,000 bytes of cache a token; the device moves 20 GB/s and computes 20 TFLOP/s.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from budsim.commons.precision import Precision
from budsim.hardware_ops.device import DeviceKind
from budsim.model_ops.architecture import Quantization
from budsim.model_ops.layers import AttentionKind
from budsim.performance.physics.attainable import IDEAL
from budsim.performance.physics.operators import p_norm, touched_experts
from tests.performance.by_hand import (
    ATTENTION,
    DEVICE,
    ENGINE,
    EXPERTS,
    FREE_HOST,
    constants,
    model,
    operator,
    ranks,
    step,
)

MS, US = 1e-3, 1e-6


def test_one_token_reads_all_weights() -> None:
    """10e6 values x 2 B = 20 MB at 20 GB/s: 1 ms."""
    assert operator(ranks(), "matrices", decode=1).weights_s == pytest.approx(1 * MS, rel=1e-2)
    assert operator(ranks(), "matrices", decode=1).ideal_traffic_s == pytest.approx(1 * MS)


def test_two_layers_read_twice_the_weights() -> None:
    """20e6 values x 2 B = 40 MB at 20 GB/s: 2 ms."""
    two = operator(ranks(model(layers=2)), "matrices", decode=1)
    assert two.ideal_traffic_s == pytest.approx(2 * MS)


def test_tensor_parallelism_divides_the_weights() -> None:
    """A quarter of 20 MB on each of four ranks at 20 GB/s: 0.25 ms; arithmetic a quarter, too."""
    quarter = operator(ranks(tp=4), "matrices", decode=1000)
    assert quarter.ideal_traffic_s == pytest.approx(0.25 * MS)
    assert quarter.ideal_compute_s == pytest.approx(0.25 * MS)


def test_eight_bit_weights_are_half_the_bytes_and_twice_the_peak() -> None:
    """10e6 x 1 B at 20 GB/s: 0.5 ms; 2 x 10e6 x 1000 FLOP at 40 TFLOP/s: 0.5 ms."""
    narrow = operator(ranks(precision=Precision.FP8), "matrices", decode=1000)
    assert narrow.ideal_traffic_s == pytest.approx(0.5 * MS)
    assert narrow.ideal_compute_s == pytest.approx(0.5 * MS)


def test_a_prompt_multiplies_every_weight_with_every_token() -> None:
    """2 x 10e6 values x 10,000 tokens = 2e11 FLOP at 20 TFLOP/s: 10 ms."""
    assert operator(ranks(), "matrices", prefill=10_000).ideal_compute_s == pytest.approx(10 * MS)


def test_at_the_ridge_neither_ceiling_is_reached() -> None:
    """1000 tokens: 1 ms of arithmetic and 1 ms of traffic are sqrt(1 + 1) ms by exponent 2.

    Half of it counts as weights, half as compute.
    """
    ridge = operator(ranks(kernels=constants(roofline_exponent=2.0)), "matrices", decode=1000)
    assert ridge.weights_s == pytest.approx(0.5 * np.sqrt(2) * MS)
    assert ridge.compute_s == pytest.approx(0.5 * np.sqrt(2) * MS)


def test_four_bit_weights_reach_less_of_the_bandwidth() -> None:
    """10 million values in 0.5625 B at half of 20 GB/s: 0.5625 ms, beside little arithmetic."""
    fast = replace(DEVICE, flops_per_s={Precision.BF16: 1e18, Precision.NVFP4: 1e18})
    prepared = ranks(device=fast, kernels=constants(bandwidth_4bit=0.5), precision=Precision.NVFP4)
    assert operator(prepared, "matrices", decode=1).weights_s == pytest.approx(0.5625 * MS)


def test_few_rows_reach_half_of_a_products_share() -> None:
    """100,000 rows take 100 ms; where so many rows reach half of the share, 200 ms."""
    half = operator(ranks(kernels=constants(half_rows=1e5)), "matrices", prefill=1e5)
    assert half.compute_s + half.weights_s == pytest.approx(200 * MS, rel=1e-6)


def test_shares_of_a_data_sheet_lengthen_what_they_concern() -> None:
    """Half of the bandwidth: 2 ms for 20 MB; a quarter of the peak: 40 ms for 2e11 FLOP."""
    slow = ranks(kernels=constants(bandwidth=0.5, gemm=0.25))
    assert operator(slow, "matrices", decode=1).weights_s == pytest.approx(2 * MS, rel=1e-2)
    prompt = operator(slow, "matrices", prefill=10_000)
    assert prompt.weights_s + prompt.compute_s == pytest.approx(40 * MS, rel=1e-3)


def test_only_sampled_tokens_meet_the_head() -> None:
    """A prompt of 1000 tokens: 2 x 10e6 x 1000 FLOP in the layer and 2 x 1e6 x 1 in the head.

    That is 20,002e6 FLOP at 20 TFLOP/s: 1.0001 ms. 1000 sequences: 22e9 FLOP, 1.1 ms.
    """
    with_head = ranks(model(head=True))
    prompt, sequences = (
        operator(with_head, "matrices", **{name: 1000}).ideal_compute_s
        for name in ("prefill", "decode")
    )
    assert prompt == pytest.approx(1.0001 * MS)
    assert sequences == pytest.approx(1.1 * MS)


def test_one_token_reads_the_experts_it_visits() -> None:
    """Attention 4e6 values, router 8,000, two of eight experts 2e6: 6,008,000 x 2 B at 20 GB/s.

    That is 0.6008 ms.
    """
    visited = operator(ranks(model(feed_forward=EXPERTS)), "matrices", decode=1)
    assert visited.ideal_traffic_s == pytest.approx(0.6008 * MS)
    assert visited.ideal_compute_s == pytest.approx(0.6008 * US)


def test_more_tokens_touch_more_experts() -> None:
    """8 x (1 - (1 - 2/8)**T): one token reaches 2 experts, two reach 3.5, very many all 8."""
    experts, per_token = np.full(3, 8.0), np.full(3, 2.0)
    touched = touched_experts(experts, per_token, np.array([1.0, 2.0, 1000.0]))
    assert touched == pytest.approx([2.0, 3.5, 8.0])


def test_tokens_are_moved_to_their_experts() -> None:
    """1000 tokens x 2 experts x 1000 values x 10 B = 20 MB at 20 GB/s: 1 ms.

    Over ep 4 a quarter.
    """
    kernels = constants(expert_traffic=10.0)
    one, four = (
        operator(
            ranks(model(feed_forward=EXPERTS), kernels=kernels, tp=ep, ep=ep),
            "routed experts",
            prefill=1000,
        ).compute_s
        for ep in (1, 4)
    )
    assert one == pytest.approx(1 * MS)
    assert four == pytest.approx(0.25 * MS)


def test_a_layer_passes_activations_fourteen_times() -> None:
    """14 passes x 2 B x 1000 values x 1000 tokens x 1 layer = 28 MB at 20 GB/s: 1.4 ms."""
    assert operator(ranks(), "activations", prefill=1000).compute_s == pytest.approx(1.4 * MS)


def test_attention_ranks_divide_the_activations() -> None:
    """Two data-parallel attention ranks pass half of the tokens each: 0.7 ms of 1.4."""
    halved = operator(ranks(tp=2, dp=2), "activations", prefill=1000)
    assert halved.compute_s == pytest.approx(0.7 * MS)


def test_running_sequences_read_their_cache() -> None:
    """10 sequences x 1000 tokens x 4,000 B = 40 MB at 20 GB/s: 2 ms."""
    read = operator(ranks(), "decode attention", decode=10, context=1000)
    assert read.cache_s == pytest.approx(2 * MS)


def test_running_sequences_multiply_their_cache() -> None:
    """10 sequences x 1000 tokens x 2 x 10 heads x (100 + 100) = 40e6 FLOP at 20 TFLOP/s: 2 us."""
    read = operator(ranks(), "decode attention", decode=10, context=1000)
    assert read.ideal_compute_s == pytest.approx(2 * US)


def test_a_window_bounds_what_is_read() -> None:
    """A window of 100 of 1000 tokens: a tenth of 2 ms."""
    windowed = replace(ATTENTION, kind=AttentionKind.SLIDING, window=100)
    read = operator(ranks(model(windowed)), "decode attention", decode=10, context=1000)
    assert read.cache_s == pytest.approx(0.2 * MS)


def test_key_heads_are_repeated_once_ranks_outnumber_them() -> None:
    """Two key heads leave 800 B a token; each of four ranks holds one: 400 B, not 200.

    10 sequences x 1000 tokens x 400 B = 4 MB at 20 GB/s: 0.2 ms.
    """
    grouped = model(replace(ATTENTION, kv_heads=2, heads=8))
    read = operator(ranks(grouped, tp=4), "decode attention", decode=10, context=1000)
    assert read.ideal_traffic_s == pytest.approx(0.2 * MS)


def test_a_latent_cache_is_whole_on_every_rank() -> None:
    """A latent of 400 + 100 values x 2 B = 1,000 B a token, on one rank as on four.

    10 sequences x 1000 tokens x 1,000 B = 10 MB at 20 GB/s: 0.5 ms.
    """
    latent = replace(ATTENTION, kind=AttentionKind.MLA, kv_lora_rank=400, rope_head_dim=100)
    for tp in (1, 2):
        read = operator(ranks(model(latent), tp=tp), "decode attention", decode=10, context=1000)
        assert read.ideal_traffic_s == pytest.approx(0.5 * MS)


def test_a_linear_layer_reads_and_writes_its_state() -> None:
    """10 heads x 100 x 100 values in fp32, read and written: 100,000 x 8 B a sequence.

    10 sequences: 8 MB at 20 GB/s: 0.4 ms, however long they are.
    """
    linear = model(replace(ATTENTION, kind=AttentionKind.LINEAR))
    for context in (10, 1000):
        read = operator(ranks(linear), "decode attention", decode=10, context=context)
        assert read.cache_s == pytest.approx(0.4 * MS)


def test_a_sparse_indexer_searches_every_token() -> None:
    """An index key of 100 B a token is read beside the 1,000 tokens chosen of 10,000.

    Ten sequences read 10 x (1000 x 4,200 B + 10,000 x 100 B) = 52 MB at 20 GB/s: 2.6 ms. The key,
    in the cache's 16 bit, is part of its 4,200 B.
    """
    sparse = model(replace(ATTENTION, index_heads=1, index_head_dim=100, index_topk=1000))
    read = operator(ranks(sparse), "decode attention", decode=10, context=10_000)
    assert read.ideal_traffic_s == pytest.approx(2.6 * MS)


def test_prompts_look_back_at_half_of_themselves() -> None:
    """1000 tokens x 500 before x 2 x 10 heads x (100 + 100) = 2e9 FLOP at 20 TFLOP/s: 0.1 ms.

    Kernels that reach half of the peak take 0.2 ms.
    """
    kernels = constants(prefill_attention=0.5)
    seen = operator(ranks(kernels=kernels), "prefill attention", prefill=1000, context=500)
    assert seen.ideal_compute_s == pytest.approx(0.1 * MS)
    assert seen.compute_s == pytest.approx(0.2 * MS)


def test_prompts_reach_more_of_the_peak_the_farther_they_look_back() -> None:
    """Half of it at 500 tokens: 0.1 ms of arithmetic take 0.2 ms, and 0.9 ms at 4,500 take 1 ms."""
    kernels = constants(prefill_half_context=500.0)
    times = [
        operator(ranks(kernels=kernels), "prefill attention", prefill=1000, context=context)
        for context in (500, 4500)
    ]
    assert [each.compute_s[0] for each in times] == pytest.approx([0.2 * MS, 1 * MS])
    assert [each.ideal_compute_s[0] for each in times] == pytest.approx([0.1 * MS, 0.9 * MS])


def test_what_lies_between_products_is_no_part_of_attention() -> None:
    """A factor of prompts of 1.25, which its step grows by, leaves 0.2 ms of attention as long."""
    kernels = constants(prefill_attention=0.5, prompt_factor=1.25)
    seen = operator(ranks(kernels=kernels), "prefill attention", prefill=1000, context=500)
    assert 1.25 * seen.compute_s == pytest.approx(0.2 * MS)


def test_prompts_of_sparse_models_reach_their_own_share() -> None:
    """The 0.1 ms of such a prompt take 0.2 ms at half of the peak, and 2 ms at a tenth of that.

    The indexer's 1000 x 500 x 2 x 100 = 1e8 FLOP are a twentieth of 0.2 ms on top.
    """
    kernels = constants(prefill_attention=0.5, sparse_prefill=0.1)
    sparse = model(replace(ATTENTION, index_heads=1, index_head_dim=100, index_topk=1000))
    seen = operator(ranks(sparse, kernels=kernels), "prefill attention", prefill=1000, context=500)
    assert seen.compute_s == pytest.approx(2.0 * MS + 0.01 * MS)


def test_prompts_pass_through_the_state_of_gated_delta_networks() -> None:
    """1000 tokens x 3 passes x 2 x 10 heads x 100 x 100 = 6e8 FLOP at 20 TFLOP/s: 0.03 ms.

    Kernels that reach a tenth take 0.3 ms; two ranks share the heads. Mamba-2 counts as none.
    """
    kernels = constants(linear_prefill=0.1)
    linear = replace(ATTENTION, kind=AttentionKind.LINEAR)
    one, two = (ranks(model(linear), kernels=kernels, tp=tp) for tp in (1, 2))
    seen = operator(one, "linear prompts", prefill=1000)
    assert seen.ideal_compute_s == pytest.approx(0.03 * MS)
    assert seen.compute_s == pytest.approx(0.3 * MS)
    assert operator(two, "linear prompts", prefill=1000).compute_s == pytest.approx(0.15 * MS)
    mamba = ranks(model(replace(linear, gates_per_head=1)), kernels=kernels)
    assert operator(mamba, "linear prompts", prefill=1000).compute_s == 0.0


def test_attention_ranks_divide_sequences_but_not_weights() -> None:
    """Two attention ranks: each reads the cache of 5 of 10 sequences, 20 MB, and all 4e6 weights.

    Attention weights 8 MB whole, feed-forward 12 MB halved: 14 MB at 20 GB/s: 0.7 ms.
    """
    parted = ranks(tp=2, dp=2)
    read = operator(parted, "decode attention", decode=10, context=1000)
    assert read.cache_s == pytest.approx(1 * MS)
    assert operator(parted, "matrices", decode=1).ideal_traffic_s == pytest.approx(0.7 * MS)


def test_layers_cost_time_besides() -> None:
    """Three layers of 20 us; with prompts 50 us more each: 60 us and 210 us."""
    prepared = ranks(
        model(layers=3), kernels=constants(layer_latency_s=20e-6, prefill_latency_s=50e-6)
    )
    assert operator(prepared, "layers", decode=1).overhead_s == pytest.approx(60 * US)
    assert operator(prepared, "layers", prefill=1).overhead_s == pytest.approx(210 * US)


def test_eager_mode_launches_every_kernel_of_a_decode_step() -> None:
    """Three layers of 20 us, and 50 us each without captured graphs: 60 us, eager 210 us.

    A step with prompts has no graph either way.
    """
    kernels = constants(layer_latency_s=20e-6, prefill_latency_s=50e-6)
    for eager, decode, prompt in ((False, 60, 210), (True, 210, 210)):
        prepared = ranks(model(layers=3), kernels=kernels, eager=eager)
        assert operator(prepared, "layers", decode=1).overhead_s == pytest.approx(decode * US)
        assert operator(prepared, "layers", prefill=1).overhead_s == pytest.approx(prompt * US)


def test_no_eager_step_is_shorter_than_the_hosts_launches() -> None:
    """One token of three layers reads 60 MB in 3 ms; the host launches a layer in 2 ms: 6 ms.

    An engine that never captures graphs is always eager.
    """
    kernels = constants(replace(FREE_HOST, prompt_launch_s=2e-3))
    never = replace(ENGINE, captures_graphs=False)
    for engine, eager, milliseconds in ((ENGINE, False, 3), (ENGINE, True, 6), (never, False, 6)):
        prepared = ranks(model(layers=3), engine=engine, kernels=kernels, eager=eager)
        assert step(prepared, decode=1).total_s[0] == pytest.approx(milliseconds * 1e-3, rel=1e-2)


def test_experts_in_four_bit_are_converted_in_their_own_time() -> None:
    """A layer of experts waits 10 us for 8 bit activations, and 4 us for those in 4."""
    device = replace(
        DEVICE,
        flops_per_s={**DEVICE.flops_per_s, Precision.NVFP4: DEVICE.flops_per_s[Precision.FP8]},
    )
    kernels = constants(narrow_experts_latency_s=10e-6, short_experts_latency_s=4e-6)
    experts = model(feed_forward=EXPERTS)
    found = [
        operator(ranks(experts, device, kernels=kernels, precision=each), "layers").overhead_s
        for each in (Precision.BF16, Precision.FP8, Precision.NVFP4)
    ]
    assert np.ravel(found) == pytest.approx([0.0, 10 * US, 4 * US])


def test_each_product_is_launched() -> None:
    """QKV, output, up and down at 5 us: 20 us; in 8 bit 1 us more for each: 24 us.

    Where scales belong to blocks, 3 us more for each: 32 us.
    """
    blocks = replace(
        model(), quantization=Quantization(method="fp8", precision=Precision.FP8, block=128)
    )
    kernels = constants(gemm_latency_s=5e-6, narrow_gemm_latency_s=3e-6, scaled_gemm_latency_s=1e-6)
    found = [
        operator(ranks(each, kernels=kernels, precision=stored), "layers", decode=1).overhead_s
        for each, stored in (
            (model(), Precision.BF16),
            (model(), Precision.FP8),
            (blocks, Precision.FP8),
        )
    ]
    assert np.ravel(found) == pytest.approx([20 * US, 24 * US, 32 * US])


def test_experts_are_launched_together() -> None:
    """QKV, output and router at 5 us, all experts of the layer at 40 us: 55 us."""
    kernels = constants(gemm_latency_s=5e-6, moe_latency_s=40e-6)
    launched = operator(ranks(model(feed_forward=EXPERTS), kernels=kernels), "layers", decode=1)
    assert launched.overhead_s == pytest.approx(55 * US)


def test_the_host_schedules_steps_and_sequences() -> None:
    """600 us a step and 10 us for each of 8 sequences: 680 us; over two attention ranks 640 us."""
    engine = replace(ENGINE, step_overhead_s=600e-6, sequence_overhead_s=10e-6)
    one, two = (
        operator(ranks(engine=engine, tp=dp, dp=dp), "host", decode=8).overhead_s for dp in (1, 2)
    )
    assert one == pytest.approx(680 * US)
    assert two == pytest.approx(640 * US)


def test_a_processors_cores_meet_in_every_layer() -> None:
    """10 cores x 2 us, 100 prompt tokens x 1 us and 10 sequences x 3 us a layer: 150 us."""
    kernels = constants(core_latency_s=2e-6, prompt_latency_s=1e-6, sequence_latency_s=3e-6)
    cores = operator(ranks(kernels=kernels), "cores", prefill=100, decode=10)
    assert cores.overhead_s == pytest.approx(150 * US)


def test_heads_in_turn_keep_eight_cores_busy() -> None:
    """8 sequences, 16 cores, of which a head's 8 tiles occupy half: 10 heads x 1000 x 1 ns / 2."""
    prepared = ranks(
        device=replace(DEVICE, compute_units=16), kernels=constants(head_latency_s=1e-9)
    )
    assert operator(prepared, "cores", decode=8, context=1000).overhead_s == pytest.approx(5 * US)
    assert operator(prepared, "cores", decode=1, context=1000).overhead_s == 0.0


def test_half_of_the_cores_reach_more_than_half_of_the_bandwidth() -> None:
    """5 of 10 cores: half of the arithmetic; with a reach of 1.5, 15 of 20 GB/s.

    Weights of 20 MB take 1.33 ms.
    """
    processor = replace(DEVICE, kind=DeviceKind.CPU, generation="cpu")
    kernels = replace(constants(), kernels={DeviceKind.CPU: replace(IDEAL, core_reach=1.5)})
    bound = operator(ranks(device=processor, kernels=kernels, cores=5), "matrices", decode=1000)
    assert bound.ideal_traffic_s == pytest.approx(20 / 15 * MS)
    assert bound.ideal_compute_s == pytest.approx(2 * MS)


def test_a_time_slice_divides_arithmetic_and_bandwidth() -> None:
    """A quarter of the device: 4 ms instead of 1 ms for both."""
    slice_ = operator(ranks(compute_share=0.25), "matrices", decode=1000)
    assert slice_.ideal_traffic_s == pytest.approx(4 * MS)
    assert slice_.ideal_compute_s == pytest.approx(4 * MS)


def test_a_step_is_the_sum_of_its_operators() -> None:
    """10 sequences of 1000 tokens.

    1 ms weights, 2 ms cache, 10 us of launches, activations 14 us.
    """
    whole = step(ranks(kernels=constants(layer_latency_s=10e-6)), decode=10, context=1000)
    assert whole.total_s == pytest.approx(3.024 * MS, rel=1e-4)
    assert whole.ceiling_s == pytest.approx(3 * MS)


def test_traffic_hides_what_else_a_step_does() -> None:
    """3 ms of traffic and 4 ms of launches are 5 ms by exponent 2, and 7 ms one after the other."""
    apart, hidden = (
        step(
            ranks(kernels=constants(layer_latency_s=4e-3 - 14e-6, overlap_exponent=exponent)),
            decode=10,
            context=1000,
        ).total_s
        for exponent in (1.0, 2.0)
    )
    assert apart == pytest.approx(7 * MS, rel=1e-3)
    assert hidden == pytest.approx(5 * MS, rel=1e-3)


def test_the_norm_of_two_times() -> None:
    """3 and 4 are 5 by exponent 2 and 7 by exponent 1; 4 and nothing are 4 by any."""
    three, four, exponents = np.full(3, 3.0), np.full(3, 4.0), np.array([2.0, 1.0, 9.0])
    assert p_norm(three, four, exponents)[:2] == pytest.approx([5.0, 7.0])
    assert p_norm(np.zeros(3), four, exponents) == pytest.approx([4.0, 4.0, 4.0])
