"""A model, a device and an engine of round numbers, whose step times a person can work out."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from budsim.commons.precision import Precision
from budsim.engine_ops.engine_profile import Batching, EngineProfile, FirstToken
from budsim.engine_ops.profiles import profiles
from budsim.hardware_ops.device import Device, DeviceKind, Link
from budsim.model_ops.architecture import Architecture
from budsim.model_ops.layers import Attention, AttentionKind, FeedForward, LayerGroup
from budsim.performance.candidates import Candidates
from budsim.performance.physics.attainable import IDEAL
from budsim.performance.physics.batch import Batch, OperatorTime
from budsim.performance.physics.constants import PhysicsConstants
from budsim.performance.physics.operators import StepTime
from budsim.performance.physics.operators import operator_times as times_of
from budsim.performance.physics.operators import step_time as time_of
from budsim.performance.physics.ranks import Ranks, prepare
from tests.performance.populations import population

HIDDEN = 1000
ATTENTION = Attention(
    kind=AttentionKind.FULL, heads=10, kv_heads=10, head_dim=100, value_head_dim=100
)
"""QKV 1000 x 3000 and output 1000 x 1000; 10 x (100 + 100) x 2 = 4,000 bytes of cache a token."""
DENSE = FeedForward(width=3000, gated=False)
"""1000 x 3000 up and 3000 x 1000 down."""
EXPERTS = FeedForward(width=500, gated=False, experts=8, experts_per_token=2)
"""Each of 8 experts 1000 x 500 up and 500 x 1000 down: a million values; the router 8,000."""
LINK = Link(name="test link", bandwidth_bytes_per_s=1e9, domain_devices=8)
DEVICE = Device(
    name="toy",
    kind=DeviceKind.CUDA,
    vendor="toy",
    generation="toy",
    memory_bytes=1e12,
    memory_bandwidth_bytes_per_s=20e9,
    flops_per_s={Precision.BF16: 20e12, Precision.FP8: 40e12},
    compute_units=10,
    scale_up=LINK,
    scale_out=replace(LINK, bandwidth_bytes_per_s=0.5e9),
    tdp_w=1.0,
    price_usd=1.0,
    price_usd_per_h=1.0,
)
"""20 GB/s of memory, 20 TFLOP/s in 16 bit, links of 1 GB/s."""
FREE_HOST = FirstToken(request_s=0.0, steps=0.0)
ENGINE = replace(
    profiles()["vllm"], name="toy", step_overhead_s=0.0, sequence_overhead_s=0.0, multiplied_in=()
)
PREFILL_FIRST = replace(ENGINE, batching=Batching.PREFILL_FIRST)


def model(
    attention: Attention = ATTENTION,
    feed_forward: FeedForward = DENSE,
    layers: int = 1,
    *,
    head: bool = False,
) -> Architecture:
    """Return a model of 10 million values a layer (dense), with a head of 1000 x 1000 if asked."""
    group = LayerGroup(count=layers, attention=attention, feed_forward=feed_forward)
    return Architecture(
        model_id="toy",
        family="toy",
        hidden_size=HIDDEN,
        vocab_size=1000,
        max_context_tokens=100_000,
        layers=(group,),
        native_precision=Precision.BF16,
        is_embedding=not head,
    )


def constants(first_token: FirstToken = FREE_HOST, **kernels: float) -> PhysicsConstants:
    """Return kernels that reach the data sheet and cost nothing besides, but for ``kernels``."""
    return PhysicsConstants(
        kernels={DeviceKind.CUDA: replace(IDEAL, **kernels), DeviceKind.CPU: IDEAL},
        first_token={"toy": first_token},
        processor_kernels={},
    )


def candidates(
    architecture: Architecture | None = None,
    device: Device = DEVICE,
    engine: EngineProfile = ENGINE,
    **columns: object,
) -> Candidates:
    """Return candidates of the toy model on the toy device; columns as those of `population`."""
    columns = {"tp": 1, "memory_fraction": 0.9, **columns}
    table = population(device=device, **columns)  # type: ignore[arg-type]
    return replace(table, architectures=(architecture or model(),), engines=(engine,))


def ranks(
    architecture: Architecture | None = None,
    device: Device = DEVICE,
    engine: EngineProfile = ENGINE,
    *,
    kernels: PhysicsConstants | None = None,
    **columns: object,
) -> Ranks:
    """Return one prepared candidate."""
    return prepare(candidates(architecture, device, engine, **columns), kernels or constants())


def batch(prefill: float = 0.0, decode: float = 0.0, context: float = 0.0) -> Batch:
    """Return one step; every token looks back at ``context`` tokens."""
    seen = np.array([context])
    return Batch(
        prefill=np.array([prefill]),
        decode=np.array([decode]),
        prefill_context=seen,
        decode_context=seen,
        decode_attended=seen,
    )


def operator(prepared: Ranks, name: str, **step: float) -> OperatorTime:
    """Return what one operator adds to a step."""
    return times_of(prepared, batch(**step))[name]


def step(prepared: Ranks, **loads: float) -> StepTime:
    """Return a whole step."""
    each = batch(**loads)
    return time_of(
        prepared,
        prefill=each.prefill,
        decode=each.decode,
        prefill_context=each.prefill_context,
        decode_context=each.decode_context,
    )
