"""From chosen values to replicas as callers deploy them.

Predicted, explained, placed and priced.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from typing import Final
from uuid import UUID, uuid5

import numpy as np

from budsim.engine_ops.base import Launch, Metadata, ReplicaConfig, ServingEngine
from budsim.hardware_ops.cluster import Cluster
from budsim.hardware_ops.device import DeviceKind
from budsim.performance.candidates import Candidates, Floats, joined
from budsim.performance.predictions import BOUNDS, Interval, MemoryUse, Predictions
from budsim.performance.predictor import Predictor
from budsim.performance.traffic import Traffic
from budsim.simulator.planning.chances import Judged, judge, only_stable, score_of
from budsim.simulator.planning.choices import Choices, ServingOption, price_share
from budsim.simulator.planning.cost import usd_per_h, usd_per_million_tokens
from budsim.simulator.planning.explanations import Explained, explain
from budsim.simulator.planning.hardware_groups import HardwareGroup
from budsim.simulator.planning.placement import place
from budsim.simulator.planning.plans import (
    Explanation,
    Figure,
    Placement,
    Plan,
    PredictedMemory,
    PredictedService,
    ReplayedRequests,
    ReplicaGroup,
)
from budsim.simulator.planning.question import Question
from budsim.simulator.planning.replays import ReplayedRows, replay_traffic, traffic_of_rows
from budsim.simulator.planning.scoring import Scoring, settled
from budsim.simulator.planning.targets import Figures, figures_of

# Namespace of configuration ids: the same configuration has the same id in every answer.
CONFIGURATIONS: Final = UUID("9b7c2f5e-6d0a-5c34-9a50-4f1f3c1f0b11")

# What a row that misses lacks at least, so that rounding never makes it meet the targets.
LEAST_ROOM: Final = 1e-9
# Least part of a limit that is told apart from nothing.
LEAST_RATIO: Final = 1e-3


@dataclass(frozen=True, slots=True, kw_only=True)
class PredictedChoices:
    """Rows of chosen values on a cluster with their predictions.

    ``hardware`` says where the replicas of each row may lie, ``shares`` which share (0..1] of the
    traffic they receive, and ``replayed`` what single requests see.
    """

    cluster: Cluster
    scoring: Scoring
    choices: Choices
    hardware: Sequence[HardwareGroup]
    shares: Floats
    memory: MemoryUse
    predictions: Predictions
    explanations: Sequence[Explanation]
    judged: Judged
    replayed: ReplayedRows

    def in_flight(self, rows: Sequence[int]) -> Floats:
        """Return the requests in flight on all replicas of each of some rows."""
        traffic = self.scoring.question.traffic
        if traffic.is_open:
            # Little's law: what comes in the time that one request takes.
            e2e_s = np.array([self.service(row).e2e_s.value for row in rows])
            return np.asarray(traffic.rate * self.shares[list(rows)] * e2e_s)
        load = self.choices.replicas[list(rows)] * self.choices.concurrency[list(rows)]
        return np.asarray(self.scoring.question.concurrency * load / load.sum())

    def replica_group(self, row: int, requests: float) -> ReplicaGroup:
        """Return the replicas of a row, placed; ``requests`` are all those in flight on them."""
        question, choices = self.scoring.question, self.choices
        option = self.scoring.options[int(choices.option[row])]
        cache_bytes = self.scoring.cache_bytes(choices, row, self.memory)
        way = self.scoring.speculation(choices, row)
        config = self.scoring.config(choices, row, cache_bytes, way)
        replicas = int(choices.replicas[row])
        devices, price = replicas * config.tp * config.pp, config.device.price_usd_per_h
        per_h = float(usd_per_h(devices, price, price_share(question, option.group)))
        service = self.service(row)
        tokens_per_s = requests * question.traffic.counted_tokens / service.e2e_s.value
        launch = option.engine.launch(question.architecture, config)
        placements = place(self.hardware[row], config.tp, config.pp, replicas)
        return ReplicaGroup(
            config_id=config_id_of(self.cluster, option, config, launch, placements),
            engine=option.engine.name,
            kind=config.device.kind,
            label=self.hardware[row].label,
            config=config,
            placements=placements,
            service=service,
            memory=self.memory_of(row, cache_bytes),
            launch=launch,
            metadata=metadata_of(question, option.engine, config.device.kind),
            explanation=self.explanations[row],
            error_rate=float(self.judged.missed[row]),
            chance=float(self.judged.chance[row]),
            shortfall=float(self.judged.shortfall[row]),
            cost_usd_per_h=per_h,
            cost_per_million_tokens_usd=float(usd_per_million_tokens(per_h, tokens_per_s)),
            replayed=self._requests(row) if question.needs_replay else None,
            speculation=way,
        )

    def service(self, row: int) -> PredictedService:
        """Return what one request of a row's replica will see."""
        found, seen = self.predictions, self._requests(row)
        figures = figures_of_row(found, row)
        if seen:
            figures = _as_replayed(figures, seen)
        per_s = self._finished_per_s(row, figures["e2e_s"])
        return service_of_row(found, row, figures, per_s, found.time_s)

    def _finished_per_s(self, row: int, e2e_s: Figure) -> Figure:
        """Return the requests one replica of a row finishes per second, on average over them.

        Replicas of which some have a request more than others finish what their mean makes: 50 in
        flight on 7 replicas are 50/7 each, although the fullest, whose latency is shown, has 8.
        """
        question = self.scoring.question
        part = float(self.shares[row]) / int(self.choices.replicas[row])
        if not question.traffic.is_open:
            return per_s_of(question.concurrency * part, e2e_s)
        # What comes at a rate that is carried is finished at that rate.
        return Figure.certain(question.traffic.rate * part)

    def _requests(self, row: int) -> ReplayedRequests | None:
        """Return what replayed requests saw; nothing where the row is not stable."""
        found = self.replayed.requests(row)
        return found if isinstance(found, ReplayedRequests) else None

    def memory_of(self, row: int, cache_bytes: float) -> PredictedMemory:
        """Return the memory of one device of a row that keeps a KV cache of ``cache_bytes``."""
        return memory_of_row(self.memory, row, cache_bytes)


