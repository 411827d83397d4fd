"""SGLang 0.5.23: what it serves on CUDA, ROCm and CPUs with AMX, the knobs it has, and how it is launched."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from budsim.commons.errors import InvalidInput
from budsim.commons.precision import Precision
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

NAME: Final = "sglang"
VERSION: Final = "0.5.23"

_THREADS: Final = "SGLANG_CPU_OMP_THREADS_BIND"

_GPU: Final = frozenset({DeviceKind.CUDA, DeviceKind.ROCM})
_ALL: Final = frozenset({*_GPU, DeviceKind.CPU})

_KNOBS: Final = (
    Knob(
        name="max_num_seqs",
        flag="max-running-requests",
        values=(8, 16, 32, 64, 128, 256, 512, 1024),
        default=256,
        kinds=_ALL,
    ),
    Knob(
        name="max_num_batched_tokens",
        flag="chunked-prefill-size",
        values=(1024, 2048, 4096, 8192, 16384),
        default=8192,
        kinds=_ALL,
    ),
    Knob(
        name="memory_fraction",
        flag="mem-fraction-static",
        values=(0.75, 0.8, 0.85, 0.88, 0.9),
        default=0.88,
        kinds=_ALL,
    ),
    Knob(
        name="prefix_caching",
        flag="disable-radix-cache",
        values=(False, True),
        default=True,
        kinds=_ALL,
    ),
)


class Sglang:
    """SGLang behind the one interface; its own argument parser checks no ranges, so this does."""

    name = NAME
    version = VERSION
    stage = Stage.SERVE
    port = 30000

    def profile(self, kind: DeviceKind) -> EngineProfile:
        """Return what the performance model needs to know on hardware of ``kind``."""
        return profile_for(NAME, kind)

    def why_not(self, architecture: Architecture, device: Device) -> str | None:
        """Return why SGLang cannot serve the model on the device, or None when it can."""
        reason = why_not_family(NAME, VERSION, architecture, device)
        if reason is None and device.kind is DeviceKind.CPU and not _has_amx(device):
            return f"{NAME} {VERSION} needs AMX on CPU, which {device.name} lacks"
        if reason is None and architecture.is_embedding and scores_by_tokens(architecture):
            return f"{NAME} {VERSION} answers with embeddings of {architecture.family}, not with scores"
        return reason or rules.why_not_stored(NAME, architecture, device)

    def why_not_precision(self, device: Device, precision: Precision) -> str | None:
        """Return why quantizing to ``precision`` does not pay on the device, or None when it does."""
        return rules.why_not_precision(NAME, device, precision)

    def precisions(
        self, architecture: Architecture, device: Device, *, may_quantize: bool
    ) -> tuple[Precision, ...]:
        """Return the weight formats to try, the checkpoint's own first."""
        return rules.precisions(NAME, architecture, device, may_quantize=may_quantize)

    def kv_precisions(self, device: Device) -> tuple[Precision, ...]:
        """Return the KV cache formats to try: 16 bit, then fp8 where the device has it."""
        return (rules.plain_precision(NAME, device, Precision.BF16), *kv_formats(NAME, device))

    def tp_sizes(self, architecture: Architecture, devices: int) -> tuple[int, ...]:
        """Return the tensor-parallel sizes up to ``devices`` that divide the heads and the blocks of scales, ascending."""
        return rules.tp_sizes(
            architecture, devices, spreads_experts=spreads_experts(NAME, architecture)
        )

    def ep_sizes(self, architecture: Architecture, tp: int) -> tuple[int, ...]:
        """Return over how many of ``tp`` ranks SGLang may spread the experts: 1, all of them, or whichever is legal."""
        return rules.ep_sizes(architecture, tp, supported=spreads_experts(NAME, architecture))

    def pp_sizes(self, architecture: Architecture, devices: int) -> tuple[int, ...]:
        """Return the pipeline sizes up to ``devices``; (1,) where SGLang has no pipeline for the family."""
        family = family_of(NAME, architecture)
        return rules.pp_sizes(
            architecture, devices, supported=family is not None and family.pipeline_parallel
        )

    def dp_sizes(self, architecture: Architecture, tp: int) -> tuple[int, ...]:
        """Return the numbers of attention ranks SGLang makes of ``tp`` devices of a model with experts, ascending."""
        return rules.dp_sizes(architecture, tp, supported=ranks_attention(NAME, architecture))

    def knobs(self, kind: DeviceKind) -> tuple[Knob, ...]:
        """Return the settings the search may turn on hardware of ``kind``."""
        return tuple(knob for knob in _KNOBS if kind in knob.kinds)

    def launch(self, architecture: Architecture, config: ReplicaConfig) -> Launch:
        """Return the ``python -m sglang.launch_server`` command of one replica, its image and environment.

        Raises
        ------
        InvalidInput
            A value out of range, or a model or device SGLang does not serve.
        """
        reason = self.why_not(architecture, config.device)
        if reason:
            raise InvalidInput("engine", reason, "a combination the engine serves")
        check_abilities(NAME, architecture, config)
        rules.check_formats(NAME, architecture, config)
        rules.check_config(architecture, config)
        args = _arguments(architecture, config)
        if config.max_loras:
            args |= self.adapters(config.max_loras, config.max_lora_rank)
        model = served_name(architecture, config.weight_precision)
        return Launch(
            image=image_for(NAME, VERSION, config.device),
            model=model,
            command=_command(model, args),
            args=args,
            envs=_environment(config),
        )

    def adapters(self, count: int, rank: int) -> Mapping[str, ArgumentValue]:
        """Return the arguments for ``count`` LoRA adapters of at most ``rank``; loaded later, so for every module."""
        rules.check_adapters(count, rank)
        return {
            "enable-lora": True,
            "max-loras-per-batch": count,
            "max-lora-rank": rank,
            "lora-target-modules": "all",
        }

    def seat(self, launch: Launch, seat: Seat) -> Launch:
        """Return the part of a replica that runs at ``seat``; only the first process answers requests."""
        args = {**launch.args, "port": seat.port}
        if seat.nodes > 1:
            args |= {
                "nnodes": seat.nodes,
                "node-rank": seat.rank,
                "dist-init-addr": f"{seat.leader}:{seat.rendezvous_port}",
            }
        envs = rules.bind_cores(launch.envs, _THREADS, seat)
        return replace(launch, command=_command(launch.model, args), args=args, envs=envs)

    def metadata(self, architecture: Architecture) -> Metadata:
        """Return parsers, template and abilities by the model's family."""
        return metadata_of(NAME, VERSION, architecture)


