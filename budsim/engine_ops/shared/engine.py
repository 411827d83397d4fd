"""What every serving engine does alike once its facts lie in tables; vLLM and SGLang use it."""

from __future__ import annotations

from collections.abc import Mapping

from budsim.commons.precision import Precision
from budsim.engine_ops.base import ArgumentValue, Knob, Metadata, Stage
from budsim.engine_ops.engine_profile import EngineProfile
from budsim.engine_ops.llmc import served_architecture
from budsim.engine_ops.memory_rule import VersionedRules
from budsim.engine_ops.metrics import ServerMetrics
from budsim.engine_ops.pool_router import PoolRouter
from budsim.engine_ops.shared import formats, pools, sizes
from budsim.engine_ops.shared.families import (
    family_of,
    min_batched_tokens,
    splits_attention,
    spreads_experts,
    why_not_family,
)
from budsim.engine_ops.shared.parsers import metadata_of
from budsim.hardware_ops.device import Device, DeviceKind
from budsim.model_ops.architecture import Architecture


class TableEngine:
    """A serving engine whose facts are the tables in its folder.

    A subclass sets the attributes and adds ``launch``, ``adapters`` and ``launch_process``.

    Attributes
    ----------
    name, version : str
        As `Engine` has them; ``name`` is also the name of the folder.
    metrics : ServerMetrics
        What a running server exports.
    all_knobs : tuple of Knob
        Knobs on every kind of hardware.
    profiles : tuple of EngineProfile
        Profiles by the names measurements spell, the usual one first.
    profiles_by_kind : mapping
        Profiles on hardware with defaults of its own.
    memory_rules : mapping
        How versions of its builds divide a device, newest first.
    pool_router : PoolRouter
        The router before pools of its workers.
    """

    name: str
    version: str
    stage = Stage.SERVE
    metrics: ServerMetrics
    all_knobs: tuple[Knob, ...]
    profiles: tuple[EngineProfile, ...]
    profiles_by_kind: Mapping[DeviceKind, EngineProfile]
    memory_rules: Mapping[str, VersionedRules]
    pool_router: PoolRouter

    def profile(self, kind: DeviceKind) -> EngineProfile:
        """Return what the performance model needs to know on hardware of ``kind``."""
        return self.profiles_by_kind.get(kind, self.profiles[0])

    def why_not(self, architecture: Architecture, device: Device) -> str | None:
        """Return why the engine cannot serve the model on the device, or None when it can."""
        return (
            why_not_family(self.name, self.version, architecture, device)
            or self.why_not_here(architecture, device)
            or formats.why_not_stored(self.name, architecture, device)
        )

    def why_no_pools(
        self, architecture: Architecture, prefill: Device, decode: Device
    ) -> str | None:
        """Return why a worker on ``decode`` cannot take over KV caches of one on ``prefill``."""
        return pools.why_no_pools(self.name, architecture, prefill, decode)

    def needs_equal_pools(self, architecture: Architecture) -> bool:
        """Return whether attention must be split over equally many ranks in both pools."""
        return pools.transfers_whole_state(architecture)

    def pool_router_of(self, args: Mapping[str, ArgumentValue]) -> PoolRouter:  # noqa: ARG002
        """Return the router before pools whose prefill workers are told these arguments."""
        return self.pool_router

    def why_no_prefill_pipelines(
        self,
        architecture: Architecture,
        device: Device,  # noqa: ARG002
    ) -> str | None:
        """Return why prefill workers of pools cannot be pipelines, or None where they can."""
        return pools.why_no_prefill_pipelines(self.name, architecture)

    def why_not_here(
        self,
        architecture: Architecture,  # noqa: ARG002
        device: Device,  # noqa: ARG002
    ) -> str | None:
        """Return what else this engine lacks for a model of a family it serves, or None."""
        return None

    def why_not_precision(self, device: Device, precision: Precision) -> str | None:
        """Return why quantizing to ``precision`` does not pay on the device, or None."""
        return formats.why_not_precision(self.name, device, precision)

    def precisions(
        self, architecture: Architecture, device: Device, *, may_quantize: bool
    ) -> tuple[Precision, ...]:
        """Return the weight formats to try, the checkpoint's own first."""
        return formats.precisions(self.name, architecture, device, may_quantize=may_quantize)

    def kv_precisions(self, architecture: Architecture, device: Device) -> tuple[Precision, ...]:
        """Return the KV cache formats to try, the one the engine picks by itself first."""
        return formats.kv_precisions(self.name, architecture, device)

    def tp_sizes(self, architecture: Architecture, devices: int) -> tuple[int, ...]:
        """Return the tensor-parallel sizes that divide heads and blocks of scales, ascending."""
        spread = spreads_experts(self.name, architecture)
        return sizes.tp_sizes(architecture, devices, spreads_experts=spread)

    def ep_sizes(self, architecture: Architecture, tp: int) -> tuple[int, ...]:
        """Return over how many of ``tp`` ranks experts may be spread, ascending."""
        spread = spreads_experts(self.name, architecture)
        return sizes.ep_sizes(architecture, tp, supported=spread)

    def pp_sizes(self, architecture: Architecture, devices: int) -> tuple[int, ...]:
        """Return the pipeline sizes up to ``devices``; (1,) where the family has no pipeline."""
        family = family_of(self.name, architecture)
        supported = family is not None and family.pipeline_parallel
        return sizes.pp_sizes(architecture, devices, supported=supported)

    def dp_sizes(self, architecture: Architecture, tp: int) -> tuple[int, ...]:
        """Return the numbers of attention ranks inside ``tp`` devices, ascending."""
        supported = splits_attention(self.name, architecture)
        return sizes.dp_sizes(architecture, tp, supported=supported)

    def why_not_split(
        self, architecture: Architecture, precision: Precision, tp: int, ep: int = 1
    ) -> str | None:
        """Return why ``tp`` ranks cannot share weights stored as ``precision``, or None."""
        return sizes.why_not_tp(served_architecture(architecture, precision), tp, ep)

    def min_batched_tokens(self, architecture: Architecture) -> int:
        """Return the least tokens of a step the engine starts the family with; 0 for any."""
        return min_batched_tokens(self.name, architecture)

    def cuts_prompts(self, architecture: Architecture, device: Device) -> bool:  # noqa: ARG002
        """Return whether prompts can be cut over several steps: not where a tower is read.

        The decoder of Whisper attends to all positions of its encoder from its first token on.
        """
        return not architecture.reads_encoder

    def keeps_prefixes(self, architecture: Architecture, device: Device) -> bool:
        """Return whether prefixes are found again: where prompts can be cut, and seen one way.

        Both engines turn their cache off for Whisper and where tokens attend to later ones (vLLM
        0.32 ``config/model.py``, SGLang 0.5.23 ``arg_groups/attention_hook.py``).
        """
        return self.cuts_prompts(architecture, device) and not architecture.is_bidirectional

    def knobs(self, kind: DeviceKind) -> tuple[Knob, ...]:
        """Return the settings the search turns on hardware of ``kind``."""
        return tuple(knob for knob in self.all_knobs if kind in knob.kinds)

    def metadata(self, architecture: Architecture, kind: DeviceKind = DeviceKind.CUDA) -> Metadata:
        """Return parsers, template and abilities by the model's family."""
        return metadata_of(self.name, self.version, architecture, kind)
