"""A changed knob of a plan: its name, its value, and what it does to the groups it changes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Final

import numpy as np

from budsim.commons.errors import InvalidInput
from budsim.commons.precision import Precision
from budsim.commons.units import MILLI
from budsim.engine_ops import serving_engines
from budsim.engine_ops.base import PoolRole, ReplicaConfig, ServingEngine
from budsim.hardware_ops.device import DeviceKind
from budsim.performance.candidates import Integers
from budsim.performance.lengths import FixedLength
from budsim.simulator.planning.chances import chance_text
from budsim.simulator.planning.choices import Choices, with_burst_room
from budsim.simulator.planning.plans import ReplicaGroup
from budsim.simulator.planning.question import Question

FIELD: Final = "what_if"
TRAFFIC: Final = ("concurrency", "rate", "input_tokens", "output_tokens")
FORMATS: Final = ("weight_precision", "kv_precision")
# The engines' own names of fields that are not among their `Knob`s (vLLM's, then SGLang's).
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
    commas. Of a disaggregated plan the group are its decode workers, and ``prefill_before`` and
    ``prefill_after`` those that read their prompts; None of other plans.
    """

    knob: str
    value: str
    before: ReplicaGroup
    after: ReplicaGroup | None
    problem: str = ""
    prefill_before: ReplicaGroup | None = None
    prefill_after: ReplicaGroup | None = None

    @property
    def groups_before(self) -> tuple[ReplicaGroup, ...]:
        """What answers requests before the change: one group, or the workers of both pools."""
        return tuple(filter(None, (self.prefill_before, self.before)))

    @property
    def groups_after(self) -> tuple[ReplicaGroup, ...]:
        """What answers requests after the change; empty where it does not fit."""
        return tuple(filter(None, (self.prefill_after, self.after)))

    @property
    def change(self) -> str:
        """What was changed: "tp=8" or "tp=4, replicas=2"."""
        pairs = zip(self.knob.split(", "), self.value.split(", "), strict=True)
        return ", ".join(f"{name}={value}" for name, value in pairs)

    def __repr__(self) -> str:
        """Return the figures before and after in a few lines."""
        if self.after is None:
            return f"{self.change}: {self.problem}"
        figures = zip(_told(self.groups_before), _told(self.groups_after), strict=True)
        lines = [f"  {name}: {old} -> {new}" for (name, old), (_, new) in figures]
        return "\n".join([f"{self.change}:", *lines])


def cost_usd_per_h(groups: Sequence[ReplicaGroup]) -> float:
    """Return what the groups of one side of a change cost together, USD per hour."""
    return sum(group.cost_usd_per_h for group in groups)


def cost_per_million_tokens_usd(groups: Sequence[ReplicaGroup]) -> float:
    """Return what a million tokens of one side of a change cost, USD."""
    return sum(group.cost_per_million_tokens_usd for group in groups)


def _told(groups: Sequence[ReplicaGroup]) -> list[tuple[str, str]]:
    """Return name and value of each figure of one side, in the units people use."""
    group, service = groups[-1], groups[-1].service
    return [
        ("runs", " + ".join(map(_runs, groups))),
        ("TTFT", f"{service.ttft_s.value / MILLI:.0f} ms"),
        ("tokens/s per user", f"{service.tokens_per_s_per_user.value:.1f}"),
        ("end to end", f"{service.e2e_s.value:.2f} s"),
        *((f"requests/s of {_noun(each)}", f"{_per_s(each):.2f}") for each in groups),
        ("chance of meeting the targets", chance_text(group.chance)),
        ("USD/h", f"{cost_usd_per_h(groups):.2f}"),
        ("USD per million tokens", f"{cost_per_million_tokens_usd(groups):.2f}"),
    ]


def _runs(group: ReplicaGroup) -> str:
    config = group.config
    pipeline = f" pp{config.pp}" if config.pp > 1 else ""
    part = "" if group.role is PoolRole.WHOLE else f" {group.role}"
    return f"{group.replicas} x {config.device.name} tp{config.tp}{pipeline}{part}"


