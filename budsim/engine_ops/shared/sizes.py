"""Over how many ranks a model can be spread: tensor, pipeline, expert and attention ranks.

vLLM and SGLang alike split query heads, split or repeat key-value heads evenly, pad vocabularies,
and cut weights that share a scale by blocks between blocks only.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from budsim.model_ops.architecture import Architecture, Quantization
from budsim.model_ops.layers import Attention, AttentionKind
from budsim.model_ops.matrices import Matrix, MatrixRole, Shard

# Checkpoints whose experts may be cut inside a group (vLLM's moe_wna16 halves groups).
_METHODS_CUTTING_EXPERTS: Final = frozenset({"awq", "gptq", "auto_round"})


def why_not_tp(architecture: Architecture, tp: int, ep: int = 1) -> str | None:
    """Return why ``tp`` ranks cannot share the model's heads and layers evenly, or None.

    With ``ep`` ranks over the experts each expert stays that much wider.
    """
    for group in (*architecture.encoder_layers, *architecture.layers):
        problem = _head_problem(group.attention, tp)
        if problem:
            return problem
        feed_forward = group.feed_forward
        if feed_forward and not feed_forward.experts and feed_forward.width % tp:
            return f"{tp} ranks do not divide the feed-forward width {feed_forward.width}"
    return _block_problem(architecture, tp, ep) or _group_problem(architecture, tp, ep)


def tp_sizes(
    architecture: Architecture, devices: int, *, spreads_experts: bool = False
) -> tuple[int, ...]:
    """Return the tensor-parallel sizes up to ``devices`` that divide the model, ascending.

    Some of them only with experts spread.
    """
    sizes = range(1, devices + 1)
    return tuple(tp for tp in sizes if ep_sizes(architecture, tp, supported=spreads_experts))


def ep_sizes(architecture: Architecture, tp: int, *, supported: bool) -> tuple[int, ...]:
    """Return over how many ranks experts may be spread: 1 (each is split), all ``tp``, or none."""
    sizes = (1, tp) if supported and architecture.is_moe and tp > 1 else (1,)
    return tuple(ep for ep in sizes if why_not_tp(architecture, tp, ep) is None)


def pp_sizes(architecture: Architecture, devices: int, *, supported: bool) -> tuple[int, ...]:
    """Return the pipeline sizes up to ``devices``, at least one layer a stage, ascending.

    (1,) unless ``supported``.
    """
    deepest = max(1, min(devices, architecture.layer_count))
    return tuple(range(1, deepest + 1)) if supported else (1,)


def dp_sizes(architecture: Architecture, tp: int, *, supported: bool) -> tuple[int, ...]:
    """Return in how many attention ranks ``tp`` devices may be split, ascending.

    They share the experts. Dense models have one, and families whose attention the engine cannot
    hold on ranks of its own.
    """
    if not (supported and architecture.is_moe):
        return (1,)
    return tuple(dp for dp in range(1, tp + 1) if tp % dp == 0)


def _head_problem(attention: Attention, tp: int) -> str | None:
    if attention.heads % tp:
        return f"{tp} ranks do not divide {attention.heads} attention heads"
    if attention.kind is AttentionKind.MLA:
        return None
    kv_heads = attention.kv_heads
    if kv_heads % tp and tp % kv_heads:
        return f"{tp} ranks neither divide nor repeat {kv_heads} key-value heads evenly"
    if attention.kind is AttentionKind.LINEAR and kv_heads % tp:
        return f"{tp} ranks do not divide {kv_heads} key heads of linear attention"
    return None


def _block_problem(architecture: Architecture, tp: int, ep: int) -> str | None:
    """Return which matrix ``tp`` ranks would cut through a block of weights that share a scale.

    Matrices narrower than a block stay in 16 bit. vLLM 0.32.0 (validate_fp8_block_shape) and
    SGLang 0.5.23 (Fp8LinearMethod, Fp8MoEMethod) refuse to start. vLLM's Triton kernels for
    experts take finer scales made from the blocks' on loading; other kernels do not, so this is
    not relied upon.
    """
    quantization = architecture.quantization
    if quantization is None or not quantization.block:
        return None
    block = quantization.block
    for matrix, ranks in _divided(architecture, quantization, tp, ep):
        by_row = matrix.shard is Shard.ROW
        width = matrix.inputs if by_row else matrix.outputs - matrix.kv_outputs
        if width > block and width % (ranks * block):
            cut = f"{tp} ranks cut {matrix.name} of {width}"
            return f"{cut} through blocks of {block} that share a scale"
    return None


def _group_problem(architecture: Architecture, tp: int, ep: int) -> str | None:
    """Return which matrix ``tp`` ranks would cut through a group of integers that share a scale.

    Groups lie along the inputs, which only row-parallel matrices split. vLLM 0.32.0
    (verify_group_size_divides_partition, compressed_tensors_moe_wna16.py) and SGLang 0.5.23 refuse
    to start. Experts of AWQ and GPTQ checkpoints have a kernel (moe_wna16) that takes such cuts.
    """
    quantization = architecture.quantization
    if quantization is None or not quantization.group:
        return None
    group = quantization.group
    cuts_experts = quantization.method in _METHODS_CUTTING_EXPERTS
    for matrix, ranks in _divided(architecture, quantization, tp, ep):
        if matrix.shard is not Shard.ROW or (matrix.role is MatrixRole.EXPERT and cuts_experts):
            continue
        if matrix.inputs > group and matrix.inputs % (ranks * group):
            cut = f"{tp} ranks cut {matrix.name} of {matrix.inputs}"
            return f"{cut} through groups of {group} that share a scale"
    return None


def _divided(
    architecture: Architecture, quantization: Quantization, tp: int, ep: int
) -> Iterator[tuple[Matrix, int]]:
    """Yield the quantized matrices that ranks divide, and among how many ranks each is."""
    for _, matrix in architecture.weights:
        # Experts spread over ranks are whole on each: only the ranks left over divide them.
        ranks = tp // ep if matrix.role is MatrixRole.EXPERT else tp
        if ranks > 1 and matrix.shard is not Shard.REPLICATED and not quantization.keeps(matrix):
            yield matrix, ranks
