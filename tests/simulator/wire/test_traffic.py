"""Traffic and targets of single requests on the wire: units, defaults, what is refused by name."""

from typing import Any

import pytest
from fastapi.testclient import TestClient
from pydantic import ValidationError

from budsim.engine_ops.kv_store import kv_store_of
from budsim.performance.lengths import FixedLength, LognormalLength, UniformLength
from budsim.performance.predictor import AnalyticPredictor
from budsim.performance.prefixes import PrefixSet, PrefixShare, Sessions
from budsim.performance.traffic import ClosedLoop, OpenLoop, Process
from budsim.simulator.background.worker_processes import ThreadWorkers
from budsim.simulator.cluster_sources import FixedInventory
from budsim.simulator.planning.targets import PercentileTarget
from budsim.simulator.schemas import RunRequest
from budsim.simulator.searching import simulate
from tests.simulator.serving import CLUSTER_ID, MakeClient
from tests.simulator.situations import make_cluster


def parsed(body: dict[str, Any], **changes: Any) -> RunRequest:
    """Return a request, changed; a rate takes the place of the concurrency."""
    return RunRequest.model_validate(at_a_rate(body, changes) | changes)


def at_a_rate(body: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """Return the body without its concurrency where a change states a rate."""
    left_out = {"concurrency"} if changes.get("request_rate") is not None else set()
    return {name: value for name, value in body.items() if name not in left_out}


@pytest.fixture
def real(make_client: MakeClient) -> TestClient:
    """Return a service that really searches, on two H100."""
    cluster = make_cluster((("H100-SXM", 2),), cluster_id=CLUSTER_ID)
    workers = ThreadWorkers(simulate, AnalyticPredictor)
    return make_client(inventory=FixedInventory((cluster,)), workers=workers)


def ask(client: TestClient, body: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """Return the answer of a run without the usual targets."""
    plain = dict.fromkeys(name for name in body if name.startswith("target_"))
    asked = at_a_rate(body, changes) | plain | {"debug": True, "simulation_method": "heuristic"}
    asked |= changes
    answer = client.post("/simulator/run", json=asked)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def test_targets_become_seconds_once(body: dict[str, Any]):
    """1,500 ms are 1.5 s; end-to-end latency is in seconds already; a rate stays a rate."""
    targets = RunRequest.model_validate(body).targets
    assert (targets.ttft_s, targets.e2e_s, targets.tokens_per_s_per_user) == (1.5, 20.0, 20.0)


@pytest.mark.parametrize("nothing", [None, 0, 0.0])
def test_null_and_zero_mean_no_target(body: dict[str, Any], nothing: object):
    """Neither divides by zero nor drops every configuration."""
    names = ("target_ttft", "target_throughput_per_user", "target_e2e_latency")
    targets = RunRequest.model_validate(body | dict.fromkeys(names, nothing)).targets
    assert (targets.ttft_s, targets.e2e_s, targets.tokens_per_s_per_user) == (None, None, None)


def test_without_the_new_fields_traffic_is_a_closed_loop_of_fixed_lengths(body: dict[str, Any]):
    """What callers send today means what it meant."""
    traffic = parsed(body).traffic
    assert traffic.arrivals == ClosedLoop(concurrency=64)
    assert (traffic.prompt, traffic.output) == (FixedLength(tokens=1024), FixedLength(tokens=256))
    assert traffic.prefix == PrefixShare(share=0.0)
    assert not parsed(body).targets.need_replay


def test_a_rate_with_its_arrival_and_lengths_reaches_the_core(body: dict[str, Any]):
    """Requests/s, the process of arrivals, laws of prompts and outputs, shared prefixes."""
    traffic = parsed(
        body,
        request_rate=2.5,
        arrival="gamma:3",
        input_lengths="uniform:512-1536",
        output_lengths="lognormal:0.5",
        prefix_hit_share=0.4,
    ).traffic
    assert traffic.arrivals == OpenLoop(requests_per_s=2.5, process=Process.GAMMA, variation=3.0)
    assert traffic.prompt == UniformLength(low=512, high=1536)
    assert traffic.output == LognormalLength(mean_tokens=256, variation=0.5)
    assert traffic.prefix_hit_share == 0.4


def test_targets_at_percentiles_become_seconds_once(body: dict[str, Any]):
    """Milliseconds of TTFT and ITL, seconds end to end; 0 and null are no target."""
    targets = parsed(
        body,
        target_ttft_p95=None,
        target_ttft_p99=2500,
        target_itl_p99=50,
        target_e2e_latency_p95=0,
        target_e2e_latency_p99=30,
        target_goodput=0.95,
    ).targets
    assert targets.percentiles == (
        PercentileTarget(latency="ttft", percent=99, limit_s=2.5),
        PercentileTarget(latency="itl", percent=99, limit_s=0.05),
        PercentileTarget(latency="e2e", percent=99, limit_s=30.0),
    )
    assert targets.goodput == 0.95


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"request_rate": 0}, "request_rate"),
        ({"request_rate": 1e9}, "request_rate"),
        ({"request_rate": 2}, "request_rate"),
        ({"concurrency": None}, "concurrency"),
        ({"arrival": "sometimes"}, "arrival"),
        ({"arrival": "gamma:-1"}, "arrival"),
        ({"input_lengths": "long"}, "input_lengths"),
        ({"input_lengths": "uniform:1-9"}, "input_lengths"),
        ({"output_lengths": "lognormal:0"}, "output_lengths"),
        ({"prefix_hit_share": 1.5}, "prefix_hit_share"),
        ({"target_goodput": 2}, "target_goodput"),
        ({"target_ttft_p95": 2000, "target_ttft_p99": 1000}, "target_ttft_p95"),
        ({"target_ttft_p99": 1e-300}, "target_ttft_p99"),
        (
            {
                "target_goodput": 0.9,
                "target_ttft": 0,
                "target_throughput_per_user": 0,
                "target_e2e_latency": 0,
            },
            "target_goodput",
        ),
        ({"images_per_request": 1}, "image_size"),
        ({"prefix_set_tokens": 1e6}, "prefix_hit_share"),
        ({"prefix_set_tokens": 0}, "prefix_set_tokens"),
        ({"kv_offload_gib": -1}, "kv_offload_gib"),
        ({"kv_store_gib": -1}, "kv_store_gib"),
        ({"kv_store_gib": 2e6}, "kv_store_gib"),
        ({"kv_store_gib": 10, "kv_store": "memcached"}, "kv_store"),
        ({"kv_store": "lmcache"}, "kv_store"),
        ({"kv_store_gib": 10, "kv_store_gb_per_s": 0}, "kv_store_gb_per_s"),
        ({"route_by_prefix": True}, "route_by_prefix"),
    ],
)
def test_what_makes_no_sense_is_refused_by_its_field(
    client: TestClient, body: dict[str, Any], changes: dict[str, Any], field: str
):
    """422 with the name of the request's own field, never the core's."""
    answer = client.post("/simulator/run", json=body | changes)
    assert (answer.status_code, answer.json()["param"]) == (422, field), answer.text


