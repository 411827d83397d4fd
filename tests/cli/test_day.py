"""`budsim day` tells replicas by hour, and its document is rendered as autoscalers."""

import io
import json

import pytest

from budsim.cli import run

TARGETS = ["--tokens-per-s-per-user", "5", "--ttft-p99-ms", "5000", "--engine", "vllm"]


@pytest.fixture
def day(tmp_path, lengths) -> list[str]:
    """Arguments that ask for a day on two L4, without its rates."""
    file = tmp_path / "two.yaml"
    file.write_text(
        "clusters: [{name: two, nodes: [{name: a, devices: [{device: L4, count: 2}]}]}]"
    )
    return ["day", "--cluster", str(file), *lengths, *TARGETS]


def test_a_day_is_a_table_and_a_document_for_render(day, tmp_path, capsys, monkeypatch):
    """Replicas of each hour, both costs, and the rule; KEDA's manifest is made of the document.

    Rates are separated by commas, or stand in a file, one a line.
    """
    file = tmp_path / "rates.txt"
    file.write_text("0.1\n0.2\n")
    assert run([*day, "--hourly", "0.1, 0.2", "--plot"]) == 0
    out = capsys.readouterr().out
    assert "replicas" in out
    assert "all the time" in out
    assert "--lead-time-s" in out
    assert run([*day, "--hourly", str(file), "--json", "--lead-time-s", "60"]) == 0
    text = capsys.readouterr().out
    found = json.loads(text)
    assert [hour["requests_per_s"] for hour in found["hours"]] == [0.1, 0.2]
    assert found["scaling"]["max_replicas"] == found["hours"][1]["replicas"]
    assert found["scaling"]["lead_time_s"] == 60
    assert found["cost"]["usd_per_day"] <= found["cost"]["constant_usd_per_day"]
    monkeypatch.setattr("sys.stdin", io.StringIO(text))
    assert run(["render", "-", "--format", "keda", "--prometheus", "http://prom:9090"]) == 0
    assert "http://prom:9090" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ([], "--hourly"),
        (["--hourly", "1,x"], "--hourly"),
        (["--hourly", ""], "--hourly"),
        (["--hourly", "-1"], "--hourly"),
        (["--hourly", "1,,2"], "--hourly"),
        (["--hourly", "1", "--arrival", "poisson:2"], "--arrival"),
        (["--hourly", "inf"], "--hourly"),
        (["--hourly", ",".join(["1"] * 25)], "--hourly"),
        (["--hourly", "1", "--trace", "none.csv"], "--hourly"),
        (["--hourly", "1", "--lead-time-s", "-5"], "--lead-time-s"),
        (["--hourly", "1", "--arrival", "monthly"], "--arrival"),
    ],
)
def test_mistakes_are_one_line_that_names_the_option(day, capsys, options, named):
    """Missing, given twice, no numbers, out of range."""
    assert run([*day, *options]) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert named in err
