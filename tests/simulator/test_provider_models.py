"""Plans for cloud models: priced, hosted on a CPU, started from the site's own image."""

from budsim.performance.traffic import Traffic
from budsim.simulator.provider_models import LATENCY_UNKNOWN, priced_on, provider_price
from tests.simulator.situations import make_cluster

TRAFFIC = Traffic.closed(input_tokens=300, output_tokens=100, concurrency=8)
CPU = make_cluster((("Xeon-Platinum-8480+", 2),), cluster_id="with-cpu")
GPU = make_cluster((("H100-SXM", 2),), cluster_id="without")


def test_the_proxy_needs_a_cpu_and_the_latency_stays_unknown():
    """One plan, and a reason for each cluster."""
    found = priced_on(provider_price("gpt-4o"), TRAFFIC, (CPU, GPU))
    assert [plan.cluster_id for plan in found.plans] == ["with-cpu"]
    assert found.plans[0].ttft_s is None
    reasons = {reason["cluster_id"]: reason["reason"] for reason in found.reasons}
    assert reasons["with-cpu"] == LATENCY_UNKNOWN
    assert reasons["without"].startswith("no CPU for the proxy")


def test_cost_is_told_per_output_token_and_per_token():
    """A quarter of the tokens are output: all together cost a quarter of the output's price."""
    document = priced_on(provider_price("gpt-4o"), TRAFFIC, (CPU,)).plans[0].groups[0].document
    assert document["cost_per_million_tokens_blended"] * 4 == document["cost_per_million_tokens"]


def test_the_sites_own_proxy_is_started():
    """`IMAGE_LITELLM_ANY` takes the place of the published image."""
    found = priced_on(provider_price("gpt-4o"), TRAFFIC, (CPU,), "registry/litellm:1")
    assert found.plans[0].groups[0].document["image"] == "registry/litellm:1"


def test_requests_that_come_at_a_rate_are_priced_too():
    """Nobody knows how many are in flight at a provider: one."""
    traffic = Traffic.at_rate(requests_per_s=3.0, input_tokens=300, output_tokens=100)
    found = priced_on(provider_price("gpt-4o"), traffic, (CPU,))
    assert found.plans[0].groups[0].document["labels"]["concurrency"] == "1"
