"""What changed workers would do to a plan of prefill and decode pools while all else stays."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from budsim.commons.errors import InvalidInput
from budsim.engine_ops import serving_engines
from budsim.engine_ops.base import PoolRole, ReplicaConfig, ServingEngine
from budsim.simulator.planning.group_changes import (
    check_knob,
    hardware_of_pools,
    why_too_large,
)
from budsim.simulator.planning.hardware_groups import HardwareGroup
from budsim.simulator.planning.knob_changes import (
    FIELD,
    FORMATS,
    TRAFFIC,
    KnobChange,
    knob_name,
    known_knobs,
    roomy,
    spelled,
    whole,
    with_knob,
    with_traffic,
)
from budsim.simulator.planning.known_pools import (
    Configs,
    judged_as_shown,
    paired_of,
    scoring_of,
)
from budsim.simulator.planning.placement import EqualReplicas
from budsim.simulator.planning.plans import Plan, ReplicaGroup
from budsim.simulator.planning.pool_finalists import have_place
from budsim.simulator.planning.pool_groups import pool_plans
from budsim.simulator.planning.pool_search import PairedPools, judge_pools, memory_of_workers
from budsim.simulator.planning.pool_workers import why_no_pipelines
from budsim.simulator.planning.question import Question
from budsim.simulator.planning.scoring import Scoring

_ROLES: Final = (PoolRole.PREFILL, PoolRole.DECODE)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Workers:
    """The workers of one pool: what each is launched with, and how many there are."""

    config: ReplicaConfig
    count: int

    def with_knob(self, name: str, value: str) -> _Workers:
        """Return the workers with one field changed, or another number of them."""
        if name == "workers":
            return replace(self, count=whole(name, value))
        return replace(self, config=with_knob(self.config, name, value))

    def sharing(self, in_flight: int, named: set[str]) -> _Workers:
        """Return the workers with their share of the requests, and room for bursts of them."""
        shared = replace(self.config, concurrency=-(-in_flight // self.count))
        return replace(
            self, config=shared if "max_num_seqs" in named else roomy(self.config, shared)
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Change:
    """What is asked of a changed plan: its question, the workers of both pools, their devices."""

    question: Question
    plan: Plan
    prefill: _Workers
    decode: _Workers
    hardware: tuple[HardwareGroup, HardwareGroup]

    @property
    def pools(self) -> tuple[_Workers, _Workers]:
        """Both pools."""
        return self.prefill, self.decode

    @property
    def configs(self) -> Configs:
        """What a worker of each pool is launched with."""
        return self.prefill.config, self.decode.config

    @property
    def scoring(self) -> Scoring:
        """One option for each pool."""
        engine = serving_engines[self.plan.groups[0].engine]
        return scoring_of(self.question, engine, self.hardware, self.configs)

    def paired(self) -> PairedPools:
        """Return the deployment as a table of one row."""
        counts = self.prefill.count, self.decode.count
        return paired_of(self.scoring, self.hardware, self.configs, counts)


def change_pools(question: Question, plan: Plan, changes: Mapping[str, str]) -> KnobChange:
    """Return what both pools of a disaggregated plan do with knobs changed, all at once.

    A knob of one pool has its name in front: ``prefill_workers``, ``decode_tp``,
    ``decode_max_num_seqs``. Formats are those of both pools; ``concurrency``, ``rate``,
    ``input_tokens`` and ``output_tokens`` are the traffic's.

    Raises
    ------
    InvalidInput
        There is no such knob, the engine refuses the value, or the cluster has too few devices.
    """
    prefill, decode = plan.groups
    engine = serving_engines[prefill.engine]
    named: dict[tuple[PoolRole, str], str] = {}
    for knob, value in changes.items():
        named |= dict.fromkeys(_knobs(knob, engine, prefill), value)
    change = _changed(question, plan, named)
    _check(change, engine, named)
    problem = _why_too_large(change)
    after = () if problem else _predicted(change)
    if not problem and not after:
        traffic = change.question.traffic
        problem = f"does not carry {traffic.rate:,.4g} requests/s"
    changed = {_spelled(*each): value for each, value in named.items()}
    return KnobChange(
        knob=", ".join(changed),
        value=", ".join(changed.values()),
        before=decode,
        after=after[1] if after else None,
        problem=problem,
        prefill_before=prefill,
        prefill_after=after[0] if after else None,
    )


def _knobs(knob: str, engine: ServingEngine, group: ReplicaGroup) -> Iterator[tuple[PoolRole, str]]:
    """Yield which pools a knob is of, and its name there; ``WHOLE`` for the traffic."""
    given = spelled(knob)
    role, _, rest = given.partition("_")
    if role not in _ROLES:
        yield from _common_knobs(knob, _known_name(knob, given, engine, group))
        return
    name = _known_name(knob, "replicas" if rest == "workers" else rest, engine, group)
    if name in TRAFFIC or name in FORMATS:
        raise InvalidInput(FIELD, f"{name} is the same in both pools", f"{name}, as KNOB=VALUE")
    if name == "pp" and role == PoolRole.DECODE:
        problem = "decode workers are no pipelines: no engine hands caches over to their stages"
        raise InvalidInput(FIELD, problem, "decode_tp, decode_workers or prefill_pp, as KNOB=VALUE")
    yield PoolRole(role), "workers" if name == "replicas" else name


def _common_knobs(knob: str, name: str) -> Iterator[tuple[PoolRole, str]]:
    """Yield whose knob one without a pool's name is; errors as those of `change_pools`."""
    if name in TRAFFIC:
        yield PoolRole.WHOLE, name
    elif name in FORMATS:
        yield from ((each, name) for each in _ROLES)
    else:
        one = "workers" if name == "replicas" else name
        raise InvalidInput(
            FIELD, f"{knob} is of one pool", f"prefill_{one} or decode_{one}, as KNOB=VALUE"
        )


