"""How an engine divides a device between weights, activations, graphs and the KV cache.

Each engine's own values, by version, are in its folder (``vllm/memory.py``, ``sglang/memory.py``).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from budsim.commons.errors import NotFound
from budsim.commons.units import GIB

# Pairs of the first version (major, minor) a rule holds for and the rule, newest first.
VersionedRules = Sequence[tuple[tuple[int, int], "MemoryRule"]]

# `MemoryRule.in_flight_steps` of engines that admit requests by their windows alone.
WINDOWS_ALONE: Final = -1


class ShareOf(StrEnum):
    """What an engine's memory fraction is a share of.

    ``DEVICE``: the whole device: weights, activations, reserve and cache. ``STATIC``: weights and
    cache alone. ``FREE``: what weights and activations leave.
    """

    DEVICE = "device"
    STATIC = "static"
    FREE = "free"


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryRule:
    """What one rank of an engine needs beside weights and cache, and how the cache is pooled.

    Attributes
    ----------
    share_of : ShareOf
        What the memory fraction is a share of.
    context_bytes, group_bytes : float
        Memory a rank holds outside the allocator, and what a tensor-parallel group adds to it.
    logit_bytes : float
        Bytes alive for each logit at the peak of sampling; rows are ``max_num_seqs``, columns the
        vocabulary.
    hidden_copies : float
        16-bit values alive for each token and hidden dimension at the peak of a step, beside the
        widest layer.
    graph_bytes : float
        CUDA graphs that come out of the fraction, for each layer and captured batch size; 0 where
        they are not counted.
    graph_share : float
        Share of the cache's memory that is given to graphs instead (Gaudi), 0..1.
    grouped : bool
        Whether layers of different attention share one pool in groups of equal size, the last
        group of each padded.
    window_share : float
        Least share of a sequence's tokens that layers with a window hold, where they have a pool
        of their own (0..1).
    in_flight_steps : int
        Steps under way at a time, each of whose tokens a windowed layer may have to hold beside
        its window when a request is admitted; -1 where windows alone are counted.
    mxfp4_scale_bytes : float
        Bytes of scales a rank holds for each 32 values of MXFP4 experts in FP8 checkpoints, on
        CUDA devices before Blackwell.
    state_blocks : float
        Recurrent states kept for each running sequence.
    state_pool : float
        Memory for recurrent states in shares of the memory for keys and values, where it is set
        aside at start; 0 where it is not.
    state_bytes : float
        Least bytes of one value of recurrent state.
    source : str
        Where this was read, with the version.
    """

    share_of: ShareOf
    context_bytes: float
    source: str
    group_bytes: float = 0.0
    logit_bytes: float = 2.0
    hidden_copies: float = 2.0
    graph_bytes: float = 0.0
    graph_share: float = 0.0
    grouped: bool = False
    window_share: float = 0.0
    in_flight_steps: int = WINDOWS_ALONE
    mxfp4_scale_bytes: float = 1.0
    state_blocks: float = 1.0
    state_pool: float = 0.0
    state_bytes: float = 2.0


# The rule of engines that reserve no cache at start: the whole device is theirs.
CACHE_GROWS = MemoryRule(
    share_of=ShareOf.DEVICE,
    context_bytes=1.0 * GIB,
    source="cache allocated as it grows; context: our estimate",
)


def rule_of(engine: str, rules: VersionedRules, version: str | None = None) -> MemoryRule:
    """Return the rule of ``version`` (``0.19.0``), or the newest one.

    Raises
    ------
    NotFound
        When the version is older than every rule that was read.
    """
    if version is None:
        return rules[0][1]
    wanted = tuple(int(part) for part in version.split(".")[:2])
    for since, rule in rules:
        if wanted >= since:
            return rule
    oldest = ".".join(map(str, rules[-1][0]))
    raise NotFound("engine", f"{engine} {version}", f"memory rules of {engine} from {oldest} on")
