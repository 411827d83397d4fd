"""Calls of a client generated from the OpenAPI document; run by scripts/check_client.py.

    python scripts/client_calls.py ADDRESS

Every answer has to be of the type that the document names.
"""

from __future__ import annotations

import sys
import time

from budsim_client import Client
from budsim_client.api.service import about, ready
from budsim_client.api.simulator import (
    capacity,
    configurations,
    day,
    recommendations,
    run,
)
from budsim_client.api.workflow import events, status
from budsim_client.models import (
    CapacitiesAnswer,
    CapacityRequest,
    ConfigurationsRequest,
    DayOfReplicasAnswer,
    DayRequest,
    DeploymentConfiguration,
    Error,
    EventPage,
    Info,
    RecommendationPage,
    Recommendations,
    RunRequest,
    SimulationMethod,
    Status,
    WorkflowMetadata,
)

SLOWEST_RUN_S = 120.0


def main(address: str) -> None:
    """Ask in both ways, read the answers, and be refused once."""
    with Client(base_url=address, timeout=SLOWEST_RUN_S) as client:
        assert isinstance(about.sync(client=client), Info)
        assert isinstance(ready.sync(client=client), Info)
        answer_at_once(client)
        answer_later(client)
        served_by_the_clusters(client)
        answer_for_a_day(client)
        refusal(client)
    print("the generated client called 9 operations; all answers had their types")


def question(*, debug: bool, acceptance: float = 0.6) -> RunRequest:
    """Return a small question that guesses tokens ahead."""
    return RunRequest(
        pretrained_model_uri="meta-llama/Llama-3.1-8B-Instruct",
        is_proprietary_model=False,
        input_tokens=512,
        output_tokens=128,
        concurrency=8,
        target_ttft=1000.0,
        target_throughput_per_user=20.0,
        target_e2e_latency=None,
        simulation_method=SimulationMethod.HEURISTIC,
        speculative="ngram",
        acceptance=acceptance,
        debug=debug,
    )


def answer_at_once(client: Client) -> None:
    """Wait for the recommendations."""
    found = run.sync(client=client, body=question(debug=True))
    assert isinstance(found, Recommendations), found
    assert found.recommendations[0].metrics.throughput_per_user > 20.0


def answer_later(client: Client) -> None:
    """Start a run, wait for its end, and read what came out."""
    started = run.sync(client=client, body=question(debug=False), idempotency_key="calls")
    assert isinstance(started, WorkflowMetadata), started
    deadline = time.monotonic() + SLOWEST_RUN_S
    while (now := status.sync(started.workflow_id, client=client)).status is not Status.COMPLETED:
        assert time.monotonic() < deadline, now
        time.sleep(0.2)
    page = recommendations.sync(client=client, workflow_id=started.workflow_id)
    assert isinstance(page, RecommendationPage), page
    assert page.items
    best = configurations.sync(
        client=client, body=ConfigurationsRequest(workflow_id=started.workflow_id)
    )
    assert isinstance(best, DeploymentConfiguration), best
    assert best.node_groups[0].speculation.method == "ngram"
    assert isinstance(events.sync(started.workflow_id, client=client), EventPage)


def served_by_the_clusters(client: Client) -> None:
    """Wait for what each cluster serves."""
    asked = CapacityRequest(
        pretrained_model_uri="meta-llama/Llama-3.1-8B-Instruct",
        input_tokens=512,
        output_tokens=128,
        target_ttft=500.0,
        simulation_method=SimulationMethod.HEURISTIC,
    )
    found = capacity.sync(client=client, body=asked)
    assert isinstance(found, CapacitiesAnswer), found
    assert found.clusters[0].concurrency > 1


def answer_for_a_day(client: Client) -> None:
    """Wait for the replicas of three hours."""
    asked = DayRequest(
        pretrained_model_uri="meta-llama/Llama-3.1-8B-Instruct",
        input_tokens=512,
        output_tokens=128,
        hourly=[1.0, 5.0, 2.0],
        target_throughput_per_user=20.0,
        simulation_method=SimulationMethod.HEURISTIC,
    )
    found = day.sync(client=client, body=asked)
    assert isinstance(found, DayOfReplicasAnswer), found
    assert [hour.requests_per_s for hour in found.hours] == asked.hourly


def refusal(client: Client) -> None:
    """Read an error as the document describes it."""
    refused = run.sync(client=client, body=question(debug=True, acceptance=1.5))
    assert isinstance(refused, Error), refused
    assert refused.param == "acceptance", refused


if __name__ == "__main__":
    main(sys.argv[1])