def _known_name(knob: str, given: str, engine: ServingEngine, group: ReplicaGroup) -> str:
    """Return the name of a knob; what pools have is told where there is no such knob."""
    try:
        return knob_name(given, engine, group)
    except InvalidInput as error:
        both = sorted((*TRAFFIC, *FORMATS))
        own = [name for name in known_knobs() if name not in {*both, "pp", "replicas"}]
        each = ", ".join(f"prefill_{name}, decode_{name}" for name in ("workers", *own))
        each = f"{each}, prefill_pp"
        problem = f"{knob!r} is no knob of prefill and decode pools"
        expected = f"one of {each}, {', '.join(both)}, as KNOB=VALUE"
        raise InvalidInput(FIELD, problem, expected) from error


def _sizes(config: ReplicaConfig) -> str:
    return f"tp={config.tp}" + (f", pp={config.pp}" if config.pp > 1 else "")


def _spelled(role: PoolRole, name: str) -> str:
    return name if role is PoolRole.WHOLE or name in FORMATS else f"{role}_{name}"


def _changed(question: Question, plan: Plan, named: Mapping[tuple[PoolRole, str], str]) -> _Change:
    """Return question and workers as they are asked for, each with its share of the requests."""
    pools = {
        group.role: _Workers(config=group.config, count=group.replicas) for group in plan.groups
    }
    asked = question
    for (role, name), value in named.items():
        if role is PoolRole.WHOLE:
            asked = with_traffic(asked, name, value)
        else:
            pools[role] = _with_knob(pools[role], role, name, value)
    change = _Change(
        question=asked,
        plan=plan,
        prefill=pools[PoolRole.PREFILL],
        decode=pools[PoolRole.DECODE],
        hardware=hardware_of_pools(question, plan),
    )
    counts = tuple(group.replicas for group in plan.groups)
    is_shared_anew = asked != question or counts != (change.prefill.count, change.decode.count)
    return _sharing(change, set(named)) if is_shared_anew else change


