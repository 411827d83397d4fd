"""Several models on one inventory: the questions, and the plans that fit together."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast

from budsim.api.answers import plan_row
from budsim.api.inputs import Model, SearchOptions, clusters_of, predictor_of, question_of
from budsim.api.tabular import Tabular
from budsim.commons.errors import InvalidInput, NotFound

if TYPE_CHECKING:
    from budsim.hardware_ops.cluster import Cluster
    from budsim.performance.traffic import Traffic
    from budsim.simulator.planning.plans import Plan
    from budsim.simulator.planning.question import Question
    from budsim.simulator.planning.shared_clusters import SharedOutcome
    from budsim.simulator.planning.targets import Targets
    from budsim.simulator.wire.model_loads import ModelFields, ModelLoad


# A field of a question for each name that other errors use.
SPELLED: Final = {"pretrained_model_uri": "model", "engine": "engines"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """One of several models: what clients send to it, and how well it is to be served."""

    model: Model
    traffic: Traffic
    targets: Targets | None = None
    options: SearchOptions = field(default_factory=SearchOptions)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class SharedCluster(Tabular):
    """Plans of several models that fit together on one inventory.

    Attributes
    ----------
    questions : tuple of Question
        What was asked, one for each model.
    outcome : SharedOutcome
        Plans, reasons, contentions, and what one more node would change.
    """

    questions: tuple[Question, ...]
    outcome: SharedOutcome

    @property
    def plans(self) -> tuple[Plan | None, ...]:
        """The plan of each model; None where it is not served."""
        return self.outcome.plans

    def rows(self) -> list[dict[str, Any]]:
        """Return one mapping for each model."""
        return [
            {"model": question.architecture.model_id}
            | (plan_row(plan, question) if plan else {"reason": reason})
            for question, plan, reason in zip(
                self.questions, self.plans, self.outcome.reasons, strict=True
            )
        ]

    def to_dict(self) -> dict[str, Any]:
        """Return the document that `budsim together --json` prints."""
        from budsim.api.documents import outcome_document
        from budsim.simulator.planning.plans import Outcome

        return {
            "object": "shared_cluster",
            "served": self.outcome.served,
            "usd_per_hour": self.outcome.cost_usd_per_h,
            "models": [
                outcome_document(
                    question,
                    Outcome(plans=(plan,) if plan else (), rejections=(), evaluations=0),
                )
                | {"reason": reason or None}
                for question, plan, reason in zip(
                    self.questions, self.plans, self.outcome.reasons, strict=True
                )
            ],
            "contentions": [
                {
                    "model": self._name(each.model),
                    "device": each.device,
                    "wanted": each.wanted,
                    "left": each.left,
                    "held_by": {self._name(n): count for n, count in each.held_by.items()},
                }
                for each in self.outcome.contentions
            ],
            "one_more_node": [
                {
                    "cluster": each.cluster,
                    "node": each.node,
                    "served": each.served,
                    "usd_per_hour": each.cost_usd_per_h,
                }
                for each in self.outcome.more
            ],
        }

    def summary(self) -> str:
        """Return how many of the models are served, and for how much."""
        return (
            f"{self.outcome.served} of {len(self.questions)} models are served, "
            f"for {self.outcome.cost_usd_per_h:.2f} USD/h together."
        )

    def _name(self, number: int) -> str:
        return self.questions[number].architecture.model_id


def together(
    asks: Sequence[Ask],
    *,
    cluster: Cluster | Sequence[Cluster] | str | Path,
    analytic: bool = False,
    calibration: str | Path | None = None,
    progress: Callable[[float], None] = lambda _share: None,
) -> SharedCluster:
    """Find plans of several models that fit on one inventory, no device used twice.

    As many models as possible are served; of such combinations the cheapest is taken.

    Parameters
    ----------
    asks : sequence of Ask
        One for each model.
    cluster : Cluster, sequence of Cluster, or path
        What there is, as in `budsim.simulate`.
    analytic : bool
        Use physics alone, without trained models.
    calibration : path, optional
        Correction for your own site, written by `budsim calibrate`.
    progress : callable
        Is told the share of the search that is done, 0..1.

    Raises
    ------
    NotFound
        Nobody knows a model, or the file does not exist.
    InvalidInput
        A value is out of range; the message says of which model.
    """
    from budsim.simulator.planning.shared_clusters import answer_together

    clusters = clusters_of(cluster)
    questions = tuple(_question(n, ask, clusters, analytic) for n, ask in enumerate(asks))
    predictor = predictor_of(analytic=analytic, calibration=calibration)
    outcome = answer_together(questions, predictor, progress=progress)
    return SharedCluster(questions=questions, outcome=outcome)


def ask_of(load: ModelLoad) -> Ask:
    """Return the question that a file or an agent spells."""
    return Ask(
        model=load.model, traffic=load.traffic, targets=load.targets, options=options_of(load)
    )


def options_of(load: ModelFields) -> SearchOptions:
    """Return what the search may try, and how it judges."""
    options: SearchOptions = {
        "engines": load.engines,
        "quantize": load.quantize,
        "kv_offload_gib": load.kv_offload_gib,
        "kv_store_gib": load.kv_store_gib,
        "disaggregated": load.disaggregated,
    }
    if load.chance is not None:
        options["risk"] = load.chance
    guesses = asdict(load.asked_speculation)
    guesses |= {"kv_store": load.kv_store, "kv_store_gb_per_s": load.kv_store_gb_per_s}
    stated = {name: value for name, value in guesses.items() if value is not None}
    return cast("SearchOptions", {**options, **stated})


def _question(number: int, ask: Ask, clusters: tuple[Cluster, ...], analytic: bool) -> Question:
    """Return one question; its errors say which one it is."""
    options: SearchOptions = {**ask.options, "analytic": analytic}
    try:
        return question_of(ask.model, ask.traffic, ask.targets, clusters, options)
    except InvalidInput as error:
        raise InvalidInput(_where(number, error.field), error.problem, error.expected) from error
    except NotFound as error:
        raise NotFound(_where(number, error.field), error.value, error.hint) from error


def _where(number: int, field: str) -> str:
    """Return the field as a file spells it, in the question that has it."""
    return f"questions[{number}].{SPELLED.get(field, field)}"
