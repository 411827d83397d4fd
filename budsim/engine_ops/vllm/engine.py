"""vLLM 0.32 on CUDA, ROCm, CPU and Gaudi: the knobs it has and how it is launched."""

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
from budsim.engine_ops.shared.arguments import command_line
from budsim.engine_ops.shared.checks import check_adapters, check_config, check_kv_space
from budsim.engine_ops.shared.cores import bind_cores
from budsim.engine_ops.shared.engine import TableEngine
from budsim.engine_ops.shared.families import check_abilities
from budsim.engine_ops.shared.formats import check_formats
from budsim.engine_ops.shared.images import image_for
from budsim.engine_ops.vllm.flags import (
    BOOTSTRAP_PORT,
    CORES_VARIABLE,
    FIRST_BOOTSTRAP,
    FIRST_SIDE_CHANNEL,
    POOL_CONNECTOR,
    SIDE_CHANNEL_HOST,
    SIDE_CHANNEL_PORT,
    STAGES_CONNECTOR,
    WITH_FRACTION,
    environment,
    flags,
    is_reference_mla,
)
from budsim.engine_ops.vllm.memory import MEMORY_RULES
from budsim.engine_ops.vllm.profiles import GPU, PROFILES, PROFILES_BY_KIND
from budsim.hardware_ops.device import Device, DeviceKind
from budsim.model_ops.architecture import Architecture

_ALL: Final = frozenset({*WITH_FRACTION, DeviceKind.CPU})

_WITHOUT_PREFIXES: Final = frozenset({"UnlimitedOCRForCausalLM"})

_KNOBS: Final = (
    Knob(
        name="max_num_seqs",
        flag="max-num-seqs",
        values=TRIED_MAX_NUM_SEQS,
        default=DEFAULT_MAX_NUM_SEQS,
        kinds=_ALL,
    ),
    Knob(
        name="max_num_batched_tokens",
        flag="max-num-batched-tokens",
        values=(*TRIED_MAX_NUM_BATCHED_TOKENS, 32768),
        default=DEFAULT_MAX_NUM_BATCHED_TOKENS,
        kinds=_ALL,
    ),
    Knob(
        name="memory_fraction",
        flag="gpu-memory-utilization",
        values=(0.8, 0.85, 0.9, 0.92, 0.95),
        default=GPU.memory_fraction,
        kinds=WITH_FRACTION,
    ),
)


