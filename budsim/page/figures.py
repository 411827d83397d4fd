"""Figures with their ranges, and parts of a whole, as the templates show them."""

from __future__ import annotations

from dataclasses import dataclass

from budsim.commons.units import GIB
from budsim.page.charts import number
from budsim.simulator.planning.plans import Figure, PredictedMemory


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranged:
    """A figure with the range that holds 90 of 100 measured means."""

    value: str
    low: str
    high: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One part of a whole: its name, its size in words, and its share (0..1) of the whole."""

    name: str
    text: str
    share: float
    start: float


def ranged(figure: Figure, factor: float = 1.0) -> Ranged:
    """Return a figure in another unit, with the range that holds 90 % of measured means."""
    value, low, high = (
        number(each * factor) for each in (figure.value, figure.low90, figure.high90)
    )
    return Ranged(value=value, low=low, high=high)


def memory_parts(memory: PredictedMemory) -> tuple[Part, ...]:
    """Return what a device's memory is used for, as parts of what the engine may use."""
    used = (
        ("weights", memory.weight_bytes),
        ("KV cache", memory.kv_cache_bytes),
        ("activations", memory.activation_bytes),
        ("reserve", memory.reserved_bytes),
    )
    return parts(
        [(name, f"{size / GIB:.1f} GiB", size / memory.budget_bytes) for name, size in used]
    )


def parts(given: list[tuple[str, str, float]]) -> tuple[Part, ...]:
    """Return parts (name, text, share of the whole) one after another; at most the whole."""
    found, start = [], 0.0
    for name, text, share in given:
        kept = max(0.0, min(share, 1.0 - start))
        found.append(Part(name=name, text=text, share=kept, start=start))
        start += kept
    return tuple(found)