def test_a_request_of_today_keeps_its_digest_when_fields_are_added(body: dict[str, Any]):
    """A field at its default is not part of the question's digest."""
    assert parsed(body, arrival="poisson", request_rate=None).fingerprint() == (
        parsed(body).fingerprint()
    )
    assert parsed(body, request_rate=1.0).fingerprint() != parsed(body).fingerprint()


def test_a_stored_request_means_the_same_again(body: dict[str, Any]):
    """Runs are stored as JSON and read back by another replica."""
    request = parsed(body, request_rate=2.0, input_lengths="uniform", target_ttft_p99=900)
    again = RunRequest.model_validate(request.stored())
    assert (again.traffic, again.targets) == (request.traffic, request.targets)


def test_a_rate_is_answered_with_what_single_requests_see(real: TestClient, body: dict[str, Any]):
    """Percentiles in order, in ms and s; the rate it carries is above the one that comes."""
    found = ask(real, body, request_rate=2.0, target_ttft_p99=5000)
    seen = found["recommendations"][0]["metrics"]["requests"]
    ttft = seen["ttft"]
    assert 0 < ttft["p50"] <= ttft["p90"] <= ttft["p95"] <= ttft["p99"] <= 5000
    assert seen["e2e_latency"]["p99"] * 1000 > ttft["p99"]
    assert 0 < seen["margin"] < 1
    configuration = real.post(
        "/simulator/configurations", json={"workflow_id": found["workflow_id"]}
    ).json()
    (group,) = configuration["node_groups"]
    assert group["requests"] == seen
    assert "ttft_p99" in group["explanation"]["headroom"]