class Vllm(TableEngine):
    """vLLM; its facts are the tables of this folder, its ranges are checked here."""

    name = "vllm"
    version = "0.32.0"
    port = 8000
    metrics = ServerMetrics(
        ttft="vllm:time_to_first_token_seconds",
        itl="vllm:inter_token_latency_seconds",
        e2e="vllm:e2e_request_latency_seconds",
        running="vllm:num_requests_running",
        waiting="vllm:num_requests_waiting",
        cache_usage="vllm:kv_cache_usage_perc",
        prompt_tokens="vllm:prompt_tokens_total",
        generation_tokens="vllm:generation_tokens_total",
        cached_tokens="vllm:prefix_cache_hits_total",
        model_label="model_name",
        source="https://docs.vllm.ai/en/latest/usage/metrics/",
    )
    # vLLM router docs, prefill-decode disaggregation; image: its release pipeline.
    pool_router = PoolRouter(
        package="vllm-router",
        version="0.1.17",
        image="vllm/vllm-router:v0.1.17",
        program=("vllm-router", "--vllm-pd-disaggregation"),
        port=7999,
    )
    all_knobs = _KNOBS
    profiles = PROFILES
    profiles_by_kind = PROFILES_BY_KIND
    memory_rules = MEMORY_RULES

    def cuts_prompts(self, architecture: Architecture, device: Device) -> bool:
        """Return whether prompts can be cut: also not by MLA on processors without AMX.

        vLLM 0.32 ``platforms/cpu.py`` turns both this and prefix caching off there.
        """
        cuts = super().cuts_prompts(architecture, device)
        return cuts and not is_reference_mla(architecture, device)

    def keeps_prefixes(self, architecture: Architecture, device: Device) -> bool:
        """Return whether prefixes are found again: also not by families vLLM switches it off for.

        Generated tokens of Unlimited-OCR see a window, so that what is cached is no function of a
        prefix (vLLM 0.32 ``model_executor/models/config.py``).
        """
        keeps = super().keeps_prefixes(architecture, device)
        return keeps and architecture.family not in _WITHOUT_PREFIXES

    def launch(self, architecture: Architecture, config: ReplicaConfig) -> Launch:
        """Return the ``vllm serve`` command of one replica, its image and environment.

        Raises
        ------
        InvalidInput
            A value out of the range vLLM accepts when it builds its configuration, or a model or
            device it does not serve.
        """
        reason = self.why_not(architecture, config.device)
        if reason:
            raise InvalidInput("engine", reason, "a combination the engine serves")
        self._check(architecture, config)
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
        found: dict[str, ArgumentValue] = {}
        if tool:
            found |= {"enable-auto-tool-choice": True, "tool-call-parser": tool}
        if reasoning:
            found["reasoning-parser"] = reasoning
        return found

    def adapters(self, count: int, rank: int) -> Mapping[str, ArgumentValue]:
        """Return the arguments that let ``count`` LoRA adapters be served at a time."""
        check_adapters(count, rank)
        return {"enable-lora": True, "max-loras": count, "max-lora-rank": rank}

    def launch_process(self, launch: Launch, process: ReplicaProcess) -> Launch:
        """Return one process of a replica; only the first serves requests.

        Several nodes meet by vLLM's own multiprocessing backend (vLLM docs, deployment with
        LeaderWorkerSet), without Ray.
        """
        args = {**launch.args, "port": process.port}
        # A lone node needs no rendezvous; saying one would make it wait for others.
        if process.nodes > 1:
            args |= {
                "nnodes": process.nodes,
                "node-rank": process.rank,
                "master-addr": process.leader,
                "master-port": process.rendezvous_port,
            }
        # The API server runs beside rank 0 only.
        if process.rank != 0:
            args["headless"] = True
        envs = bind_cores(launch.envs, CORES_VARIABLE, process)
        transfer = str(args.get("kv-transfer-config"))
        if POOL_CONNECTOR in transfer:
            envs = {**envs, **self._side_channel(process)}
        elif STAGES_CONNECTOR in transfer:
            envs = {**envs, BOOTSTRAP_PORT: str(FIRST_BOOTSTRAP + process.port - self.port)}
        return replace(launch, command=self._command(launch.model, args), args=args, envs=envs)

    def pool_router_of(self, args: Mapping[str, ArgumentValue]) -> PoolRouter:
        """Return the router before pools whose prefill workers are told these arguments.

        Of pipelines it asks the servers by which decode workers find their stages.
        """
        if STAGES_CONNECTOR not in str(args.get("kv-transfer-config")):
            return self.pool_router
        program = (*self.pool_router.program, "--kv-connector", "mooncake")
        return replace(self.pool_router, program=program, bootstrap=FIRST_BOOTSTRAP - self.port)

    def why_no_prefill_pipelines(self, architecture: Architecture, device: Device) -> str | None:
        """Return why prefill workers of pools cannot be pipelines, or None where they can."""
        if device.kind is not DeviceKind.CUDA:
            return f"{self.name} hands caches over from pipelines on NVIDIA's devices only"
        return super().why_no_prefill_pipelines(architecture, device)

    def _side_channel(self, process: ReplicaProcess) -> Mapping[str, str]:
        """Return where a worker agrees on transfers with those of the other pool."""
        port = FIRST_SIDE_CHANNEL + process.port - self.port
        return {SIDE_CHANNEL_HOST: process.address, SIDE_CHANNEL_PORT: str(port)}

    def _command(self, model: str, args: Mapping[str, ArgumentValue]) -> tuple[str, ...]:
        return ("vllm", "serve", model, *command_line(self.name, args))

    def _check(self, architecture: Architecture, config: ReplicaConfig) -> None:
        """Refuse what vLLM refuses when it builds its configuration."""
        check_abilities(self.name, architecture, config)
        check_formats(self.name, architecture, config)
        check_config(served_architecture(architecture, config.weight_precision), config)
        check_kv_space(config)
        budget, sequences = config.max_num_batched_tokens, config.max_num_seqs
        least = self.min_batched_tokens(architecture)
        if budget < least:
            problem = f"{budget} is below one image or video of {architecture.family}"
            raise InvalidInput("max_num_batched_tokens", problem, f"at least {least}")
        if budget < sequences:
            problem = f"{budget} is below max_num_seqs {sequences}"
            raise InvalidInput("max_num_batched_tokens", problem, "at least max_num_seqs")
        if config.max_loras and config.ep > 1 and 1 < config.dp < config.tp:
            problem = f"{config.dp} attention ranks of several devices, spread experts and adapters"
            raise InvalidInput("dp", problem, "1 or tp: vLLM starts no other layout with adapters")
        if config.ep not in (1, config.tp):
            problem = f"{config.ep} of {config.tp} ranks"
            raise InvalidInput("ep", problem, "1 or tp: vLLM spreads experts over all ranks")
