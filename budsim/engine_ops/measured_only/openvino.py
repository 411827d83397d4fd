"""OpenVINO Model Server."""

from __future__ import annotations

from typing import Final

from budsim.commons.precision import Precision
from budsim.commons.units import MICRO
from budsim.engine_ops.engine_profile import Batching, EngineProfile
from budsim.engine_ops.memory_rule import CACHE_GROWS
from budsim.hardware_ops.device import DeviceKind

PROFILES: Final = (
    EngineProfile(
        name="openvino-model-server",
        batching=Batching.MIXED,
        max_num_batched_tokens=256,
        max_num_seqs=256,
        memory_fraction=1.0,
        memory=CACHE_GROWS,
        step_overhead_s=500 * MICRO,
        block_tokens=32,
        # Its INT8 models have 8-bit weights and slow down under load as vector units would.
        multiplied_in=((DeviceKind.CPU, Precision.INT8, Precision.FP32),),
        source="OpenVINO GenAI SchedulerConfig: max_num_batched_tokens 256, max_num_seqs 256, "
        "dynamic_split_fuse on, block 32 on CPU; step overhead: our estimate of host time per "
        "step, regressors correct it",
    ),
)
