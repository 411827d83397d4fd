"""When KV caches can be handed from prefill workers to decode workers."""

from __future__ import annotations

from typing import Final

from budsim.hardware_ops.device import Device, DeviceKind
from budsim.model_ops.architecture import Architecture
from budsim.model_ops.layers import AttentionKind

# NIXL, RIXL and Mooncake register the memory of GPUs of these kinds (vLLM docs, NixlConnector usage
# guide; SGLang docs, PD disaggregation).
KINDS: Final = frozenset({DeviceKind.CUDA, DeviceKind.ROCM})
# Generations on which an engine picks the same attention backend, so that caches are laid out alike
# (vLLM refuses others: NixlConnector compatibility matrix). FlashAttention serves all of these.
_ALIKE: Final = frozenset({"sm80", "sm86", "sm89", "sm90"})


def why_no_pools(
    engine: str, architecture: Architecture, prefill: Device, decode: Device
) -> str | None:
    """Return why a worker on ``decode`` cannot take over caches of one on ``prefill``, or None."""
    return _why_not_model(architecture) or _why_not_devices(engine, prefill, decode)


def _why_not_model(architecture: Architecture) -> str | None:
    name = architecture.model_id
    if architecture.is_embedding or architecture.is_bidirectional:
        return f"{name} generates no tokens: there is nothing to decode"
    if architecture.encoder_layers or architecture.reads_encoder:
        return f"{name} has an encoder, whose cache the engines do not transfer"
    return None


def _why_not_devices(engine: str, prefill: Device, decode: Device) -> str | None:
    for device in (prefill, decode):
        if device.kind not in KINDS:
            return f"{engine} transfers KV caches between CUDA or ROCm devices, not {device.name}"
    if prefill.kind is not decode.kind:
        return f"{engine} transfers no KV caches from {prefill.name} to {decode.name}"
    pair = {prefill.generation, decode.generation}
    if len(pair) > 1 and not pair <= _ALIKE:
        both = f"{prefill.name} and {decode.name}"
        return f"{engine} lays out KV caches differently on {both}, and transfers none between them"
    return None


def transfers_whole_state(architecture: Architecture) -> bool:
    """Return whether a recurrent state is handed over too: rank by rank, as it is stored.

    vLLM docs, NixlConnector compatibility matrix: hybrid models need equal TP in both pools.
    """
    return architecture.state_bytes_per_sequence() > 0


def why_no_prefill_pipelines(engine: str, architecture: Architecture) -> str | None:
    """Return why stages of a pipeline cannot hand over what they read of a prompt, or None.

    vLLM 0.32's decode workers read layers from all stages (``mooncake/mooncake_connector.py``),
    SGLang's stages send them by their numbers (0.5.23, ``disaggregation/common/conn.py``). Nobody
    documents recurrent states and sliding windows beside pipelines.
    """
    name = architecture.model_id
    if transfers_whole_state(architecture):
        return f"{engine} is not known to hand over a recurrent state ({name}) from pipelines"
    if has_windows(architecture):
        return (
            f"handing over sliding windows ({name}) from the stages of a pipeline is not modelled"
        )
    return None


def has_windows(architecture: Architecture) -> bool:
    """Return whether layers with sliding windows have caches of their own, which MLA has not."""
    kinds = {group.attention.kind for group in architecture.layers}
    return AttentionKind.SLIDING in kinds and AttentionKind.MLA not in kinds
