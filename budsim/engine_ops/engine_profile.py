"""What the performance model needs to know of an engine: scheduling, defaults, host time."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from budsim.commons.precision import Precision
from budsim.engine_ops.memory_rule import MemoryRule
from budsim.hardware_ops.device import Device, DeviceKind

# A version (major, minor) above all.
NEWEST: Final = (9999, 0)

_VERSION: Final = re.compile(r"(\d+)\.(\d+)")


def version_pair(text: str) -> tuple[int, int] | None:
    """Return major and minor of a version (``v0.18.0-cu130``: 0 and 18), None without any."""
    found = _VERSION.search(text)
    return (int(found.group(1)), int(found.group(2))) if found else None


class Batching(StrEnum):
    """How an engine mixes prefill and decode in its steps."""

    MIXED = "mixed"
    PREFILL_FIRST = "prefill_first"
    STATIC = "static"


class AttendedTokens(StrEnum):
    """Which cached tokens an engine's attention multiplies, needed or masked.

    ``PAST``: those before the token. ``STEP``: also the rest of its prompt in the same step,
    masked. ``CACHE``: the whole cache, other sequences too.
    """

    PAST = "past"
    STEP = "step"
    CACHE = "cache"


@dataclass(frozen=True, slots=True, kw_only=True)
class FirstToken:
    """What an engine's host adds before the first token.

    Fitted to TTFT and TPOT of three parties at once with the replay (mean of their median absolute
    log errors), by ``scripts/fit_host.py``.

    Attributes
    ----------
    request_s : float
        Host time for each request, seconds.
    steps : float
        Decode steps a new request waits for: half of the one under way, and those that the
        scheduler has planned already.
    prompt_launch_s : float
        Seconds the host takes to launch one layer of a step with prompts, and of every step in
        eager mode. Else engines replay captured graphs for steps that only decode.
    burst_s : float
        Of ``request_s``, the seconds a host spends on every request of a burst before it hands the
        first of them to the engine.
    prompt_factor : float, optional
        What prompts add to a step, relative to the sum of their kernels' times; None where that of
        the device's kernels holds.
    """

    request_s: float
    steps: float
    prompt_launch_s: float = 0.0
    prompt_factor: float | None = None
    burst_s: float = 0.0


# Half of the step under way, and one that is planned already.
USUAL_STEPS = 1.5

# The same where a step's results are read after the next one began (overlapped scheduling).
OVERLAPPED_STEPS = 2.5


# MXFP4 weights with activations in FP8, as vLLM, SGLang and TensorRT-LLM multiply on CUDA.
MXFP4_AS_FP8 = ((DeviceKind.CUDA, Precision.MXFP4, Precision.FP8),)


@dataclass(frozen=True, slots=True, kw_only=True)
class DefaultLimits:
    """Limits an engine sets on some devices unless told otherwise: one row of its table.

    A row holds for a device when its memory is within the bounds and its name contains
    ``name_part``; for versions (major, minor) from ``since`` on.
    """

    max_num_batched_tokens: int
    max_num_seqs: int
    below_bytes: float = float("inf")
    from_bytes: float = 0.0
    name_part: str = ""
    since: tuple[int, int] = (0, 0)

    def holds_for(self, device: Device, version: tuple[int, int]) -> bool:
        """Return whether ``version`` of the engine has these limits on ``device``."""
        if version < self.since:
            return False
        if self.name_part not in device.name:
            return False
        return self.from_bytes <= device.memory_bytes < self.below_bytes


class PrefixSharing(StrEnum):
    """When other requests find the tokens of a prompt that an engine computes.

    ``AFTER_PROMPT``: with its first token. ``AFTER_STEP``: after the step that computes them.
    ``AS_SCHEDULED``: as soon as they are scheduled, in the same step.
    """

    AFTER_PROMPT = "after_prompt"
    AFTER_STEP = "after_step"
    AS_SCHEDULED = "as_scheduled"


@dataclass(frozen=True, slots=True, kw_only=True)
class HostTierRule:
    """How an engine keeps KV cache in host memory.

    Attributes
    ----------
    reached : float
        Share (0..1) of the link to the host that its copies reach.
    overlaps : bool
        Whether a load is hidden behind the prompts of the same step, layer by layer; else the
        request waits for it while others go on.
    exceeds_device : bool
        Whether the host's part has to be larger than the cache on the device.
    source : str
        Where this was read.
    """

    reached: float
    overlaps: bool
    exceeds_device: bool
    source: str


class StoreKind(StrEnum):
    """Stores of KV cache that all replicas share.

    ``MOONCAKE``: memory of all nodes, put together by Mooncake Store. ``LMCACHE``: a Redis server
    that LMCache reads and writes. ``FILE``: files in a folder that every node mounts.
    """

    MOONCAKE = "mooncake"
    LMCACHE = "lmcache"
    FILE = "file"


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreRule:
    """How an engine uses a store of one kind.

    Attributes
    ----------
    kind : StoreKind
        The store.
    hardware : frozenset of DeviceKind
        Hardware for which its client is published.
    reached : float
        Share (0..1) of the network's bandwidth that reads reach.
    through_host : bool
        Whether it is read into the engine's host memory first, which must then be given.
    makes_room : bool
        Whether what was not read for long leaves it by itself.
    source : str
        Where this was read.
    """

    kind: StoreKind
    hardware: frozenset[DeviceKind]
    reached: float
    through_host: bool
    makes_room: bool = True
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineProfile:
    """What the performance model needs to know of an engine, launched or only measured.

    Attributes
    ----------
    name : str
        ``vllm``, ``sglang``, ``trtllm``, ``llama.cpp``...
    batching : Batching
        How prefill and decode share steps.
    max_num_batched_tokens : int
        Default tokens of one step (``max_num_batched_tokens``, ``chunked_prefill_size``).
    max_num_seqs : int
        Default bound on running sequences.
    memory_fraction : float
        Default share of device memory the engine takes (0..1).
    memory : MemoryRule
        What that fraction is a share of, and what else it has to hold.
    step_overhead_s : float
        Host time of each step that the device waits for, seconds.
    sequence_overhead_s : float
        The same for each running sequence, seconds.
    block_tokens : int
        Tokens in one block of the KV cache.
    source : str
        Where the figures were read, with the version.
    attended : AttendedTokens
        Which cached tokens attention multiplies.
    cache_is_stated : bool
        Whether the KV cache is a size one states, not what is left of the memory.
    limits : tuple of DefaultLimits
        Other defaults on some devices; the first row that holds decides.
    first_token : FirstToken, optional
        What was fitted before the first token; None where it was not.
    guess_step_s, guess_sequence_s : float
        Host time a step takes longer where it verifies guessed tokens, and for each running
        sequence, seconds.
    multiplied_in : tuple of (kind, stored, computed)
        Formats the engine stores and multiplies in another one on a kind of device.
    writes_weights_out : bool
        Whether a step first writes weights of fewer bits out in the 16 bit they are multiplied in,
        experts aside; else kernels convert them in passing.
    captures_graphs : bool
        Whether steps that only decode run from captured graphs; else the host launches the kernels
        of every step.
    prefix_sharing : PrefixSharing
        When a prompt's tokens are found by others.
    host_tier : HostTierRule, optional
        How it keeps KV cache in host memory; None where it does not.
    stores : tuple of StoreRule
        The stores of KV cache it shares with other replicas.
    max_waiting_tokens : float
        Decode steps after which a single waiting request interrupts decoding. Before that, the
        requests that wait have to be as many as those that run, times the share of these steps that
        is left. 0: a request waits for no others.
    """

    name: str
    batching: Batching
    max_num_batched_tokens: int
    max_num_seqs: int
    memory_fraction: float
    memory: MemoryRule
    step_overhead_s: float
    block_tokens: int
    source: str
    sequence_overhead_s: float = 0.0
    attended: AttendedTokens = AttendedTokens.PAST
    cache_is_stated: bool = False
    limits: tuple[DefaultLimits, ...] = ()
    first_token: FirstToken | None = None
    guess_step_s: float = 0.0
    guess_sequence_s: float = 0.0
    multiplied_in: tuple[tuple[DeviceKind, Precision, Precision], ...] = ()
    writes_weights_out: bool = False
    captures_graphs: bool = True
    prefix_sharing: PrefixSharing = PrefixSharing.AFTER_PROMPT
    host_tier: HostTierRule | None = None
    stores: tuple[StoreRule, ...] = ()
    max_waiting_tokens: float = 0.0

    def gathering_steps(self, output_tokens: float, concurrency: float) -> float:
        """Return the mean decode steps a new request waits for others, in a closed loop.

        With outputs of L tokens, 1 / L of the running requests end in each step and are replaced.
        After T L / (T + L) steps enough of them wait, where T is ``max_waiting_tokens``; a request
        waits half of that on average (24 and 24: 6 steps). The engine rounds the number needed
        down, which shortens the wait of few requests by 3 / concurrency, fitted on LLM Pilot.
        """
        if not self.max_waiting_tokens:
            return 0.0
        interval = 1.0 / (1.0 / self.max_waiting_tokens + 1.0 / output_tokens)
        return interval / 2.0 * max(1.0 - 3.0 / concurrency, 0.0)

    def store(self, kind: StoreKind, hardware: DeviceKind) -> StoreRule | None:
        """Return how the engine uses a store of this kind on hardware, or None: it cannot."""
        fitting = (rule for rule in self.stores if rule.kind is kind and hardware in rule.hardware)
        return next(fitting, None)

    def limits_on(self, device: Device, version: tuple[int, int] = NEWEST) -> tuple[int, int]:
        """Return the default tokens of a step and running sequences on ``device``.

        ``version`` is major and minor; the newest by default.
        """
        for row in self.limits:
            if row.holds_for(device, version):
                return row.max_num_batched_tokens, row.max_num_seqs
        return self.max_num_batched_tokens, self.max_num_seqs
