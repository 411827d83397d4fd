"""A population of candidates as one table of arrays, one row a candidate."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from budsim.commons.precision import Precision
from budsim.engine_ops.engine_profile import EngineProfile
from budsim.hardware_ops.device import Device
from budsim.model_ops.architecture import Architecture
from budsim.model_ops.media import Media
from budsim.performance.speculation import Speculation

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
Booleans = NDArray[np.bool_]


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidates:
    """One row per candidate; index columns point into the tuples of distinct values.

    Attributes
    ----------
    architectures, devices, engines, precisions : tuples
        The distinct values.
    architecture, device, engine, weight_precision, kv_precision : int arrays, shape (n,)
        Index columns.
    tp, pp, ep, dp : int arrays, shape (n,)
        A replica has ``tp x pp`` devices. ``ep`` > 1 spreads experts, ``dp`` attention, inside
        them.
    input_tokens, output_tokens, concurrency, prefix_hit_share : float arrays, shape (n,)
        Traffic of one replica. Lengths are means.
    token_budget, max_num_seqs, memory_fraction : float arrays, shape (n,)
        Engine knobs (``max_num_batched_tokens``, ``max_num_seqs``, ``gpu_memory_utilization``).
    chunked_prefill : bool array, shape (n,)
        Whether prompts may be cut to the token budget.
    cores : float array, shape (n,)
        Physical cores per device rank (CPU only; 0 elsewhere).
    compute_share : float array, shape (n,)
        Share of the device left to this replica on time-sliced hardware, 0..1.
    memory_free_bytes : float array, shape (n,)
        Memory of one device the replica may use at most.
    admission_steps : float array, shape (n,)
        Mean engine steps a new request waits because the scheduler looks at its queue only now
        and then; 0 where it always does.
    stack_year, engine_year : float arrays, shape (n,)
        Date of the software as a whole, and of the engine's release (calendar year with its
        fraction); nan where unknown.
    cold_start : bool array, shape (n,)
        Whether a benchmark's first requests met a server that had served none, so that mean TTFT
        holds its compilation.
    static_batch : bool array, shape (n,)
        Whether all ``concurrency`` prompts are prefilled as one batch and decoded together, as
        offline benchmarks do.
    speculative : bool array, shape (n,)
        Whether multi-token prediction drafts tokens.
    speculations : tuple of Speculation
        The distinct ways to speculate; empty where no row does.
    speculation : int array, shape (n,), or None
        Index column into ``speculations``; None where no row speculates.
    prefix_set_tokens : float array, shape (n,), or None
        Tokens of all prefixes that requests return to, 0 where they are always found; None where
        that holds for all rows.
    unshared_tokens : float array, shape (n,), or None
        Tokens that each request leaves in the caches beside those prefixes and nobody uses again; 0
        where ``prefix_set_tokens`` counts them already.
    tier_bytes : float array, shape (n,), or None
        Host memory for KV cache, for each device; None where there is none.
    store_bytes, store_bytes_per_s : float arrays, shape (n,), or None
        KV cache in a store that replicas share, of the prefixes this replica meets, and what one
        device reads of it; None where there is none.
    store_through_host : bool array, shape (n,), or None
        Whether the engine reads it into host memory, so that there has to be some.
    media : tuple of Media
        The distinct items of a request; empty where all rows read text alone.
    medium : int array, shape (n,), or None
        Index column into ``media``; None where all rows read text alone.
    prefix_caching : bool array, shape (n,), or None
        Whether prompts find the prefixes of earlier ones again; None where all do.
    eager : bool array, shape (n,), or None
        Whether decode steps run without captured graphs (vLLM's ``--enforce-eager``, SGLang's
        ``--disable-cuda-graph``); None where all run with them.
    adapter_ranks : float array, shape (n,), or None
        LoRA slots times the rank each may have (``max_loras`` x ``max_lora_rank``); None where no
        adapter is served.
    """

    architectures: tuple[Architecture, ...]
    devices: tuple[Device, ...]
    engines: tuple[EngineProfile, ...]
    precisions: tuple[Precision, ...]
    architecture: Integers
    device: Integers
    engine: Integers
    weight_precision: Integers
    kv_precision: Integers
    tp: Integers
    pp: Integers
    ep: Integers
    dp: Integers
    input_tokens: Floats
    output_tokens: Floats
    concurrency: Floats
    prefix_hit_share: Floats
    token_budget: Floats
    max_num_seqs: Floats
    memory_fraction: Floats
    chunked_prefill: Booleans
    cores: Floats
    compute_share: Floats
    memory_free_bytes: Floats
    admission_steps: Floats
    stack_year: Floats
    engine_year: Floats
    cold_start: Booleans
    static_batch: Booleans
    speculative: Booleans
    prefix_caching: Booleans | None = None
    eager: Booleans | None = None
    adapter_ranks: Floats | None = None
    speculations: tuple[Speculation, ...] = ()
    speculation: Integers | None = None
    prefix_set_tokens: Floats | None = None
    unshared_tokens: Floats | None = None
    tier_bytes: Floats | None = None
    store_bytes: Floats | None = None
    store_bytes_per_s: Floats | None = None
    store_through_host: Booleans | None = None
    media: tuple[Media, ...] = ()
    medium: Integers | None = None

    def __len__(self) -> int:
        """Return the number of candidates."""
        return len(self.tp)

    def by_device(self, values: Sequence[float]) -> Floats:
        """Spread one figure per distinct device over the rows."""
        return np.asarray(values, dtype=np.float64)[self.device]

    def by_speculation(self, values: Sequence[float]) -> Floats:
        """Spread one figure per distinct way to speculate over the rows that have any."""
        return np.asarray(values, dtype=np.float64)[self.speculation]

    @property
    def tokens_per_step(self) -> Floats:
        """Mean tokens a decode step yields for a sequence, 1 where nothing is guessed, (n,)."""
        if self.speculation is None:
            return np.ones(len(self))
        return self.by_speculation([each.tokens_per_step for each in self.speculations])

    @property
    def draft_tokens(self) -> Floats:
        """Tokens guessed ahead for each sequence and step, (n,)."""
        if self.speculation is None:
            return np.zeros(len(self))
        return self.by_speculation([float(each.draft_tokens) for each in self.speculations])

    @property
    def has_items(self) -> Booleans:
        """Whether requests of each row hold images, video or audio, (n,)."""
        if self.medium is None:
            return np.zeros(len(self), dtype=bool)
        return np.array([bool(each) for each in self.media])[self.medium]

    def by_engine(self, values: Sequence[float]) -> Floats:
        """Spread one figure per distinct engine over the rows."""
        return np.asarray(values, dtype=np.float64)[self.engine]


def rows_of(candidates: Candidates, at: Integers) -> Candidates:
    """Return some rows of a table, its distinct values as they are."""
    columns: dict[str, Any] = {
        field.name: getattr(candidates, field.name) for field in fields(candidates)
    }
    chosen: dict[str, Any] = {
        name: value[at] if isinstance(value, np.ndarray) else value
        for name, value in columns.items()
    }
    return Candidates(**chosen)


def joined(tables: Sequence[Candidates]) -> Candidates:
    """Return the rows of several tables as one, in their order.

    Their distinct values are the same; where only some guess tokens ahead, the others do not.
    """
    if len(tables) == 1:
        return tables[0]
    ways = max((table.speculations for table in tables), key=len)
    if ways:
        none = [np.zeros(len(table), dtype=np.int64) for table in tables]
        tables = [
            table if table.speculations else replace(table, speculations=ways, speculation=zeros)
            for table, zeros in zip(tables, none, strict=True)
        ]
    columns: dict[str, Any] = {}
    for field in fields(Candidates):
        values = [getattr(table, field.name) for table in tables]
        is_column = isinstance(values[0], np.ndarray)
        columns[field.name] = np.concatenate(values) if is_column else values[0]
    return Candidates(**columns)


def kinds_of(columns: Sequence[Floats | Integers | Booleans]) -> tuple[Integers, Integers]:
    """Return the first row of each kind of rows, and the number of every row's kind.

    Rows of one kind are equal in all columns. Columns of (1, 2, 1) and (0, 0, 0): first rows 0 and
    1, kinds 0, 1 and 0.
    """
    table = np.stack([np.nan_to_num(column.astype(np.float64)) for column in columns], axis=1)
    _, first, kind = np.unique(table, axis=0, return_index=True, return_inverse=True)
    return first, np.asarray(kind).ravel()
