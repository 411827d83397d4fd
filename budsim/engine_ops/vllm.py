"""vLLM 0.32: what it serves on CUDA, ROCm, CPU and Gaudi, the knobs it has, and how it is launched."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from budsim.commons.errors import InvalidInput
from budsim.commons.precision import Precision
from budsim.commons.units import GIB
from budsim.engine_ops import rules
from budsim.engine_ops.arguments import command_line
from budsim.engine_ops.base import (
    ArgumentValue,
    EngineProfile,
    Knob,
    Launch,
    Metadata,
    ReplicaConfig,
    Seat,
    Stage,
)
from budsim.engine_ops.families import (
    check_abilities,
    family_of,
    image_for,
    metadata_of,
    ranks_attention,
    scores_by_tokens,
    spreads_experts,
    why_not_family,
)
from budsim.engine_ops.kernels import kv_formats
from budsim.engine_ops.llmc import served_name
from budsim.engine_ops.profiles import profile_for
from budsim.hardware_ops.device import Device, DeviceKind
from budsim.model_ops.architecture import Architecture

NAME: Final = "vllm"
VERSION: Final = "0.32.0"

_THREADS: Final = "VLLM_CPU_OMP_THREADS_BIND"

# Makes a classifier of Qwen3-Reranker's published checkpoint (vLLM docs, pooling models).
_SCORES: Final = (
    '{"architectures": ["Qwen3ForSequenceClassification"], "classifier_from_token": ["no", "yes"], '
    '"is_original_qwen3_reranker": true}'
)

_GPU: Final = frozenset({DeviceKind.CUDA, DeviceKind.ROCM})
_WITH_FRACTION: Final = frozenset({*_GPU, DeviceKind.HPU})
_ALL: Final = frozenset({*_WITH_FRACTION, DeviceKind.CPU})
_LARGE_BLOCKS: Final = frozenset({DeviceKind.CPU, DeviceKind.HPU})

_KNOBS: Final = (
    Knob(
        name="max_num_seqs",
        flag="max-num-seqs",
        values=(8, 16, 32, 64, 128, 256, 512, 1024),
        default=256,
        kinds=_ALL,
    ),
    Knob(
        name="max_num_batched_tokens",
        flag="max-num-batched-tokens",
        values=(1024, 2048, 4096, 8192, 16384, 32768),
        default=8192,
        kinds=_ALL,
    ),
    Knob(
        name="memory_fraction",
        flag="gpu-memory-utilization",
        values=(0.8, 0.85, 0.9, 0.92, 0.95),
        default=0.92,
        kinds=_WITH_FRACTION,
    ),
    Knob(
        name="chunked_prefill",
        flag="enable-chunked-prefill",
        values=(False, True),
        default=True,
        kinds=_ALL,
    ),
    Knob(
        name="prefix_caching",
        flag="enable-prefix-caching",
        values=(False, True),
        default=True,
        kinds=_ALL,
    ),
)


class Vllm:
    """vLLM behind the one interface; all facts are in the catalogs, all ranges checked here."""

    name = NAME
    version = VERSION
    stage = Stage.SERVE
    port = 8000

    def profile(self, kind: DeviceKind) -> EngineProfile:
        """Return what the performance model needs to know on hardware of ``kind``."""
        return profile_for(NAME, kind)

    def why_not(self, architecture: Architecture, device: Device) -> str | None:
        """Return why vLLM cannot serve the model on the device, or None when it can."""
        return why_not_family(NAME, VERSION, architecture, device) or rules.why_not_stored(
            NAME, architecture, device
        )

    def why_not_precision(self, device: Device, precision: Precision) -> str | None:
        """Return why quantizing to ``precision`` does not pay on the device, or None when it does."""
        return rules.why_not_precision(NAME, device, precision)

    def precisions(
        self, architecture: Architecture, device: Device, *, may_quantize: bool
    ) -> tuple[Precision, ...]:
        """Return the weight formats to try, the checkpoint's own first."""
        return rules.precisions(NAME, architecture, device, may_quantize=may_quantize)

    def kv_precisions(self, device: Device) -> tuple[Precision, ...]:
        """Return the KV cache formats to try: 16 bit, then what needs no calibrated scales (none on CPU and Gaudi)."""
        return (rules.plain_precision(NAME, device, Precision.BF16), *kv_formats(NAME, device))

    def tp_sizes(self, architecture: Architecture, devices: int) -> tuple[int, ...]:
        """Return the tensor-parallel sizes up to ``devices`` that divide the heads and the blocks of scales, ascending."""
        return rules.tp_sizes(
            architecture, devices, spreads_experts=spreads_experts(NAME, architecture)
        )

    def ep_sizes(self, architecture: Architecture, tp: int) -> tuple[int, ...]:
        """Return over how many of ``tp`` ranks vLLM may spread the experts: 1, all of them, or whichever is legal."""
        return rules.ep_sizes(architecture, tp, supported=spreads_experts(NAME, architecture))

    def pp_sizes(self, architecture: Architecture, devices: int) -> tuple[int, ...]:
        """Return the pipeline sizes up to ``devices``; (1,) where vLLM has no pipeline for the family."""
        family = family_of(NAME, architecture)
        return rules.pp_sizes(
            architecture, devices, supported=family is not None and family.pipeline_parallel
        )

    def dp_sizes(self, architecture: Architecture, tp: int) -> tuple[int, ...]:
        """Return the numbers of attention ranks vLLM makes of ``tp`` devices of a model with experts, ascending."""
        return rules.dp_sizes(architecture, tp, supported=ranks_attention(NAME, architecture))

    def knobs(self, kind: DeviceKind) -> tuple[Knob, ...]:
        """Return the settings the search may turn on hardware of ``kind``."""
        return tuple(knob for knob in _KNOBS if kind in knob.kinds)

    def launch(self, architecture: Architecture, config: ReplicaConfig) -> Launch:
        """Return the ``vllm serve`` command of one replica, its image and environment.

        Raises
        ------
        InvalidInput
            A value out of the range vLLM accepts when it builds its configuration, or a model or device it does not serve.
        """
        reason = self.why_not(architecture, config.device)
        if reason:
            raise InvalidInput("engine", reason, "a combination the engine serves")
        check_abilities(NAME, architecture, config)
        _check(architecture, config)
        args = _arguments(architecture, config)
        if config.max_loras:
            args |= self.adapters(config.max_loras, config.max_lora_rank)
        model = served_name(architecture, config.weight_precision)
        return Launch(
            image=image_for(NAME, VERSION, config.device),
            model=model,
            command=_command(model, args),
            args=args,
            envs=_ENVIRONMENTS.get(config.device.kind, _no_environment)(config),
        )

    def adapters(self, count: int, rank: int) -> Mapping[str, ArgumentValue]:
        """Return the arguments that let ``count`` LoRA adapters of at most ``rank`` be served at a time."""
        rules.check_adapters(count, rank)
        return {"enable-lora": True, "max-loras": count, "max-lora-rank": rank}

    def seat(self, launch: Launch, seat: Seat) -> Launch:
        """Return the part of a replica that runs at ``seat``; all but the first process serve no requests themselves.

        Several nodes meet by vLLM's own multiprocessing backend (vLLM docs, deployment with LeaderWorkerSet), without Ray.
        """
        args = {**launch.args, "port": seat.port}
        if seat.nodes > 1:
            args |= {
                "nnodes": seat.nodes,
                "node-rank": seat.rank,
                "master-addr": seat.leader,
                "master-port": seat.rendezvous_port,
            }
        if seat.rank != 0:
            args["headless"] = True
        envs = rules.bind_cores(launch.envs, _THREADS, seat)
        return replace(launch, command=_command(launch.model, args), args=args, envs=envs)

    def metadata(self, architecture: Architecture) -> Metadata:
        """Return parsers, template and abilities by the model's family."""
        return metadata_of(NAME, VERSION, architecture)


