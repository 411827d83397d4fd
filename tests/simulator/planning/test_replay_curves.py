"""What requests of a plan see at many loads."""

import numpy as np
import pytest

import budsim
from budsim.simulator.planning.replay_curves import LoadCurve, replay_plan


def curve(load: list[float], ttft_p99_s: list[float]) -> LoadCurve:
    """Return a curve of which only load and p99 of TTFT matter."""
    values = np.array(ttft_p99_s)
    return LoadCurve(
        is_rate=True,
        asked=1.0,
        load=np.array(load),
        requests_per_s=np.array(load),
        ttft_p50_s=values,
        ttft_p99_s=values,
        itl_p99_s=values,
        e2e_p99_s=values,
    )


@pytest.fixture(scope="module")
def answers(tmp_path_factory) -> dict[str, budsim.Simulation]:
    """Answer one question in flight and one at a rate, by physics alone."""
    file = tmp_path_factory.mktemp("lab") / "lab.yaml"
    file.write_text(
        "clusters: [{name: lab, nodes: [{name: a, devices: [{device: L4, count: 2}]}]}]"
    )
    sizes = {"input_tokens": 512, "output_tokens": 64}
    traffic = {
        "in flight": budsim.Traffic.closed(concurrency=8, **sizes),
        "at a rate": budsim.Traffic.at_rate(requests_per_s=0.5, **sizes),
    }
    return {
        name: budsim.simulate(
            model="meta-llama/Llama-3.1-8B-Instruct", cluster=file, traffic=each, analytic=True
        )
        for name, each in traffic.items()
    }


def test_the_knee_is_where_the_curve_bends():
    """Flat until 3 requests/s, steep after: the point farthest below the straight line."""
    assert curve([1, 2, 3, 4], [0.1, 0.11, 0.12, 1.0]).knee == 3
    assert curve([1], [0.1]).knee == 1


def test_latency_grows_with_the_rate_up_to_the_limit(answers):
    """Rates are those of all replicas, end below the largest stable one, and never help."""
    found = answers["at a rate"]
    replayed = replay_plan(found.question, found.best, found.predictor)
    assert replayed.curve.is_rate
    assert replayed.curve.asked == pytest.approx(0.5)
    largest = found.best.slowest.replicas * found.best.slowest.replayed.largest_stable_rate
    assert replayed.curve.load[-1] == pytest.approx(0.98 * largest, rel=0.02)
    assert replayed.curve.ttft_p99_s[-1] > replayed.curve.ttft_p99_s[0]
    assert (replayed.curve.ttft_p99_s >= replayed.curve.ttft_p50_s).all()


def test_requests_are_those_of_the_plan(answers):
    """The distribution has the percentiles that the plan itself was replayed with."""
    found = answers["at a rate"]
    times = replay_plan(found.question, found.best, found.predictor).times
    seen = found.best.slowest.replayed
    assert np.percentile(times.ttft_s, 50) == pytest.approx(seen.ttft_s.p50, rel=0.05)
    assert np.percentile(times.e2e_s, 99) == pytest.approx(seen.e2e_s.p99, rel=0.05)
    assert times.gap_counts.sum() > len(times.ttft_s)


def test_a_closed_loop_is_tried_beyond_what_was_asked(answers):
    """Requests in flight are tried from 1 to four times the question's, for all replicas."""
    found = answers["in flight"]
    replayed = replay_plan(found.question, found.best, found.predictor)
    replicas = found.best.slowest.replicas
    assert not replayed.curve.is_rate
    assert replayed.curve.load[0] == replicas
    assert replayed.curve.load[-1] >= 4 * 8
    assert replayed.times.timeline.running.max() <= 8 / replicas
