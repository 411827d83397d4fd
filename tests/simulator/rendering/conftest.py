"""Plans of real answers as documents, and layouts of them over nodes of our choice."""

import json
from collections.abc import Callable

import pytest

from budsim.simulator.planning.question import Question
from budsim.simulator.schemas import DeploymentConfiguration, stored_plans
from tests.simulator.situations import make_cluster, make_question


@pytest.fixture(scope="session")
def document() -> Callable[..., dict]:
    """Return a function that answers a question as `budsim simulate --json` prints it."""
    from budsim.performance.predictor import AnalyticPredictor
    from budsim.simulator.planning.answer import answer

    def ask(question: Question) -> dict:
        stored = stored_plans(answer(question, AnalyticPredictor()), question, keep=20)
        return {
            "model": question.architecture.model_id,
            "input_tokens": round(question.traffic.input_tokens),
            "output_tokens": round(question.traffic.output_tokens),
            "configurations": [
                DeploymentConfiguration.of(plan).model_dump(mode="json") for plan in stored
            ],
            "reasons": [],
        }

    return ask


@pytest.fixture(scope="session")
def answered(document) -> dict:
    """Plans for an 8B model on H100, MI300X, Gaudi 3 and two sockets of Sapphire Rapids."""
    nodes = ((("H100-SXM", 4),), (("MI300X", 2),), (("Gaudi3", 2),), (("Xeon Platinum 8480+", 2),))
    return document(make_question(make_cluster(*nodes), analytic_only=True))


@pytest.fixture(scope="session")
def layout(answered) -> Callable[..., str]:
    """Return a function that lays an engine's first plan out over nodes of our choice."""

    def lay(type_: str, engine: str, *placements: dict[str, int], **changes: object) -> str:
        groups = [group for plan in answered["configurations"] for group in plan["node_groups"]]
        found = next(
            group for group in groups if (group["type"], group["engine_type"]) == (type_, engine)
        )
        devices = sum(placements[0].values())
        args = dict(found["args"])
        shares = [
            [{"node": node, "devices": count} for node, count in replica.items()]
            for replica in placements
        ]
        spread = {
            "tp_size": devices // len(placements[0]),
            "pp_size": len(placements[0]),
            "args": args,
        }
        group = {**found, **spread, "placements": shares, "replicas": len(placements), **changes}
        return json.dumps({"node_groups": [group]})

    return lay
