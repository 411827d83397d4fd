"""From judged disaggregated deployments to plans: launched, placed, explained and priced."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from budsim.engine_ops.base import PoolRole, ReplicaConfig
from budsim.engine_ops.kv_store import KvStore
from budsim.hardware_ops.cluster import Cluster
from budsim.performance.candidates import Floats
from budsim.performance.predictions import BOUNDS, MemoryUse
from budsim.performance.serving.pools.causes import pool_causes
from budsim.simulator.planning.choices import Choices
from budsim.simulator.planning.explanations import encoder_s
from budsim.simulator.planning.hardware_groups import HardwareGroup
from budsim.simulator.planning.placement import groups_for_sets, place
from budsim.simulator.planning.plans import (
    Explanation,
    Figure,
    HostTierEffect,
    Plan,
    PredictedService,
    ReplayedRequests,
    ReplicaGroup,
)
from budsim.simulator.planning.pool_search import (
    JudgedPools,
    PairedPools,
    judge_pools,
    memory_of_workers,
    replayed_pools,
)
from budsim.simulator.planning.pool_workers import prefixes_held, tabulated_prefill
from budsim.simulator.planning.replica_groups import (
    config_id_of,
    figures_of_row,
    memory_of_row,
    metadata_of,
    per_s_of,
    service_of_row,
)
from budsim.simulator.planning.scoring import Scoring

_Pair = tuple[HardwareGroup, HardwareGroup]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Pool:
    """One pool of several deployments, one a row: its workers, where they may lie, their memory."""

    role: PoolRole
    choices: Choices
    hardware: Sequence[HardwareGroup]
    memory: MemoryUse


def pool_plans(
    scoring: Scoring,
    cluster: Cluster,
    judged: JudgedPools,
    groups: _Pair,
) -> list[Plan]:
    """Return each row as a plan; ``groups`` are the devices of both pools, or the same twice."""
    paired = judged.paired
    hardware = [_hardware(judged, row, groups) for row in range(len(paired))]
    memory = memory_of_workers(paired)
    pools = (
        _pool(PoolRole.PREFILL, paired.prefill.choices, memory[0], hardware),
        _pool(PoolRole.DECODE, paired.decode.choices, memory[1], hardware),
    )
    spent = pool_causes(judged.pools, judged.served)
    parts = _PlanParts(
        scoring=scoring,
        cluster=cluster,
        judged=judged,
        time_s=spent,
        encoder_s=encoder_s(scoring, paired.prefill.choices),
        tiers=_tiers(scoring, judged),
    )
    carried = np.isfinite(judged.judged.shortfall)
    return [parts.plan(row, pools) for row in np.flatnonzero(carried).tolist()]


def _tiers(scoring: Scoring, judged: JudgedPools) -> Sequence[HostTierEffect | None]:
    """Return where each row's prefill workers find prefixes; None where none is ever dropped."""
    question, paired = scoring.question, judged.paired
    workers, rows = paired.prefill, range(len(paired))
    if workers.table.prefix_set_tokens is None:
        return [None for _ in rows]
    asked = scoring.linked_candidates(workers.choices)
    found = prefixes_held(replace(asked, store_bytes=workers.table.store_bytes))
    alone = tabulated_prefill(scoring, workers.choices, further_tiers=False)
    without = replayed_pools(question, judge_pools(question, replace(paired, prefill=alone)))
    host = np.zeros(len(paired)) if asked.tier_bytes is None else asked.tier_bytes
    stores = [_store_of(scoring, paired, row) for row in rows]
    return [
        HostTierEffect(
            host_bytes=float(host[row] * workers.choices.replica_devices[row]),
            device_share=float(found.device[row]),
            host_share=float(found.host[row]),
            ttft_without_s=float(without.predictions.service.ttft_s[row])
            if np.isfinite(without.judged.shortfall[row])
            else math.nan,
            store_bytes=store.capacity_bytes if store else 0.0,
            store_share=float(found.store[row]),
        )
        for row, store in zip(rows, stores, strict=True)
    ]


def _store_of(scoring: Scoring, paired: PairedPools, row: int) -> KvStore | None:
    """Return the store that the prefill workers of a row read, or None."""
    link = scoring.options[int(paired.prefill.choices.option[row])].store
    stored = paired.prefill.table.store_bytes
    return link.store if link and stored is not None and stored[row] else None


def _pool(role: PoolRole, choices: Choices, memory: MemoryUse, hardware: Sequence[_Pair]) -> _Pool:
    place_of = 0 if role is PoolRole.PREFILL else 1
    return _Pool(
        role=role,
        choices=choices,
        hardware=[pair[place_of] for pair in hardware],
        memory=memory,
    )


def _hardware(judged: JudgedPools, row: int, groups: _Pair) -> _Pair:
    """Return the devices each pool of a row may take; no two share one."""
    if groups[0] is not groups[1]:
        return groups
    prefill, decode = groups_for_sets(groups[0], judged.paired.sets(row))
    return prefill, decode


