"""What a running server exports to Prometheus, by what the figures mean here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerMetrics:
    """Names of an engine's Prometheus metrics.

    Attributes
    ----------
    ttft, itl, e2e : str
        Histograms over requests (``itl``: over gaps between two tokens), seconds.
    running, waiting : str
        Gauges: requests in the batch, and in the queue.
    cache_usage : str
        Gauge: share of the KV cache in use, 0 to 1.
    prompt_tokens, generation_tokens, cached_tokens : str
        Counters of tokens: of prompts, generated, and of prompts found in the prefix cache.
    model_label : str
        Label with the name of the served model.
    enabled_by : mapping
        Arguments without which the server exports nothing; empty where it always does.
    source : str
        Where the names are documented.
    """

    ttft: str
    itl: str
    e2e: str
    running: str
    waiting: str
    cache_usage: str
    prompt_tokens: str
    generation_tokens: str
    cached_tokens: str
    model_label: str
    source: str
    enabled_by: Mapping[str, bool] = field(default_factory=dict)
