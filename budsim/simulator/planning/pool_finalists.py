"""Which deployments of two pools are launched and placed: the best of each pair of layouts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np

from budsim.performance.candidates import Booleans, Integers
from budsim.simulator.planning.hardware_groups import HardwareGroup
from budsim.simulator.planning.placement import EqualReplicas, free_after
from budsim.simulator.planning.pool_search import (
    JudgedPools,
    PairedPools,
    with_replayed_rows,
)
from budsim.simulator.planning.question import Question

# Deployments of each pair of device types and engine that are predicted exactly.
KEPT_OF_A_PAIR: Final = 4
# Of each part of the targets on means, so many more are replayed.
KEPT_OF_A_PART: Final = 2
PARTS_OF_TARGETS: Final = (0.7, 0.5, 0.35, 0.25)
# Means of a closed loop count turns that collide, of which a replay finds fewer: the cheapest that
# miss by means are replayed, too, up to so many times the targets.
TIMES_OF_TARGETS: Final = (1.25, 1.6, 2.5)

# Deployments of each pair under a closed loop that are replayed before the best are chosen: the
# best by means, and the cheapest within each of `TIMES_OF_TARGETS`.
REPLAYED_BEST: Final = 64
REPLAYED_NEAR: Final = 32

# Devices of the prefill and of the decode workers, which may be the same.
Groups = tuple[HardwareGroup, HardwareGroup]


def finalists(question: Question, judged: JudgedPools, groups: Groups, order: Integers) -> Integers:
    """Return the first rows of an order that can be placed, one of each pair of layouts.

    Means do not tell percentiles. Where requests are replayed, the best of those that keep within
    ever smaller parts of the targets follow, and the cheapest that are near them.
    """
    kept = _placeable(judged, order, groups, KEPT_OF_A_PAIR)
    if question.needs_replay:
        used = np.max(question.mean_targets.ratios(judged.figures), axis=0, initial=0.0)
        for part in PARTS_OF_TARGETS:
            within = order[used[order] <= part]
            kept += _placeable(judged, within, groups, KEPT_OF_A_PART)
        cheapest = order[np.argsort(judged.usd_per_million_tokens[order], kind="stable")]
        for times in TIMES_OF_TARGETS:
            near = cheapest[used[cheapest] <= times]
            kept += _placeable(judged, near, groups, KEPT_OF_A_PART)
    return np.array(list(dict.fromkeys(kept)), dtype=np.int64)


def closer_look(question: Question, judged: JudgedPools) -> JudgedPools:
    """Return deployments under a closed loop with those replayed that may be the best."""
    order = judged.ranking()
    used = np.max(question.mean_targets.ratios(judged.figures), axis=0, initial=0.0)
    cheapest = order[np.argsort(judged.usd_per_million_tokens[order], kind="stable")]
    near = [cheapest[used[cheapest] <= times][:REPLAYED_NEAR] for times in (1.0, *TIMES_OF_TARGETS)]
    rows = np.unique(np.concatenate([order[:REPLAYED_BEST], *near]))
    return with_replayed_rows(question, judged, rows)


def have_place(sets: Sequence[EqualReplicas], groups: Groups) -> bool:
    """Return whether the workers of both pools lie on free devices, no two on the same."""
    if groups[0] is groups[1]:
        return free_after(groups[0], sets) is not None
    pairs = zip(groups, sets, strict=True)
    return all(group.capacity(each.tp, each.pp) >= each.replicas for group, each in pairs)


def _layouts(paired: PairedPools, *more: str) -> Integers:
    """Return what tells the layouts of both pools apart, and ``more`` knobs, (n, k)."""
    columns = [
        getattr(workers.choices, name)
        for workers in (paired.prefill, paired.decode)
        for name in ("tp", "pp", "ep", "dp", "weights", "kv", *more)
    ]
    return np.stack(columns, axis=1)


def no_more_workers(paired: PairedPools, rows: Integers, than: int) -> Booleans:
    """Return which rows have the layouts of one row, and no more workers of either pool."""
    layouts = _layouts(paired, "max_num_batched_tokens")
    alike = (layouts[rows] == layouts[than]).all(axis=1)
    counts = np.stack([paired.prefill_count, paired.decode_count], axis=1)
    return np.asarray(alike & (counts[rows] <= counts[than]).all(axis=1))


def _placeable(judged: JudgedPools, order: Integers, groups: Groups, most: int) -> list[int]:
    """Return the first rows of an order that can be placed, one of each pair of layouts."""
    paired = judged.paired
    _, layouts = np.unique(_layouts(paired), axis=0, return_inverse=True)
    layout_of, kept = layouts.ravel().tolist(), dict[int, int]()
    full = set[object]()
    for row in order.tolist():
        if len(kept) == most:
            break
        sizes = tuple(paired.sets(row))
        if layout_of[row] in kept or sizes in full:
            continue
        if have_place(sizes, groups):
            kept[layout_of[row]] = row
        else:
            full.add(sizes)
    return list(kept.values())
