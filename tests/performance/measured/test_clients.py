"""The traffic behind a measured row, by its columns and by what is known of its source."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from budsim.performance.lengths import FixedLength, LognormalLength, UniformLength
from budsim.performance.measured.clients import CLIENT_SPREAD, client_spread, client_traffic
from budsim.performance.measured.measurements import read_measurements
from budsim.performance.traffic import ClosedLoop, OpenLoop, Process, Start, Traffic

ROW = {
    "source": "",
    "device_type": "cuda",
    "device_name": "H100-SXM",
    "tp": "8",
    "n_devices": "8",
    "engine": "vllm",
    "model_hf": "meta-llama/Llama-3.1-70B-Instruct",
    "precision": "fp8",
    "input_tokens": "1000",
    "output_tokens": "200",
    "concurrency": "16",
    "mode": "serving",
    "quality": "A",
}


def traffic(**columns: str) -> Traffic:
    """Return the traffic of one row."""
    table = pd.DataFrame([{**ROW, **columns}])
    return client_traffic(read_measurements(table))[0]


def test_a_row_of_no_source_is_a_benchmarks_run() -> None:
    """16 requests at once, 160 in all, lengths within 5 % of their means, no first wave."""
    asked = traffic()
    assert asked.arrivals == ClosedLoop(concurrency=16, start=Start.AT_ONCE, first_wave_s=0.0)
    assert asked.requests == 160
    assert asked.prompt == UniformLength(low=950, high=1050)
    assert asked.output == UniformLength(low=190, high=210)


def test_a_row_may_be_of_steady_traffic() -> None:
    """``steady``: 16 requests in flight for long, however many are sent."""
    asked = traffic(arrival="steady", length_law="fixed")
    assert asked.arrivals == ClosedLoop(concurrency=16, start=Start.STEADY, first_wave_s=0.0)
    assert asked.requests is None
    assert asked.prompt == FixedLength(tokens=1000)


@pytest.mark.parametrize(
    "said", [{"arrival": "burst"}, {"request_rate": "inf"}, {"request_rate": "0"}]
)
def test_a_burst_beside_requests_in_flight_is_how_a_run_begins(said: dict[str, str]) -> None:
    """So says who asks for all at once, for an infinite rate, or for none."""
    assert traffic(**said) == traffic()


def test_a_number_of_requests_alone_does_not_make_lengths_exact() -> None:
    """Exact lengths end together for ever after; only ``fixed`` says so."""
    assert traffic(n_requests="64").output == UniformLength(low=190, high=210)
    assert traffic(n_requests="64", length_law="fixed").output == FixedLength(tokens=200)


@pytest.mark.parametrize(
    ("columns", "field"),
    [
        ({"arrival": "steady", "concurrency": "", "request_rate": "3"}, "arrival"),
        ({"arrival": "sometimes"}, "arrival"),
        ({"concurrency": "90000000"}, "concurrency"),
        ({"n_requests": "90000000"}, "n_requests"),
        ({"n_requests": "16.5"}, "n_requests"),
        ({"warmup": "1.5"}, "warmup"),
        ({"warmup": "90000000"}, "warmup"),
        ({"warmup": "160", "n_requests": "160"}, "warmup"),
        ({"arrival": "poisson"}, "arrival"),
        ({"arrival": "burst:4"}, "arrival"),
        ({"request_rate": "3"}, "request_rate"),
        ({"concurrency": "", "request_rate": "1e-9"}, "request_rate"),
        ({"concurrency": "", "request_rate": "1e8"}, "request_rate"),
    ],
)
def test_a_client_that_cannot_be_is_a_problem_of_its_row(columns: dict, field: str) -> None:
    """The row says which column is wrong; other rows are answered."""
    table = pd.DataFrame([{**ROW, "arrival": "", "n_requests": "", **columns}, ROW]).fillna("")
    found = read_measurements(table)
    assert found.problems[0].startswith(f"{field}: ")
    assert len(client_traffic(found)) == 1


def test_the_largest_runs_are_bounded() -> None:
    """Ten for each of 500,000 in flight would be five million: one million are sent."""
    assert traffic(concurrency="500000").requests == 1_000_000


def test_a_rate_is_an_open_loop_of_its_arrival_process() -> None:
    """Poisson unless the row says otherwise."""
    assert traffic(concurrency="", request_rate="3").arrivals == OpenLoop(requests_per_s=3.0)
    bursty = traffic(concurrency="", request_rate="3", arrival="gamma:2").arrivals
    assert bursty == OpenLoop(requests_per_s=3.0, process=Process.GAMMA, variation=2.0)


def test_the_least_rate_has_replicas_too() -> None:
    """A millionth of a request per second over four replicas is the least rate of each."""
    least = {"concurrency": "", "request_rate": "1e-6", "tp": "2", "dp": "4"}
    assert traffic(**least).arrivals == OpenLoop(requests_per_s=1e-6)


def test_inferencex_sends_ten_prompts_for_each_request_in_flight() -> None:
    """Lengths are uniform from 0.8 of the stated ones; SGLang's first wave is slow (L21)."""
    asked = traffic(source="inferencex", engine="sglang", device_name="MI300X")
    assert asked.arrivals == ClosedLoop(concurrency=16, start=Start.AT_ONCE, first_wave_s=2.8)
    assert asked.requests == 160
    assert asked.prompt == UniformLength(low=800, high=1000)


