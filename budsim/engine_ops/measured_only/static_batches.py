"""Programs that generate for one static batch: PyTorch, ITREX, SambaFlow, optimum-habana."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from budsim.commons.units import GIB, MICRO
from budsim.engine_ops.engine_profile import Batching, EngineProfile
from budsim.engine_ops.memory_rule import CACHE_GROWS

WITH_GRAPHS: Final = replace(
    CACHE_GROWS,
    context_bytes=4.0 * GIB,
    source="HPU graphs and communication: our estimate",
)

_PYTORCH: Final = EngineProfile(
    name="pytorch",
    batching=Batching.STATIC,
    max_num_batched_tokens=131072,
    max_num_seqs=4096,
    memory_fraction=1.0,
    memory=CACHE_GROWS,
    step_overhead_s=2000 * MICRO,
    block_tokens=1,
    source="A static batch of transformers' generate: one prefill of everything, then lock-step "
    "decode; bounds are those of the batch, chosen by the caller; step overhead: our estimate of "
    "host time per step, regressors correct it",
)

PROFILES: Final = (
    _PYTORCH,
    replace(_PYTORCH, name="itrex", source=f"Intel Extension for Transformers; {_PYTORCH.source}"),
    replace(
        _PYTORCH,
        name="sambaflow",
        source=f"SambaNova SambaFlow, compiled for one batch; {_PYTORCH.source}",
    ),
    replace(
        _PYTORCH,
        name="optimum-habana",
        memory=WITH_GRAPHS,
        step_overhead_s=1000 * MICRO,
        source=f"optimum-habana text-generation; {_PYTORCH.source}",
    ),
    replace(
        _PYTORCH,
        name="deepspeed(optimum-habana)",
        memory=WITH_GRAPHS,
        step_overhead_s=1000 * MICRO,
        source=f"optimum-habana text-generation sharded by DeepSpeed; {_PYTORCH.source}",
    ),
)