def _with_knob(workers: _Workers, role: PoolRole, name: str, value: str) -> _Workers:
    """Return workers with one field changed; errors start with the knob as it was given."""
    try:
        return workers.with_knob(name, value)
    except InvalidInput as error:
        problem = error.problem if name in FORMATS else f"{role}_{error.problem}"
        raise InvalidInput(error.field, problem, error.expected) from error


def _sharing(change: _Change, named: set[tuple[PoolRole, str]]) -> _Change:
    """Return workers with their shares of the requests in flight; those of a rate follow."""
    in_flight = change.question.concurrency
    if change.question.traffic.is_open:
        means = judge_pools(change.question, change.paired())
        in_flight = int(np.ceil(means.pools.concurrency[0]))
    prefill, decode = (
        workers.sharing(in_flight, {name for own, name in named if own is role})
        for workers, role in zip(change.pools, _ROLES, strict=True)
    )
    return replace(change, prefill=prefill, decode=decode)


def _check(
    change: _Change, engine: ServingEngine, named: Mapping[tuple[PoolRole, str], str]
) -> None:
    """Refuse what the engine or the cluster cannot do, as `InvalidInput`."""
    for role, name in named:
        if role is not PoolRole.WHOLE:
            at = _ROLES.index(role)
            check_knob(change.question, engine, change.hardware[at], change.pools[at].config, name)
    if change.prefill.config.pp > 1:
        _check_pipeline(change)
    sizes = [workers.config.tp // workers.config.dp for workers in change.pools]
    if engine.needs_equal_pools(change.question.architecture) and sizes[0] != sizes[1]:
        problem = f"{engine.name} hands this model's caches over between equal workers"
        raise InvalidInput(FIELD, problem, "prefill_tp and decode_tp that are equal")
    _check_room(change)


def _check_room(change: _Change) -> None:
    """Refuse more or larger workers than the devices hold, as `InvalidInput`."""
    sets = [
        EqualReplicas(tp=each.config.tp, pp=each.config.pp, replicas=each.count)
        for each in change.pools
    ]
    if not have_place(sets, change.hardware):
        told = " and ".join(
            f"{workers.count} {role} workers of {_sizes(workers.config)}"
            for role, workers in zip(_ROLES, change.pools, strict=True)
        )
        devices = {group.label.name: group.devices for group in change.hardware}
        most = ", ".join(f"{count} x {name}" for name, count in devices.items())
        raise InvalidInput(FIELD, f"{told} have no place on {most}", "fewer or smaller workers")


def _check_pipeline(change: _Change) -> None:
    """Refuse prefill workers as pipelines where they are not modelled, as `InvalidInput`."""
    reason = why_no_pipelines(change.scoring, 0)
    if change.prefill.config.dp > 1:
        reason = "pipelines of prefill workers with attention ranks are not modelled"
    if reason:
        raise InvalidInput(FIELD, reason, "prefill_pp=1")


def _why_too_large(change: _Change) -> str:
    """Return why a worker of either pool does not fit in memory, or nothing."""
    scoring, paired = change.scoring, change.paired()
    choices = paired.prefill.choices, paired.decode.choices
    for role, chosen, memory in zip(_ROLES, choices, memory_of_workers(paired), strict=True):
        problem = why_too_large(scoring, chosen, memory)
        if problem:
            return f"a {role} worker {problem}"
    return ""


def _predicted(change: _Change) -> tuple[ReplicaGroup, ...]:
    """Return the workers of both pools as they are launched; empty where a rate is not carried."""
    judged = judged_as_shown(change.question, change.paired())
    cluster = change.question.cluster(change.plan.cluster_id)
    plans = pool_plans(change.scoring, cluster, judged, change.hardware)
    return plans[0].groups if plans else ()