def _command(model: str, args: Mapping[str, ArgumentValue]) -> tuple[str, ...]:
    return (
        "python",
        "-m",
        "sglang.launch_server",
        "--model-path",
        model,
        *command_line(NAME, args),
    )


def _arguments(architecture: Architecture, config: ReplicaConfig) -> dict[str, ArgumentValue]:
    """Return the flags; SGLang divides requests and chunks among attention ranks, so it is given those of all of them."""
    args: dict[str, ArgumentValue] = {"host": "0.0.0.0", "tp-size": config.tp}
    sizes = {"pp-size": config.pp, "ep-size": config.ep, "attn-dp-size": config.dp}
    args |= {flag: size for flag, size in sizes.items() if size > 1}
    args |= {
        "context-length": config.context_tokens,
        "mem-fraction-static": config.memory_fraction,
        "max-running-requests": config.max_num_seqs * config.dp,
    }
    return (
        args
        | rules.format_arguments(NAME, architecture, config)
        | _scheduling(architecture, config)
        | _cpu_arguments(config.device)
    )


def _scheduling(architecture: Architecture, config: ReplicaConfig) -> dict[str, ArgumentValue]:
    """Return how prompts are cut and ordered; -1 switches cutting off, longest prefix first needs the radix cache."""
    if architecture.is_embedding:
        return _pooling(architecture, config)
    args: dict[str, ArgumentValue] = {
        "chunked-prefill-size": config.max_num_batched_tokens * config.dp
        if config.chunked_prefill
        else -1,
        "schedule-policy": "lpm" if config.prefix_caching else "fcfs",
    }
    if not config.chunked_prefill:
        args["max-prefill-tokens"] = config.max_num_batched_tokens
    if not config.prefix_caching:
        args["disable-radix-cache"] = True
    return args


def _pooling(architecture: Architecture, config: ReplicaConfig) -> dict[str, ArgumentValue]:
    """Return how prompts become vectors: whole; encoders by a backend that attends both ways (SGLang docs, rerank models)."""
    args: dict[str, ArgumentValue] = {"is-embedding": True, "chunked-prefill-size": -1}
    args["max-prefill-tokens"] = max(config.max_num_batched_tokens, config.context_tokens)
    return args | (
        {"disable-radix-cache": True, "attention-backend": "triton"}
        if architecture.is_bidirectional
        else {}
    )


def _cpu_arguments(device: Device) -> dict[str, ArgumentValue]:
    if device.kind is not DeviceKind.CPU:
        return {}
    return {"device": "cpu", "attention-backend": "intel_amx", "disable-overlap-schedule": True}


def _environment(config: ReplicaConfig) -> Mapping[str, str]:
    if config.device.kind is not DeviceKind.CPU:
        return {}
    bound = {_THREADS: rules.thread_ranges(config)} if config.cores else {}
    return {"SGLANG_USE_CPU_ENGINE": "1", **bound}


def _has_amx(device: Device) -> bool:
    return any(name.lower().startswith("amx") for name in device.instruction_sets)
