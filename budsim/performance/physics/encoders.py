"""Seconds and bytes of the towers that encode a request's images, video and audio.

Engines run a tower in the step that reads its item's prompt tokens, before the language model. Its
time is spread over all tokens of the prompt, so that a chunk of the prompt, or the part that no
prefix cache holds, takes its share. What the host does before (decoding and resizing images) is
not modelled.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from budsim.model_ops.encoders import EncoderWork, encoder_work
from budsim.performance.candidates import Candidates, Floats, Integers
from budsim.performance.physics.attainable import KernelConstants

# Bytes of a value of the towers: engines run them in 16 bit.
VALUE_BYTES = 2.0
# Vectors of the tower's hidden size alive at the peak of a block: residual, its norm, queries, keys
# and values, and both halves of the feed-forward part (about three hidden sizes each). Our count.
HIDDEN_COPIES = 11.0


@dataclass(frozen=True, slots=True, kw_only=True)
class TowerRates:
    """What the towers of each row run on; arrays of shape (n,), of one device.

    ``launch_s`` is the host's time to launch one block.
    """

    peak_flops_per_s: Floats
    attention_flops_per_s: Floats
    bandwidth: Floats
    launch_s: Floats


def encoder_s_per_token(
    table: Candidates, kernels: KernelConstants[Floats], rates: TowerRates
) -> tuple[Floats, Floats]:
    """Return seconds of the towers for each token of a prompt, shape (n,); 0 for text alone.

    First of a prompt whose items pass alone, then of one among many: engines run the towers once
    for all items of a step, so that these share its launches (vLLM 0.32 ``gpu_model_runner.py``,
    ``_execute_mm_encoder``).
    """
    if table.medium is None:
        return np.zeros(len(table)), np.zeros(len(table))
    works, code = _work_of_rows(table, table.medium)
    computed = encoder_s(works, code, kernels, rates)
    launched = np.array([float(work.layers) for work in works])[code] * rates.launch_s
    return np.maximum(computed, launched) / table.input_tokens, computed / table.input_tokens


def encoder_s(
    works: Sequence[EncoderWork],
    code: Integers,
    kernels: KernelConstants[Floats],
    rates: TowerRates,
) -> Floats:
    """Return seconds of the towers for one request, without launches, shape (n,).

    Their arithmetic, or the time to read their weights if that is longer, and then what is read
    and written between their products. ``code`` says which of ``works`` a row has. A tower of 1e12
    FLOPs on a device that reaches 5e14 FLOP/s takes 2 ms. Tensor-parallel ranks are no
    faster than one: with 2, 4 and 8 of them a tower was measured to take the same time (LMSYS,
    lmsys.org/blog/2026-01-12-epd).
    """

    def column(name: str) -> Floats:
        """Return one figure of each row's work, shape (n,)."""
        return np.array([float(getattr(work, name)) for work in works])[code]

    patches = column("patches")
    reached = kernels.gemm * patches / np.maximum(patches + kernels.half_rows, 1.0)
    products = column("linear_flops") / np.maximum(rates.peak_flops_per_s * reached, 1.0)
    looked_back = patches / np.maximum(patches + kernels.prefill_half_context, 1.0)
    attended = rates.attention_flops_per_s * kernels.prefill_attention * looked_back
    attention = column("attention_flops") / np.maximum(attended, 1.0)
    bytes_per_s = rates.bandwidth * kernels.bandwidth
    computed = np.maximum(products + attention, column("weight_bytes") / bytes_per_s)
    touched = column("touched_bytes") / bytes_per_s
    return np.asarray(computed + touched)


def encoder_bytes(table: Candidates, hidden: Floats) -> tuple[Floats, Floats]:
    """Return the encoder cache of one rank, and the peak of its towers, bytes, shape (n,).

    vLLM holds embeddings of as many tokens as a step takes, or of the largest item, and encodes so
    many at a time (``compute_mm_encoder_budget``).
    """
    if table.medium is None:
        return np.zeros(len(table)), np.zeros(len(table))
    works, code = _work_of_rows(table, table.medium)
    largest = np.array([float(work.largest_item) for work in works])[code]
    tokens = np.maximum(table.token_budget, largest)
    towers = [model.encoders.tower for model in table.architectures]
    outputs = np.array([float(tower.outputs) if tower else 1.0 for tower in towers])[
        table.architecture
    ]
    per_token = np.array(
        [work.patches * work.hidden / max(work.prompt_tokens, 1) for work in works]
    )[code]
    return (
        tokens * hidden * VALUE_BYTES * outputs,
        tokens * per_token * HIDDEN_COPIES * VALUE_BYTES,
    )


def _work_of_rows(table: Candidates, medium: Integers) -> tuple[list[EncoderWork], Integers]:
    """Return the distinct works for one request, and which of them each row has."""
    pairs, code = np.unique(np.stack([table.architecture, medium]), axis=1, return_inverse=True)
    works = []
    for architecture, item in pairs.T.tolist():
        model = table.architectures[architecture]
        works.append(encoder_work(model.encoders, table.media[item], model.model_id))
    return works, np.asarray(code, dtype=np.int64).ravel()