def memory_of_row(memory: MemoryUse, row: int, cache_bytes: float) -> PredictedMemory:
    """Return the memory of one device of a row that keeps a KV cache of ``cache_bytes``."""
    kept = cache_bytes / float(memory.kv_bytes[row]) if memory.kv_bytes[row] > 0 else 1.0
    return PredictedMemory(
        weight_bytes=float(memory.weight_bytes[row]),
        kv_cache_bytes=cache_bytes,
        activation_bytes=float(memory.activation_bytes[row]),
        reserved_bytes=float(memory.reserved_bytes[row]),
        budget_bytes=float(memory.budget_bytes[row]),
        kv_capacity_tokens=float(memory.kv_capacity_tokens[row]) * kept,
    )


def predict_choices(
    cluster: Cluster,
    scoring: Scoring,
    choices: Choices,
    hardware: Sequence[HardwareGroup],
    predictor: Predictor,
    shares: Floats | None = None,
) -> PredictedChoices:
    """Predict and explain rows of chosen values, as `budsim predict` does: by a replay.

    ``shares`` of the traffic go to the rows; by default all of it goes to each.
    """
    shares = np.ones(len(choices.tp)) if shares is None else shares
    rows = judge_rows(scoring, choices, predictor, shares)
    return PredictedChoices(
        cluster=cluster,
        scoring=scoring,
        choices=rows.choices,
        hardware=hardware,
        shares=shares,
        memory=rows.memory,
        predictions=rows.predictions,
        explanations=explain(
            scoring,
            rows.choices,
            hardware,
            Explained(
                shown=rows.predictions,
                figures=rows.figures,
                replayed=rows.replayed,
            ),
            shares,
            predictor,
        ),
        judged=rows.judged,
        replayed=rows.replayed,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgedRows:
    """Rows of choices, what they do, and how far that is within the targets.

    ``choices`` hold the requests in flight that a rate settles at; ``predictions`` are
    those of the replay, and ``figures`` what is compared with targets.
    """

    choices: Choices
    memory: MemoryUse
    predictions: Predictions
    figures: Figures
    judged: Judged
    replayed: ReplayedRows


@dataclass(frozen=True, slots=True, kw_only=True)
class AskedRows:
    """Rows of choices under one load of a question; ``shares`` (0..1] of it go to each."""

    scoring: Scoring
    choices: Choices
    shares: Floats

    @property
    def traffic(self) -> list[Traffic]:
        """What one replica of each row receives."""
        return traffic_of_rows(self.scoring.question.traffic, self.choices, self.shares)

    def at_rate(self, in_flight: Floats) -> AskedRows:
        """Return the rows with so many requests in flight on a replica of each."""
        concurrency = np.ceil(in_flight).astype(np.int64)
        return replace(self, choices=replace(self.choices, concurrency=concurrency))


def judge_rows(
    scoring: Scoring, choices: Choices, predictor: Predictor, shares: Floats
) -> JudgedRows:
    """Replay the requests of rows and compare what they see with targets."""
    return judge_loads([AskedRows(scoring=scoring, choices=choices, shares=shares)], predictor)


def judge_loads(asked: Sequence[AskedRows], predictor: Predictor) -> JudgedRows:
    """Return the rows of several loads of one question, one after the other; see `judge_rows`.

    Judged together they take far less time than one by one.
    """
    question = asked[0].scoring.question
    if question.traffic.is_open:
        asked = _settled(asked, predictor)
    memory, predictions, replayed = replay_traffic(
        question, predictor, _candidates(asked), [each for rows in asked for each in rows.traffic]
    )
    judged = judge(question.targets, replayed.figures, predictions, question.chance)
    return JudgedRows(
        choices=reduce(Choices.followed_by, [rows.choices for rows in asked]),
        memory=memory,
        predictions=predictions,
        figures=replayed.figures,
        judged=only_stable(judged, replayed.stable),
        replayed=replayed,
    )


def means_missed(asked: Sequence[AskedRows], predictor: Predictor) -> Floats:
    """Return by how much means of the closed form miss the targets, which a search goes by."""
    question = asked[0].scoring.question
    if question.traffic.is_open:
        asked = _settled(asked, predictor)
    _, predictions = predictor.predict(_candidates(asked))
    figures = figures_of(predictions.service)
    return judge(question.mean_targets, figures, predictions, question.chance).shortfall


def _candidates(asked: Sequence[AskedRows]) -> Candidates:
    return joined([rows.scoring.candidates(rows.choices) for rows in asked])


def _settled(asked: Sequence[AskedRows], predictor: Predictor) -> list[AskedRows]:
    """Return rows with the requests in flight that the rates of their loads settle at."""
    rates = np.concatenate([rows.scoring.rates(rows.choices, rows.shares) for rows in asked])
    most = np.concatenate([rows.choices.concurrency for rows in asked])
    found = settled(_candidates(asked), predictor, rates, most)
    ends = np.cumsum([len(rows.shares) for rows in asked])[:-1]
    in_flight = np.split(found.concurrency, ends)
    return [rows.at_rate(each) for rows, each in zip(asked, in_flight, strict=True)]


def room_left(question: Question, rows: JudgedRows) -> Floats:
    """Return how far rows are within the targets: at least 0 where they meet them.

    By what the score of their chance is above that of the one asked for; where best estimates are
    compared, by the logarithm of what the worst figure may grow by. Both are nearly linear in the
    logarithm of a load. Minus infinity where the load is not carried.
    """
    if question.chance > 0:
        room = score_of(rows.judged.chance) - score_of(np.array(question.chance))
    else:
        worst = question.targets.ratios(rows.figures).max(axis=0, initial=0.0)
        room = -np.log(np.maximum(worst, LEAST_RATIO))
    met = rows.judged.shortfall <= 0.0
    room = np.where(met, np.maximum(room, 0.0), np.minimum(room, -LEAST_ROOM))
    return np.where(np.isfinite(rows.judged.shortfall), room, -np.inf)


def plan_of(predicted: PredictedChoices, rows: Sequence[int]) -> Plan:
    """Return the plan of some rows, which share the traffic as their loads say."""
    counted_tokens = predicted.scoring.question.traffic.counted_tokens
    in_flight = predicted.in_flight(rows)
    pairs = list(zip(rows, in_flight, strict=True))
    groups = [predicted.replica_group(row, float(requests)) for row, requests in pairs]
    per_h = sum(group.cost_usd_per_h for group in groups)
    per_s = sum(
        requests / group.service.e2e_s.value
        for requests, group in zip(in_flight, groups, strict=True)
    )
    return Plan(
        cluster_id=predicted.cluster.cluster_id,
        groups=tuple(groups),
        ttft_s=max(group.service.ttft_s.value for group in groups),
        tokens_per_s_per_user=min(group.service.tokens_per_s_per_user.value for group in groups),
        e2e_s=max(group.service.e2e_s.value for group in groups),
        error_rate=max(group.error_rate for group in groups),
        cost_usd_per_h=per_h,
        cost_per_million_tokens_usd=float(usd_per_million_tokens(per_h, per_s * counted_tokens)),
    )


def metadata_of(question: Question, engine: ServingEngine, kind: DeviceKind) -> Metadata:
    """Return the engine's metadata, by `Question.parsed_as` where that has parsers."""
    architecture = question.architecture
    named_as = question.parsed_as or architecture.model_id
    # A path in a registry says nothing about parsers; the hub's name does.
    named = engine.metadata(replace(architecture, model_id=named_as), kind)
    has_parser = named.tool_calling_parser_type or named.reasoning_parser_type
    return named if has_parser else engine.metadata(architecture, kind)


def figures_of_row(found: Predictions, row: int) -> dict[str, Figure]:
    """Return the latencies of a row and its speed, by their names in `PredictedService`."""
    names = ("ttft_s", "tpot_s", "e2e_s", "tokens_per_s_per_user")
    return {
        name: _figure_of(getattr(found.service, name), getattr(found, name), row) for name in names
    }


def service_of_row(
    found: Predictions,
    row: int,
    figures: Mapping[str, Figure],
    requests_per_s: Figure,
    time_s: Floats,
) -> PredictedService:
    """Return the service of a row; ``time_s`` (len(`BOUNDS`), n) says where its time goes."""
    return PredictedService(
        **figures,
        requests_per_s=requests_per_s,
        basis=found.basis(row),
        bases=found.bases(row),
        in_range=bool(found.in_range[row]),
        bound_by=BOUNDS[int(time_s[:, row].argmax())],
    )


def _figure_of(values: Floats, intervals: Mapping[float, Interval], row: int) -> Figure:
    """Return a row's figure with its intervals."""
    return Figure(
        value=float(values[row]),
        low80=float(intervals[0.8].low[row]),
        high80=float(intervals[0.8].high[row]),
        low90=float(intervals[0.9].low[row]),
        high90=float(intervals[0.9].high[row]),
    )


def _as_replayed(figures: Mapping[str, Figure], seen: ReplayedRequests) -> dict[str, Figure]:
    """Return means over requests of varied lengths; intervals keep their width relative to them."""
    means = {"ttft_s": seen.ttft_s.mean, "e2e_s": seen.e2e_s.mean}
    if seen.tpot_s.mean > 0:
        means |= {"tpot_s": seen.tpot_s.mean, "tokens_per_s_per_user": 1 / seen.tpot_s.mean}
    return {
        name: _moved(figure, means[name]) if name in means else figure
        for name, figure in figures.items()
    }


def _moved(figure: Figure, value: float) -> Figure:
    """Return a figure with another value and intervals of the same width relative to it."""
    ratio = value / figure.value if figure.value > 0 else 1.0
    return Figure(
        value=value,
        low80=figure.low80 * ratio,
        high80=figure.high80 * ratio,
        low90=figure.low90 * ratio,
        high90=figure.high90 * ratio,
    )


def per_s_of(requests: float, latency_s: Figure) -> Figure:
    """Return the requests finished per second with so many in flight (Little's law).

    10 that take 2 s each make 5/s.
    """
    return Figure(
        value=requests / latency_s.value,
        low80=requests / latency_s.high80,
        high80=requests / latency_s.low80,
        low90=requests / latency_s.high90,
        high90=requests / latency_s.low90,
    )


def config_id_of(
    cluster: Cluster,
    option: ServingOption,
    config: ReplicaConfig,
    launch: Launch,
    placements: Sequence[Sequence[Placement]],
) -> str:
    """Return an id of all that a deployment is made from."""
    # Where it lies is part of the id: feedback blacklists a placement, not an idea.
    where = [[(part.node_id, part.pool, part.devices) for part in each] for each in placements]
    content = {
        "cluster": cluster.cluster_id,
        "engine": [option.engine.name, option.engine.version],
        "device": config.device.name,
        "layout": [config.tp, config.pp, config.ep, config.dp, config.concurrency],
        "formats": [config.weight_precision, config.kv_precision],
        "command": launch.command,
        "envs": dict(launch.envs),
        "where": where,
    }
    return str(uuid5(CONFIGURATIONS, json.dumps(content, sort_keys=True)))
