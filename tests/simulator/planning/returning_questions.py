"""Questions about requests whose prefixes return, so that further tiers of KV cache may gain."""

from __future__ import annotations

from dataclasses import replace

import pytest

from budsim.commons.errors import InvalidInput
from budsim.hardware_ops.cluster_file import clusters_in
from budsim.model_ops.registry import resolve_model
from budsim.performance.lengths import FixedLength
from budsim.performance.prefixes import PrefixSet
from budsim.performance.traffic import ClosedLoop, Traffic
from budsim.simulator.planning.question import Question
from budsim.simulator.planning.targets import Targets

NODE = {"name": "gpu", "devices": [{"device": "H100-SXM", "count": 4}]}


def returning_traffic(set_tokens: float) -> Traffic:
    """Return 16 requests in flight that share nine of ten prompt tokens of a set."""
    return Traffic(
        arrivals=ClosedLoop(concurrency=16),
        prompt=FixedLength(tokens=8000),
        output=FixedLength(tokens=200),
        prefix=PrefixSet(share=0.9, tokens=set_tokens),
    )


def returning_question(set_tokens: float, engine: str = "vllm", **node: object) -> Question:
    """Return a question about Llama 8B on a node of four H100, or with other fields of it."""
    return Question(
        architecture=resolve_model("meta-llama/Llama-3.1-8B-Instruct"),
        traffic=returning_traffic(set_tokens),
        targets=Targets(),
        clusters=clusters_in({"clusters": [{"name": "lab", "nodes": [NODE | node]}]}),
        analytic_only=True,
        engines=frozenset({engine}),
    )


def assert_model_is_refused(question: Question, model: str, *, field: str) -> None:
    """Check that the question cannot be asked about a model; the error names the field."""
    architecture = resolve_model(model)
    output = 0 if architecture.is_embedding else 9
    traffic = replace(
        Traffic.closed(concurrency=4, input_tokens=9, output_tokens=9),
        output=FixedLength(tokens=output),
    )
    with pytest.raises(InvalidInput) as error:
        replace(question, architecture=architecture, traffic=traffic)
    assert error.value.field == field