def test_the_cookbooks_lengths_are_uniform_up_to_twice_their_mean() -> None:
    """Its table states how many prompts were sent."""
    asked = traffic(source="sgl_cookbook", n_requests="80")
    assert asked.prompt == UniformLength(low=1, high=1999)
    assert asked.requests == 80


def test_answers_of_conversations_are_often_very_short() -> None:
    """Exponential outputs of a mean of 200: one in twenty has less than a twentieth of it."""
    asked = traffic(source="gpustack_perflab", input_tokens="217", n_requests="1000")
    lengths = asked.output.at(np.linspace(0.0, 1.0, 1000))
    assert np.mean(lengths) == pytest.approx(200, rel=0.05)
    assert np.mean(lengths < 10) == pytest.approx(0.05, abs=0.015)


def test_a_run_has_no_more_in_flight_than_requests() -> None:
    """Four requests sent at once under a cap of sixteen."""
    assert traffic(n_requests="4").concurrency == 4


def test_optional_columns_say_what_a_source_would() -> None:
    """Law of lengths, prefix hits and warm-up of a row without a known source."""
    asked = traffic(
        length_law="lognormal:0.5", prefix_hit_share="0.4", n_requests="100", warmup="10"
    )
    assert asked.output == LognormalLength(mean_tokens=200, variation=0.5)
    assert asked.prefix_hit_share == 0.4
    assert (asked.run_requests, asked.run_warmup) == (100, 10)


@pytest.mark.parametrize("blank", ["", "nan", "none", "NaN"])
def test_blank_cells_of_a_client_say_nothing(blank: str) -> None:
    """As in every other column of numbers."""
    names = ("n_requests", "warmup", "prefix_hit_share", "prefix_set_tokens")
    assert traffic(**dict.fromkeys(names, blank)) == traffic()


def test_requests_left_out_were_sent_beside_those_assumed() -> None:
    """1,000 of warm-up and ten for each of 16 in flight; at a rate, in a run long enough."""
    asked = traffic(warmup="1000")
    assert (asked.run_requests, asked.run_warmup) == (1160, 1000)
    open_run = traffic(concurrency="", request_rate="3", warmup="5000")
    assert open_run.run_requests > open_run.run_warmup == 5000
    steady = traffic(arrival="steady", warmup="50000")
    assert steady.run_requests > steady.run_warmup == 50_000


def test_replicas_share_the_requests_left_out_too() -> None:
    """Of 100 requests of four replicas, 32 left out, each answers 25 and leaves out 8."""
    asked = traffic(n_devices="8", tp="2", dp="4", n_requests="100", warmup="32")
    assert (asked.run_requests, asked.run_warmup) == (25, 8)


@pytest.mark.parametrize("source", ["", "somebody"])
def test_who_measured_a_row_matters_only_by_what_its_client_did(source: str) -> None:
    """L21: an unknown source changes nothing."""
    assert traffic(source=source) == traffic()


def test_ttft_is_less_sure_where_nobody_says_how_many_requests_were_sent() -> None:
    """Not where the row or its source says so, nor in traffic without a beginning."""
    rows = [
        {},
        {"n_requests": "64"},
        {"source": "inferencex"},
        {"arrival": "steady"},
        {"concurrency": "", "request_rate": "3"},
        {"mode": "static_batch"},
    ]
    table = pd.DataFrame([{**ROW, **each} for each in rows]).fillna("")
    assert client_spread(read_measurements(table)).tolist() == [CLIENT_SPREAD, 0, 0, 0, 0, 0]


def test_sharegpt_has_many_short_prompts_and_answers() -> None:
    """Half of its prompts have less than 83 tokens of a mean of 220, a tenth of its answers 14."""
    asked = traffic(source="gpustack_perflab", input_tokens="220", output_tokens="202")
    prompts, answers = (law.at(np.zeros(1000)) for law in (asked.prompt, asked.output))
    assert (prompts.mean(), answers.mean()) == pytest.approx((220, 202), abs=0.5)
    assert np.median(prompts) == pytest.approx(83, abs=1)
    assert np.quantile(answers, 0.1) == pytest.approx(14, abs=1)
