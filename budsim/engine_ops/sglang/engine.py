"""SGLang 0.5.23 on CUDA, ROCm and CPUs with AMX: the knobs it has and how it is launched."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from budsim.commons.errors import InvalidInput
from budsim.engine_ops.base import ArgumentValue, Knob, Launch, ReplicaConfig, ReplicaProcess
from budsim.engine_ops.limits import (
    DEFAULT_MAX_NUM_BATCHED_TOKENS,
    DEFAULT_MAX_NUM_SEQS,
    TRIED_MAX_NUM_BATCHED_TOKENS,
    TRIED_MAX_NUM_SEQS,
)
from budsim.engine_ops.llmc import served_architecture, served_name
from budsim.engine_ops.metrics import ServerMetrics
from budsim.engine_ops.pool_router import PoolRouter
from budsim.engine_ops.sglang.flags import CORES_VARIABLE, FIRST_BOOTSTRAP, environment, flags
from budsim.engine_ops.sglang.memory import MEMORY_RULES
from budsim.engine_ops.sglang.profiles import GPU, PROFILES, PROFILES_BY_KIND
from budsim.engine_ops.shared.arguments import command_line
from budsim.engine_ops.shared.checks import check_adapters, check_config
from budsim.engine_ops.shared.cores import bind_cores
from budsim.engine_ops.shared.engine import TableEngine
from budsim.engine_ops.shared.families import check_abilities, scores_by_tokens
from budsim.engine_ops.shared.formats import check_formats
from budsim.engine_ops.shared.images import image_for
from budsim.engine_ops.shared.pools import has_windows
from budsim.hardware_ops.device import Device, DeviceKind
from budsim.model_ops.architecture import Architecture

PORT: Final = 30000

BOOTSTRAP: Final = "disaggregation-bootstrap-port"

_ALL: Final = frozenset({DeviceKind.CUDA, DeviceKind.ROCM, DeviceKind.CPU})

_KNOBS: Final = (
    Knob(
        name="max_num_seqs",
        flag="max-running-requests",
        values=TRIED_MAX_NUM_SEQS,
        default=DEFAULT_MAX_NUM_SEQS,
        kinds=_ALL,
    ),
    Knob(
        name="max_num_batched_tokens",
        flag="chunked-prefill-size",
        values=TRIED_MAX_NUM_BATCHED_TOKENS,
        default=DEFAULT_MAX_NUM_BATCHED_TOKENS,
        kinds=_ALL,
    ),
    Knob(
        name="memory_fraction",
        flag="mem-fraction-static",
        values=(0.75, 0.8, 0.85, 0.88, 0.9),
        default=GPU.memory_fraction,
        kinds=_ALL,
    ),
)


class Sglang(TableEngine):
    """SGLang; its own argument parser checks no ranges, so this does."""

    name = "sglang"
    version = "0.5.23"
    port = PORT
    metrics = ServerMetrics(
        ttft="sglang:time_to_first_token_seconds",
        itl="sglang:inter_token_latency_seconds",
        e2e="sglang:e2e_request_latency_seconds",
        running="sglang:num_running_reqs",
        waiting="sglang:num_queue_reqs",
        cache_usage="sglang:token_usage",
        prompt_tokens="sglang:prompt_tokens_total",
        generation_tokens="sglang:generation_tokens_total",
        cached_tokens="sglang:cached_tokens_total",
        model_label="model_name",
        source="https://docs.sglang.io/references/production_metrics.html",
        enabled_by={"enable-metrics": True},
    )
    # SGLang docs, PD disaggregation and model gateway.
    pool_router = PoolRouter(
        package="sglang-router",
        version="0.3.2",
        image="lmsysorg/sgl-model-gateway:v0.3.2",
        program=("python", "-m", "sglang_router.launch_router", "--pd-disaggregation"),
        port=PORT - 1,
        bootstrap=FIRST_BOOTSTRAP - PORT,
    )
    all_knobs = _KNOBS
    profiles = PROFILES
    profiles_by_kind = PROFILES_BY_KIND
    memory_rules = MEMORY_RULES

    def why_not_here(self, architecture: Architecture, device: Device) -> str | None:
        """Return what SGLang lacks for a model of a family it serves, or None."""
        if device.kind is DeviceKind.CPU and not _has_amx(device):
            return f"{self.name} {self.version} needs AMX on CPU, which {device.name} lacks"
        if architecture.is_embedding and scores_by_tokens(architecture):
            served = f"{self.name} {self.version} answers with embeddings of {architecture.family}"
            return f"{served}, not with scores"
        return None

    def needs_equal_pools(self, architecture: Architecture) -> bool:
        """Return whether attention must be split over equally many ranks in both pools.

        Also where layers have sliding windows: "PD Disaggregation does NOT support PD different TP
        sizes for non-MLA SWA hybrid models yet" (0.5.23, ``disaggregation/nixl/conn.py``).
        """
        return super().needs_equal_pools(architecture) or has_windows(architecture)

    def launch(self, architecture: Architecture, config: ReplicaConfig) -> Launch:
        """Return the ``python -m sglang.launch_server`` command, image and environment.

        Raises
        ------
        InvalidInput
            A value out of range, or a model or device SGLang does not serve.
        """
        reason = self.why_not(architecture, config.device)
        if reason:
            raise InvalidInput("engine", reason, "a combination the engine serves")
        check_abilities(self.name, architecture, config)
        check_formats(self.name, architecture, config)
        check_config(served_architecture(architecture, config.weight_precision), config)
        args = flags(self.name, architecture, config)
        if config.max_loras:
            args |= self.adapters(config.max_loras, config.max_lora_rank)
        model = served_name(architecture, config.weight_precision)
        return Launch(
            image=image_for(self.name, self.version, config.device),
            model=model,
            command=self._command(model, args),
            args=args,
            envs=environment(config),
        )

    def parsers(self, tool: str | None, reasoning: str | None) -> Mapping[str, ArgumentValue]:
        """Return the arguments that turn on parsers of tool calls and of reasoning."""
        found = {"tool-call-parser": tool, "reasoning-parser": reasoning}
        return {name: value for name, value in found.items() if value}

    def adapters(self, count: int, rank: int) -> Mapping[str, ArgumentValue]:
        """Return the arguments that let ``count`` LoRA adapters be served at a time.

        They are loaded later, so every module gets room for them.
        """
        check_adapters(count, rank)
        return {
            "enable-lora": True,
            "max-loras-per-batch": count,
            "max-lora-rank": rank,
            "lora-target-modules": "all",
        }

    def launch_process(self, launch: Launch, process: ReplicaProcess) -> Launch:
        """Return one process of a replica; only the first answers requests."""
        args = {**launch.args, "port": process.port}
        if process.nodes > 1:
            args |= {
                "nnodes": process.nodes,
                "node-rank": process.rank,
                "dist-init-addr": f"{process.leader}:{process.rendezvous_port}",
            }
        if BOOTSTRAP in args:
            args[BOOTSTRAP] = process.port + FIRST_BOOTSTRAP - PORT
        envs = bind_cores(launch.envs, CORES_VARIABLE, process)
        return replace(launch, command=self._command(launch.model, args), args=args, envs=envs)

    def _command(self, model: str, args: Mapping[str, ArgumentValue]) -> tuple[str, ...]:
        program = ("python", "-m", "sglang.launch_server", "--model-path", model)
        return (*program, *command_line(self.name, args))


def _has_amx(device: Device) -> bool:
    return any(name.lower().startswith("amx") for name in device.instruction_sets)
