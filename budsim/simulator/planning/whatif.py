"""What one or more changed knobs would do to a plan while every other stays as it is."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, Final

import numpy as np

from budsim.commons.errors import InvalidInput
from budsim.commons.precision import Precision
from budsim.commons.units import GIB, MILLI
from budsim.engine_ops import serving_engines
from budsim.engine_ops.base import ReplicaConfig, ServingEngine
from budsim.hardware_ops.cluster import Cluster
from budsim.performance.candidates import Integers
from budsim.performance.lengths import FixedLength
from budsim.performance.predictor import Predictor
from budsim.simulator.planning.chances import chance_text
from budsim.simulator.planning.choices import PRECISIONS, Choices, make_option, with_burst_room
from budsim.simulator.planning.hardware_groups import HardwareGroup, usable, with_whole_nodes
from budsim.simulator.planning.placement import devices_of
from budsim.simulator.planning.plans import Outcome, Plan, ReplicaGroup
from budsim.simulator.planning.question import Question
from budsim.simulator.planning.replica_groups import PredictedChoices, predict_choices
from budsim.simulator.planning.scoring import Scoring

FIELD: Final = "what_if"
TRAFFIC: Final = ("concurrency", "rate", "input_tokens", "output_tokens")
# The engines' own names for what is no `Knob` of theirs (vLLM's, then SGLang's).
SPELLINGS: Final = {
    "tensor_parallel_size": "tp",
    "tp_size": "tp",
    "pipeline_parallel_size": "pp",
    "pp_size": "pp",
    "kv_cache_dtype": "kv_precision",
}


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class KnobChange:
    """A plan's slowest group as it is, and with one knob changed, or several at once.

    Where that does not fit, ``problem`` says why. Names and values of several knobs are joined by
    commas.
    """

    knob: str
    value: str
    before: ReplicaGroup
    after: ReplicaGroup | None
    problem: str = ""

    @property
    def change(self) -> str:
        """What was changed: "tp=8" or "tp=4, replicas=2"."""
        pairs = zip(self.knob.split(", "), self.value.split(", "), strict=True)
        return ", ".join(f"{name}={value}" for name, value in pairs)

    def __repr__(self) -> str:
        """Return the figures before and after in a few lines."""
        if self.after is None:
            return f"{self.change}: {self.problem}"
        figures = zip(_told(self.before), _told(self.after), strict=True)
        lines = [f"  {name}: {old} -> {new}" for (name, old), (_, new) in figures]
        return "\n".join([f"{self.change}:", *lines])


def what_if(
    question: Question, outcome: Outcome, predictor: Predictor, changes: Mapping[str, str]
) -> KnobChange:
    """Return what the slowest group of the best plan does with knobs changed, all at once.

    ``changes`` are values by knob. A knob is a field of `ReplicaConfig` (``max_num_seqs``, ``tp``),
    the engine's own flag (``--max-num-seqs``), ``replicas``, or the traffic's ``concurrency``,
    ``input_tokens``, ``output_tokens``, ``rate``.

    Raises
    ------
    InvalidInput
        There is no plan or it has pools, there is no such knob, the engine refuses the value, or
        the cluster has too few devices.
    """
    if not outcome.plans:
        raise InvalidInput(FIELD, "there is no plan to change", "a question that has one")
    if not changes:
        raise InvalidInput(FIELD, "nothing is changed", "one or more settings, as tp=8")
    return change_plan(question, outcome.plans[0], predictor, changes)


def change_plan(
    question: Question, plan: Plan, predictor: Predictor, changes: Mapping[str, str]
) -> KnobChange:
    """Return what the slowest group of any plan does with one or more knobs changed.

    The knobs of the result are joined by commas. Errors as those of `what_if`.
    """
    if plan.is_disaggregated:
        problem = "changes of prefill and decode pools are not predicted"
        raise InvalidInput(FIELD, problem, "a question of plain replicas (disaggregated: off)")
    before = plan.slowest
    engine = serving_engines[before.engine]
    named = {_named(knob, engine, before): value for knob, value in changes.items()}
    asked, replicas = question_of_group(question, plan, before), before.replicas
    config = before.config
    for name, value in named.items():
        asked, replicas, config = _with(asked, replicas, config, name, value)
    cluster = next(each for each in question.clusters if each.cluster_id == plan.cluster_id)
    hardware = hardware_of_group(question, cluster, plan, before)
    for name in named:
        _check(asked, engine, hardware, replicas, config, name)
    scoring = Scoring(asked, (make_option(asked, hardware, engine, (config.weight_precision,)),))
    choices = row_of(config, replicas)
    changed = predict_choices(cluster, scoring, choices, [hardware], predictor)
    problem = _why_too_large(changed)
    after = None if problem else changed.replica_group(0, float(changed.in_flight([0])[0]))
    return KnobChange(
        knob=", ".join(named),
        value=", ".join(named.values()),
        before=before,
        after=after,
        problem=problem,
    )


def _told(group: ReplicaGroup) -> list[tuple[str, str]]:
    """Return name and value of what is told of a group, in the units people use."""
    service, config = group.service, group.config
    pipeline = f" pp{config.pp}" if config.pp > 1 else ""
    return [
        ("runs", f"{group.replicas} x {config.device.name} tp{config.tp}{pipeline}"),
        ("TTFT", f"{service.ttft_s.value / MILLI:.0f} ms"),
        ("tokens/s per user", f"{service.tokens_per_s_per_user.value:.1f}"),
        ("end to end", f"{service.e2e_s.value:.2f} s"),
        ("requests/s of a replica", f"{service.requests_per_s.value:.2f}"),
        ("chance of meeting the targets", chance_text(group.chance)),
        ("USD/h", f"{group.cost_usd_per_h:.2f}"),
        ("USD per million tokens", f"{group.cost_per_million_tokens_usd:.2f}"),
    ]


def _named(knob: str, engine: ServingEngine, group: ReplicaGroup) -> str:
    """Return the name of a knob, however it is spelled."""
    spelled = knob.strip().lstrip("-").replace("-", "_").lower()
    flags = {each.flag.replace("-", "_"): each.name for each in engine.knobs(group.kind)}
    name = flags.get(spelled, SPELLINGS.get(spelled, spelled))
    columns = {column.name for column in fields(Choices)} & {
        column.name for column in fields(ReplicaConfig)
    }
    known = sorted(columns | {"weight_precision", "kv_precision", "replicas", *TRAFFIC})
    if name not in known:
        raise InvalidInput(
            FIELD, f"{knob!r} is no knob of the plan", f"one of {', '.join(known)}, as KNOB=VALUE"
        )
    return name


def question_of_group(question: Question, plan: Plan, group: ReplicaGroup) -> Question:
    """Return the question one group of a plan answers: with its share of the traffic."""
    alone = len(plan.groups) == 1
    if alone:
        return question
    if question.traffic.is_open:
        return question.at_rate(group.replicas * group.service.requests_per_s.value)
    return question.with_concurrency(group.replicas * group.config.concurrency)


def _with(
    question: Question, replicas: int, config: ReplicaConfig, name: str, value: str
) -> tuple[Question, int, ReplicaConfig]:
    """Return question, replicas and configuration with one knob changed."""
    before = config
    if name in TRAFFIC:
        number = _number(name, value) if name == "rate" else _whole(name, value)
        question = _with_traffic(question, name, number)
    elif name == "replicas":
        replicas = _whole(name, value)
    else:
        read: Callable[[str, str], object] = {
            "weight_precision": _precision,
            "kv_precision": _precision,
        }.get(name, _number if name == "memory_fraction" else _whole)
        config = replace(config, **{name: read(name, value)})  # type: ignore[arg-type]
    if name == "tp" and config.ep > 1:
        config = replace(config, ep=config.tp)
    config = replace(config, concurrency=-(-question.concurrency // replicas))
    return question, replicas, _with_burst_room(before, config, name)


def _with_burst_room(before: ReplicaConfig, after: ReplicaConfig, name: str) -> ReplicaConfig:
    """Return a changed configuration that still has room for the bursts the plan has room for.

    One attention rank in place of four receives four times the requests: a limit that was roomy for
    a quarter of them would hold most back and make the change look worse than it is.
    """
    room = [int(with_burst_room(_requests_of_rank(each))) for each in (before, after)]
    if name == "max_num_seqs" or before.max_num_seqs < room[0]:
        return after
    # Engines list powers of two; a step must hold a token of each sequence.
    wanted = 1 << (room[1] - 1).bit_length()
    sequences = max(after.max_num_seqs, wanted) if room[1] > after.max_num_seqs else 0
    if not sequences:
        return after
    budget = max(after.max_num_batched_tokens, sequences)
    return replace(after, max_num_seqs=sequences, max_num_batched_tokens=budget)


def _requests_of_rank(config: ReplicaConfig) -> Integers:
    return np.array(-(-config.concurrency // config.dp))


def _with_traffic(question: Question, name: str, value: float) -> Question:
    """Return the question with other requests: how many, how often, or of how many tokens each."""
    if name == "concurrency":
        return question.with_concurrency(int(value))
    law = {"input_tokens": "prompt", "output_tokens": "output"}.get(name, "")
    try:
        if name == "rate":
            return question.at_rate(value)
        # A prompt also holds the tokens of its images, video and audio.
        items = question.traffic.item_tokens if law == "prompt" else 0
        length: dict[str, Any] = {law: FixedLength(tokens=int(value) + items)}
        changed = replace(question.traffic, **length)
    except InvalidInput as error:
        raise InvalidInput(name, error.problem, error.expected) from error
    return replace(question, traffic=changed)


def _whole(name: str, value: str) -> int:
    if not value.strip().isdecimal() or not 1 <= int(value) <= 10**9:
        raise InvalidInput(
            FIELD, f"{name}={value} is no number from 1", "a whole number of at least 1"
        )
    return int(value)


def _number(name: str, value: str) -> float:
    try:
        return float(value)
    except ValueError:
        raise InvalidInput(
            FIELD, f"{name}={value} is no number", "a number above 0, at most 1"
        ) from None


def _precision(name: str, value: str) -> Precision:
    try:
        return Precision(value.strip().lower())
    except ValueError:
        raise InvalidInput(
            FIELD, f"{name}={value} is no format", f"one of {', '.join(Precision)}"
        ) from None


def hardware_of_group(
    question: Question, cluster: Cluster, plan: Plan, group: ReplicaGroup
) -> HardwareGroup:
    """Return the devices the group's replicas may lie on.

    The best that include those they lie on, without other groups'.
    """
    found = usable(cluster, question.mode, skip_master_cpus=question.skip_master_cpus).groups
    holding = [each for each in found if _holds(each, group)]
    others = (
        replica for other in plan.groups if other is not group for replica in other.placements
    )
    mine = min(holding, key=lambda each: each.devices)
    if group.config.tp > mine.largest_node:
        mine = with_whole_nodes(mine)
    return mine.without(devices_of(others))


def _holds(hardware: HardwareGroup, group: ReplicaGroup) -> bool:
    """Return whether devices include all those that a group of replicas lies on."""
    where = {(part.node_id, part.pool) for replica in group.placements for part in replica}
    pools = {(node.node.node_id, pool) for node in hardware.nodes for pool, _ in node.pools}
    return hardware.device == group.config.device and where <= pools


def _check(
    question: Question,
    engine: ServingEngine,
    hardware: HardwareGroup,
    replicas: int,
    config: ReplicaConfig,
    name: str,
) -> None:
    """Refuse what the engine or the cluster cannot do.

    Raises
    ------
    InvalidInput
        Naming the knob, and what would be right.
    """
    architecture, device = question.architecture, hardware.device
    legal: Mapping[str, tuple[object, ...]] = {
        "tp": engine.tp_sizes(architecture, hardware.largest_node),
        "pp": engine.pp_sizes(architecture, hardware.devices),
        "weight_precision": engine.precisions(architecture, device, may_quantize=True),
        "kv_precision": engine.kv_precisions(architecture, device),
    }
    if name in legal and getattr(config, name) not in legal[name]:
        expected = ", ".join(str(value) for value in legal[name])
        raise InvalidInput(
            FIELD,
            f"{engine.name} cannot run {name}={getattr(config, name)} here",
            f"one of {expected}",
        )
    if hardware.capacity(config.tp, config.pp) < replicas:
        most = hardware.capacity(config.tp, config.pp)
        raise InvalidInput(
            FIELD,
            f"{replicas} replicas of tp={config.tp}, pp={config.pp} are more than "
            "the cluster holds",
            f"at most {most}",
        )
    try:
        engine.launch(architecture, config)
    except InvalidInput as error:
        raise InvalidInput(FIELD, f"{error.field} {error.problem}", error.expected) from error


def row_of(config: ReplicaConfig, replicas: int) -> Choices:
    """Return a configuration as a table of one row, of the first option."""
    values = {
        "option": 0,
        "replicas": replicas,
        "weights": PRECISIONS.index(config.weight_precision),
        "kv": PRECISIONS.index(config.kv_precision),
    }
    names = [column.name for column in fields(Choices)]
    return Choices(
        **{
            name: np.array([values[name] if name in values else getattr(config, name)])
            for name in names
        }
    )


def _why_too_large(changed: PredictedChoices) -> str:
    """Return why the only row does not fit in memory, or nothing."""
    scoring, memory = changed.scoring, changed.memory
    if scoring.violation(changed.choices, memory)[0] <= 0:
        return ""
    needs = changed.memory_of(0, float(memory.kv_bytes[0]))
    used = (needs.weight_bytes + needs.activation_bytes + needs.reserved_bytes) / GIB
    held = max(0.0, needs.kv_capacity_tokens)
    return (
        f"does not fit: weights, activations and reserve take {used:.1f} "
        f"of {needs.budget_bytes / GIB:.1f} GiB of a device, and the KV cache holds {held:.0f} "
        f"of the {scoring.context_tokens} tokens of a sequence"
    )