def _command(model: str, args: Mapping[str, ArgumentValue]) -> tuple[str, ...]:
    return ("vllm", "serve", model, *command_line(NAME, args))


def _check(architecture: Architecture, config: ReplicaConfig) -> None:
    rules.check_formats(NAME, architecture, config)
    rules.check_config(architecture, config)
    rules.check_kv_space(config)
    if config.max_num_batched_tokens < config.max_num_seqs:
        problem = f"{config.max_num_batched_tokens} is below max_num_seqs {config.max_num_seqs}"
        raise InvalidInput("max_num_batched_tokens", problem, "at least max_num_seqs")
    if config.ep not in (1, config.tp):
        raise InvalidInput(
            "ep",
            f"{config.ep} of {config.tp} ranks",
            "1 or tp: vLLM spreads experts over all ranks",
        )


def _arguments(architecture: Architecture, config: ReplicaConfig) -> dict[str, ArgumentValue]:
    kind = config.device.kind
    args: dict[str, ArgumentValue] = {
        "tensor-parallel-size": config.tp // config.dp,
        "max-model-len": config.context_tokens,
    }
    if config.pp > 1:
        args["pipeline-parallel-size"] = config.pp
    if config.dp > 1:
        args["data-parallel-size"] = config.dp
    if config.ep > 1:
        args["enable-expert-parallel"] = True
    args |= {
        "max-num-seqs": config.max_num_seqs,
        "max-num-batched-tokens": config.max_num_batched_tokens,
    }
    if kind in _WITH_FRACTION:
        args["gpu-memory-utilization"] = config.memory_fraction
    if kind in _LARGE_BLOCKS:
        args["block-size"] = profile_for(NAME, kind).block_tokens
    return args | rules.format_arguments(NAME, architecture, config) | _runner(architecture, config)


def _runner(architecture: Architecture, config: ReplicaConfig) -> dict[str, ArgumentValue]:
    """Return how prompts are run: pooling models take each whole, so their token budget holds the longest."""
    if architecture.is_embedding:
        budget = max(config.max_num_batched_tokens, config.context_tokens)
        scores = {"hf-overrides": _SCORES} if scores_by_tokens(architecture) else {}
        return {"runner": "pooling", "max-num-batched-tokens": budget, **scores}
    return {
        "enable-chunked-prefill": config.chunked_prefill,
        "enable-prefix-caching": config.prefix_caching,
    }


def _no_environment(_: ReplicaConfig) -> Mapping[str, str]:
    return {}


def _cpu_environment(config: ReplicaConfig) -> Mapping[str, str]:
    return {
        "VLLM_CPU_KVCACHE_SPACE": str(int(config.kv_space_bytes // GIB)),
        _THREADS: rules.thread_ranges(config),
    }


def _gaudi_environment(_: ReplicaConfig) -> Mapping[str, str]:
    """Return the plugin's documented settings: torch.compile mode, exponential buckets, graphs in a tenth of what is left."""
    return {
        "PT_HPU_LAZY_MODE": "0",
        "PT_HPU_ENABLE_LAZY_COLLECTIVES": "true",
        "VLLM_BUCKETING_STRATEGY": "exp",
        "VLLM_PROMPT_BS_BUCKET_MAX": "1",
        "VLLM_GRAPH_RESERVED_MEM": "0.1",
    }


_ENVIRONMENTS: Final = {DeviceKind.CPU: _cpu_environment, DeviceKind.HPU: _gaudi_environment}