def test_a_rate_nothing_carries_is_told_in_words(real: TestClient, body: dict[str, Any]):
    """Ten thousand requests a second on two GPUs: no recommendation, and a reason."""
    found = ask(real, body, request_rate=10_000)
    assert found["recommendations"] == []
    assert found["reasons"]
    assert found["message"]


def test_a_goodput_no_request_reaches_is_told_in_words(real: TestClient, body: dict[str, Any]):
    """A millisecond to the first token: none of the requests is good, and the answer says so."""
    found = ask(real, body, target_goodput=0.95, target_ttft=1)
    assert found["recommendations"] == []
    assert found["nearest"]["metrics"]["requests"]["good_share"] == 0


def test_means_of_a_closed_loop_need_no_replay(real: TestClient, body: dict[str, Any]):
    """The answer of today has no percentiles."""
    assert ask(real, body)["recommendations"][0]["metrics"]["requests"] is None


def test_lengths_must_have_the_mean_beside_them(body: dict[str, Any]):
    """Two statements about one thing that disagree are refused."""
    with pytest.raises(ValidationError, match="has a mean of 5 tokens, not 1024"):
        parsed(body, input_lengths="uniform:1-9")


def test_items_of_requests_are_optional_fields(body: dict[str, Any]):
    """An image by its size; requests of text have none."""
    media = parsed(body, images_per_request=1, image_size="640x480").traffic.media
    assert (media.images, media.width, media.height) == (1, 640, 480)
    assert not parsed(body).traffic.media


def test_images_for_a_text_model_are_refused(real: TestClient, body: dict[str, Any]):
    """The error names the field, before anything is searched."""
    asked = body | {"images_per_request": 1, "image_size": "640x480"}
    answer = real.post("/simulator/run", json=asked)
    assert answer.status_code == 422
    assert answer.json()["param"] == "images_per_request"


def test_a_store_of_all_replicas_is_an_optional_field(body: dict[str, Any]):
    """By its size; its kind and what it delivers have defaults."""
    asked = parsed(body, kv_store_gib=2000, kv_store="lmcache", kv_store_gb_per_s=10)
    assert asked.asked_store == kv_store_of(2000.0, "lmcache", 10.0)
    assert parsed(body).asked_store is None


def test_a_set_of_prefixes_is_an_optional_field(body: dict[str, Any]):
    """With its tokens caches may be too small; without, prefixes are always found."""
    asked = parsed(body, prefix_hit_share=0.5, prefix_set_tokens=1e6, kv_offload_gib=100)
    assert asked.traffic.prefix == PrefixSet(share=0.5, tokens=1e6)
    assert asked.kv_offload_gib == 100
    assert parsed(body, prefix_hit_share=0.5).traffic.prefix == PrefixShare(share=0.5)


def test_conversations_and_longest_prompts_are_optional_fields(body: dict[str, Any]):
    """As `--turns`, `--turn-interval-s` and `--max-input-tokens` of the terminal."""
    asked = parsed(body, turns=8, turn_interval_s=12, max_input_tokens=100_000).traffic
    assert asked.prefix == Sessions(turns=8, interval_s=12.0)
    assert asked.prompt.most == 100_000
    assert parsed(body, turns=2).traffic.prefix == Sessions(turns=2)


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"turns": 0}, "turns"),
        ({"turns": 2, "turn_interval_s": 0}, "turn_interval_s"),
        ({"turn_interval_s": 9}, "turn_interval_s"),
        ({"turns": 2, "prefix_hit_share": 0.5}, "prefix_hit_share"),
        ({"max_input_tokens": 10}, "max_input_tokens"),
        ({"max_input_tokens": 100_000, "input_lengths": "uniform"}, "max_input_tokens"),
    ],
)
def test_conversations_that_make_no_sense_are_refused(
    client: TestClient, body: dict[str, Any], changes: dict[str, Any], field: str
):
    """422 with the name of the request's own field."""
    answer = client.post("/simulator/run", json=body | changes)
    assert (answer.status_code, answer.json()["param"]) == (422, field), answer.text
