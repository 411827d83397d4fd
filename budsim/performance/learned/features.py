"""The facts a regressor sees of a candidate: what physics found, and what it cannot know.

All are dimensionless or logarithms.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from budsim.commons.precision import Precision, bytes_per_value
from budsim.engine_ops.engine_profile import Batching
from budsim.performance.candidates import Candidates, Floats, Integers
from budsim.performance.physics.operators import StepTime
from budsim.performance.physics.ranks import Ranks
from budsim.performance.predictions import MemoryUse
from budsim.performance.serving.steady_state import Modelled

# Engines with enough measurements to be told apart; any other is none of them.
ENGINES = (
    "vllm",
    "sglang",
    "trtllm",
    "tgis",
    "llama.cpp",
    "vllm-cpu",
    "deepspeed-mii",
    "atom",
    "optimum-habana",
)

Matrix = NDArray[np.float32]


def feature_names() -> tuple[str, ...]:
    """Return the names of the columns of `feature_matrix`, in order."""
    return NAMES


def feature_matrix(
    ranks: Ranks, memory: MemoryUse, modelled: Modelled, median: Floats | None = None
) -> Matrix:
    """Return the features of each candidate, shape (n, features), float32.

    All are finite but years, which are nan where unknown. ``median`` is 1 where the measured value
    was a median over requests and 0 (the default) where it was a mean.
    """
    rows = len(ranks.candidates)
    reported = np.zeros(rows) if median is None else median
    columns = dict(_columns(ranks, memory, modelled, reported))
    matrix = np.column_stack([columns[name] for name in NAMES])
    return np.nan_to_num(matrix, nan=np.nan, posinf=40.0, neginf=-40.0).astype(np.float32)


def _columns(
    ranks: Ranks, memory: MemoryUse, modelled: Modelled, median: Floats
) -> Iterator[tuple[str, Floats]]:
    yield from _traffic(ranks.candidates, memory, modelled)
    yield from _steps(modelled)
    yield from _model(ranks)
    yield from _hardware(ranks)
    yield from _software(ranks.candidates)
    yield "reports_median", median


def _traffic(
    table: Candidates, memory: MemoryUse, modelled: Modelled
) -> Iterator[tuple[str, Floats]]:
    yield "log_concurrency", _log(table.concurrency)
    yield "log_input", _log(table.input_tokens)
    yield "log_output", _log(table.output_tokens)
    yield "log_input_per_output", _log(table.input_tokens / table.output_tokens)
    yield "running_share", modelled.running / table.concurrency
    yield (
        "log_places",
        _log(
            np.minimum(memory.kv_running_tokens / (table.input_tokens + table.output_tokens), 1e5)
            + 1e-3
        ),
    )
    yield "log_prompt_tokens_in_flight", _log(table.concurrency * table.input_tokens)
    yield (
        "log_prompt_steps_in_flight",
        _log(table.concurrency * table.input_tokens / table.token_budget),
    )
    yield "log_decoding", _log(modelled.tpot_s * table.output_tokens)
    yield "log_chunks", _log(table.input_tokens / np.maximum(modelled.chunk, 1.0))
    yield "is_cold", table.cold_start.astype(np.float64)
    yield "is_static", table.static_batch.astype(np.float64)


def _steps(modelled: Modelled) -> Iterator[tuple[str, Floats]]:
    for name, step in (("decode", modelled.decode), ("mixed", modelled.mixed)):
        for cause, share in _shares(step):
            yield f"{name}_{cause}_share", share
    yield "prefill_share", np.minimum(modelled.prefill_share, 4.0)
    yield "log_decode_step", _log(modelled.decode.total_s)
    yield "log_mixed_over_decode", _log(modelled.mixed.total_s / modelled.decode.total_s)
    yield "log_tpot_over_solo", _log(modelled.tpot_s / modelled.solo_decode_s)
    yield "log_solo_prefill", _log(modelled.solo_prefill_s)
    yield "log_queue_over_service", _log(modelled.queue_s / modelled.service_s)
    yield "log_ttft_over_solo", _log(modelled.ttft_s / modelled.solo_prefill_s)
    yield "log_ttft", _log(modelled.ttft_s)
    yield "log_service", _log(modelled.service_s)
    yield "log_queue", _log(modelled.queue_s)
    yield "log_solo_prefill_over_tpot", _log(modelled.solo_prefill_s / modelled.tpot_s)


def _shares(step: StepTime) -> Iterator[tuple[str, Floats]]:
    total = step.total_s
    yield "weights", step.weights_s / total
    yield "compute", step.compute_s / total
    yield "cache", step.cache_s / total
    yield "link", step.link_s / total


def _model(ranks: Ranks) -> Iterator[tuple[str, Floats]]:
    row, model = ranks.candidates.architecture, ranks.model
    yield "log_active_parameters", _log(model.active_parameters[row])
    yield "log_sparsity", _log(model.active_parameters[row] / model.parameters[row])
    yield "log_hidden", _log(ranks.hidden)
    yield "log_layers", _log(ranks.layers.all)
    yield "log_experts", _log(ranks.experts + 1.0)
    yield "has_latent_cache", model.attention.latent.max(axis=1)[row].astype(np.float64)
    yield "has_state", (ranks.attention.state_bytes > 0).astype(np.float64)
    yield "log_rank_weight_bytes", _log(ranks.weight_bytes)


def _hardware(ranks: Ranks) -> Iterator[tuple[str, Floats]]:
    table = ranks.candidates
    yield "log_flops_per_byte", _log(ranks.attention.peak_flops_per_s / ranks.bandwidth)
    yield "log_bandwidth", _log(ranks.bandwidth)
    yield "log_link_per_bandwidth", _log(ranks.links.group / ranks.bandwidth)
    yield (
        "log_compute_units",
        _log(table.by_device([float(device.compute_units) for device in table.devices])),
    )
    yield "log_cores", _log(table.cores + 1.0)
    yield "compute_share", table.compute_share
    yield "log_tp", _log(table.tp)
    yield "log_pp", _log(table.pp)
    yield "log_ep", _log(table.ep)
    yield "log_dp", _log(table.dp)


def _software(table: Candidates) -> Iterator[tuple[str, Floats]]:
    width = np.array([bytes_per_value(precision) for precision in table.precisions])
    blocked = np.array(
        [float(precision in (Precision.NVFP4, Precision.MXFP4)) for precision in table.precisions]
    )
    native = np.array(
        [[float(device.runs_natively(p)) for p in table.precisions] for device in table.devices]
    )
    yield "weight_bytes_per_value", width[table.weight_precision]
    yield "is_block_scaled", blocked[table.weight_precision]
    yield "cache_bytes_per_value", width[table.kv_precision]
    yield "is_native", native[table.device, table.weight_precision]
    yield "is_speculative", table.speculative.astype(np.float64)
    yield (
        "prefill_first",
        table.by_engine(
            [float(engine.batching is Batching.PREFILL_FIRST) for engine in table.engines]
        ),
    )
    yield "log_admission_steps", _log(table.admission_steps + 1.0)
    yield "stack_year", table.stack_year
    yield "engine_year", table.engine_year
    for name in ENGINES:
        yield (
            f"engine_{name}",
            table.by_engine([float(engine.name == name) for engine in table.engines]),
        )


def _log(values: Floats | Integers) -> Floats:
    return np.asarray(np.log(np.maximum(values, 1e-12)), dtype=np.float64)


# Names of the columns, in order.
NAMES: tuple[str, ...] = (
    *"log_concurrency log_input log_output log_input_per_output running_share log_places".split(),
    "log_prompt_tokens_in_flight",
    *"log_prompt_steps_in_flight log_decoding log_chunks is_cold is_static".split(),
    *(
        f"{step}_{cause}_share"
        for step in ("decode", "mixed")
        for cause in ("weights", "compute", "cache", "link")
    ),
    *"prefill_share log_decode_step log_mixed_over_decode log_tpot_over_solo".split(),
    "log_solo_prefill",
    *"log_queue_over_service log_ttft_over_solo log_ttft".split(),
    *"log_service log_queue".split(),
    "log_solo_prefill_over_tpot",
    *"log_active_parameters log_sparsity log_hidden log_layers log_experts".split(),
    *"has_latent_cache has_state".split(),
    *"log_rank_weight_bytes log_flops_per_byte log_bandwidth log_link_per_bandwidth".split(),
    "log_compute_units",
    *"log_cores compute_share log_tp log_pp log_ep log_dp".split(),
    *"weight_bytes_per_value is_block_scaled cache_bytes_per_value is_native".split(),
    *"is_speculative prefill_first".split(),
    *"log_admission_steps stack_year engine_year".split(),
    *(f"engine_{name}" for name in ENGINES),
    "reports_median",
)