@dataclass(frozen=True, slots=True, kw_only=True)
class _PlanParts:
    """What the plans of several deployments are made of; ``time_s`` is (len(`BOUNDS`), n).

    ``encoder_s`` (n,) and ``tiers`` are what prefill workers do with items and prefixes.
    """

    scoring: Scoring
    cluster: Cluster
    judged: JudgedPools
    time_s: Floats
    encoder_s: Floats
    tiers: Sequence[HostTierEffect | None]

    def plan(self, row: int, pools: tuple[_Pool, _Pool]) -> Plan:
        """Return one deployment as a plan of two groups."""
        service = self._service(row)
        groups = tuple(self._group(row, pool, service) for pool in pools)
        return Plan(
            cluster_id=self.cluster.cluster_id,
            groups=groups,
            ttft_s=service.ttft_s.value,
            tokens_per_s_per_user=service.tokens_per_s_per_user.value,
            e2e_s=service.e2e_s.value,
            error_rate=float(self.judged.judged.missed[row]),
            cost_usd_per_h=sum(group.cost_usd_per_h for group in groups),
            cost_per_million_tokens_usd=float(self.judged.usd_per_million_tokens[row]),
        )

    def _group(self, row: int, pool: _Pool, service: PredictedService) -> ReplicaGroup:
        choices, scoring, judged = pool.choices, self.scoring, self.judged
        option = scoring.options[int(choices.option[row])]
        cache_bytes = scoring.cache_bytes(choices, row, pool.memory)
        way = scoring.speculation(judged.paired.decode.choices, row)
        config = self._config(row, pool, scoring.config(choices, row, cache_bytes, way))
        workers, question = int(choices.replicas[row]), scoring.question
        launch = option.engine.launch(question.architecture, config)
        placements = place(pool.hardware[row], config.tp, config.pp, workers)
        per_h = workers * config.tp * config.pp * config.device.price_usd_per_h
        share = per_h / float(judged.paired.usd_per_h[row])
        return ReplicaGroup(
            config_id=config_id_of(self.cluster, option, config, launch, placements),
            engine=option.engine.name,
            kind=config.device.kind,
            label=pool.hardware[row].label,
            config=config,
            placements=placements,
            service=replace(service, requests_per_s=self._per_s(row, workers, service.e2e_s)),
            memory=memory_of_row(pool.memory, row, cache_bytes),
            launch=launch,
            metadata=metadata_of(question, option.engine, config.device.kind),
            explanation=self._explanation(row, pool.role),
            error_rate=float(judged.judged.missed[row]),
            chance=float(judged.judged.chance[row]),
            shortfall=float(judged.judged.shortfall[row]),
            cost_usd_per_h=per_h,
            cost_per_million_tokens_usd=share * float(judged.usd_per_million_tokens[row]),
            speculation=way,
            replayed=self._replayed(row, pool.role, workers),
        )

    def _config(self, row: int, pool: _Pool, config: ReplicaConfig) -> ReplicaConfig:
        """Return a worker as its pool launches it: decode workers keep caches on devices alone."""
        paired = self.judged.paired
        staged = bool(paired.prefill.choices.pp[row] > 1)
        if pool.role is PoolRole.DECODE:
            config, store = replace(config, kv_offload_bytes=0.0), None
        else:
            store = _store_of(self.scoring, paired, row)
        return replace(config, role=pool.role, from_stages=staged, kv_store=store)

    def _service(self, row: int) -> PredictedService:
        """Return what one request sees of both pools; its requests/s are those of all workers."""
        found = self.judged.predictions
        figures = figures_of_row(found, row)
        return service_of_row(
            found, row, figures, self._per_s(row, 1, figures["e2e_s"]), self.time_s
        )

    def _per_s(self, row: int, workers: int, e2e_s: Figure) -> Figure:
        """Return the requests that pass one of so many workers per second."""
        traffic = self.scoring.question.traffic
        if not traffic.is_open:
            return per_s_of(float(self.judged.pools.concurrency[row]) / workers, e2e_s)
        # What comes at a rate that is carried passes at that rate.
        return Figure.certain(traffic.rate / workers)

    def _replayed(self, row: int, role: PoolRole, workers: int) -> ReplayedRequests | None:
        """Return what replayed requests saw of both pools, with the load of one worker."""
        seen = self.judged.replayed
        # Plans of replicas show what single requests see where the question asks for that.
        found = seen.requests(row) if seen and self.scoring.question.needs_replay else None
        if not isinstance(found, ReplayedRequests):
            return None
        # Decode workers compute as long as anybody decodes.
        busy = found.utilisation if role is PoolRole.PREFILL else min(found.running, 1.0)
        return replace(
            found,
            requests_per_s=found.requests_per_s / workers,
            running=found.running / workers,
            waiting=found.waiting / workers,
            rate=found.rate / workers,
            largest_stable_rate=found.largest_stable_rate / workers,
            utilisation=busy,
        )

    def _explanation(self, row: int, role: PoolRole) -> Explanation:
        shares = self.time_s[:, row] / self.time_s[:, row].sum()
        figures, reads = self.judged.figures, role is PoolRole.PREFILL
        return Explanation(
            time_shares=dict(zip(BOUNDS, shares.tolist(), strict=True)),
            headroom=self.scoring.question.targets.margins(figures, row),
            next_replica=None,
            encoder_s=float(self.encoder_s[row]) if reads else 0.0,
            host_tier=self.tiers[row] if reads else None,
        )