def _noun(group: ReplicaGroup) -> str:
    return "a replica" if group.role is PoolRole.WHOLE else f"a {group.role} worker"


def _per_s(group: ReplicaGroup) -> float:
    return group.service.requests_per_s.value


def known_knobs() -> list[str]:
    """Return the names of what may be changed."""
    columns = {column.name for column in fields(Choices)} & {
        column.name for column in fields(ReplicaConfig)
    }
    return sorted(columns | {*FORMATS, "replicas", *TRAFFIC})


def check_changes(changes: Mapping[str, str]) -> None:
    """Refuse changes that no plan can have, before one is searched.

    Raises
    ------
    InvalidInput
        No plan has such a knob, or its value cannot be read.
    """
    flags = {
        each.flag.replace("-", "_"): each.name
        for engine in serving_engines.values()
        for kind in DeviceKind
        for each in engine.knobs(kind)
    }
    for knob, value in changes.items():
        given = spelled(knob)
        of_pool = given.removeprefix("prefill_").removeprefix("decode_")
        of_pool = "replicas" if of_pool == "workers" and of_pool != given else of_pool
        _reader(_known(knob, of_pool, flags))(knob.strip(), value)


def knob_name(knob: str, engine: ServingEngine, group: ReplicaGroup) -> str:
    """Return the name of a knob, however it is spelled."""
    flags = {each.flag.replace("-", "_"): each.name for each in engine.knobs(group.kind)}
    return _known(knob, spelled(knob), flags)


def spelled(knob: str) -> str:
    """Return a knob as fields are spelled: ``--Max-Num-Seqs`` as max_num_seqs."""
    return knob.strip().lstrip("-").replace("-", "_").lower()


def _known(knob: str, given: str, flags: Mapping[str, str]) -> str:
    """Return the name of a knob that is spelled as a field, or as a flag of an engine."""
    name, known = flags.get(given, SPELLINGS.get(given, given)), known_knobs()
    if name not in known:
        expected = f"one of {', '.join(known)}, as KNOB=VALUE"
        raise InvalidInput(FIELD, f"{knob!r} is no knob of the plan", expected)
    return name


def with_traffic(question: Question, name: str, value: str) -> Question:
    """Return the question with other requests: how many, how often, or of how many tokens each."""
    number = _number(name, value) if name == "rate" else whole(name, value)
    if name == "concurrency":
        return question.with_concurrency(int(number))
    law = {"input_tokens": "prompt", "output_tokens": "output"}.get(name, "")
    try:
        if name == "rate":
            return question.at_rate(number)
        # A prompt also holds the tokens of its images, video and audio.
        items = question.traffic.item_tokens if law == "prompt" else 0
        length: dict[str, Any] = {law: FixedLength(tokens=int(number) + items)}
        changed = replace(question.traffic, **length)
    except InvalidInput as error:
        raise InvalidInput(name, error.problem, error.expected) from error
    return replace(question, traffic=changed)


def with_knob(config: ReplicaConfig, name: str, value: str) -> ReplicaConfig:
    """Return a configuration with one field changed; experts stay spread over all devices."""
    config = replace(config, **{name: _reader(name)(name, value)})  # type: ignore[arg-type]
    return replace(config, ep=config.tp) if name == "tp" and config.ep > 1 else config


def _reader(name: str) -> Callable[[str, str], object]:
    """Return what reads a value of a knob; it gets the knob's name for its errors."""
    if name in FORMATS:
        return _precision
    return _number if name in ("memory_fraction", "rate") else whole


def roomy(before: ReplicaConfig, after: ReplicaConfig) -> ReplicaConfig:
    """Return a changed configuration that still has room for the bursts the plan has room for.

    One attention rank in place of four receives four times the requests: a limit that was roomy for
    a quarter of them would hold most back and make the change look worse than it is.
    """
    room = [int(with_burst_room(_requests_of_rank(each))) for each in (before, after)]
    if before.max_num_seqs < room[0]:
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


def whole(name: str, value: str) -> int:
    """Return a whole number from 1 that was given as text."""
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
