"""`budsim capacity` and `budsim size` answer the reversed questions."""

import json

import pytest

from budsim.cli import run


@pytest.fixture
def one(tmp_path) -> str:
    """Path of a cluster of one L4."""
    file = tmp_path / "one.yaml"
    file.write_text(
        "clusters: [{name: one, nodes: [{name: a, devices: [{device: L4, count: 1}]}]}]"
    )
    return str(file)


def test_capacity_is_what_the_cluster_serves(one, lengths, capsys):
    """`budsim capacity` says how many requests each cluster serves and what fails beyond.

    It needs a target.
    """
    asked = ["capacity", "--cluster", one, *lengths, "--engine", "vllm"]
    assert run([*asked, "--ttft-ms", "600", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["clusters"][0]
    assert found["concurrency"] < found["refused_concurrency"]
    assert found["configuration"]["error_rate"] == 0
    assert run([*asked, "--ttft-ms", "600"]) == 0
    assert f"one serves {found['concurrency']} requests" in capsys.readouterr().out
    assert run(asked) == 2
    assert "--ttft-ms" in capsys.readouterr().err


def test_capacity_is_a_rate_where_requests_come_by_themselves(one, lengths, capsys):
    """`--arrival` asks for the largest rate; the answer names a rate below it and one too high."""
    asked = ["capacity", "--cluster", one, *lengths, "--arrival", "poisson"]
    asked += ["--ttft-p99-ms", "3000", "--engine", "vllm"]
    assert run([*asked, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["clusters"][0]
    assert 0 < found["requests_per_s"] < found["refused_requests_per_s"]
    assert found["refused_requests_per_s"] < 1.03 * found["requests_per_s"]
    assert run(asked) == 0
    out = capsys.readouterr().out
    assert f"one serves {found['requests_per_s']:.3g} requests/s" in out
    assert "are too many" in out
    assert run([*asked, "--arrival", "monthly"]) == 2
    assert "--arrival" in capsys.readouterr().err


def test_size_names_devices_and_their_price(load, capsys):
    """`budsim size` lists device sets, cheapest per hour first, and refuses unknown devices."""
    asked = ["size", *load, "--ttft-ms", "1500"]
    asked += ["--device", "L4", "--device", "H100-SXM"]
    assert run([*asked, "--json"]) == 0
    sets = json.loads(capsys.readouterr().out)["sets"]
    assert [each["device"] for each in sets] == ["L4", "H100-SXM"]
    assert sets[0]["usd_per_hour"] < sets[1]["usd_per_hour"]
    assert run(asked) == 0
    assert "1 x L4" in capsys.readouterr().out
    assert run([*asked, "--device", "H100-SXN"]) == 2
    told = capsys.readouterr().err
    assert "--device: 'H100-SXN' is not known" in told
    assert "close to it: H100-SXM" in told


def test_an_estimated_rent_is_marked(load, capsys):
    """A device that no provider lets has an estimated rent, and a star."""
    asked = ["size", *load, "--ttft-ms", "1500", "--device"]
    assert run([*asked, "Gaudi3-PCIe"]) == 0
    assert "no provider publishes a rent" in capsys.readouterr().out
    assert run([*asked, "L4"]) == 0
    assert "no provider publishes a rent" not in capsys.readouterr().out
    assert run([*asked, "Gaudi3-PCIe", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["sets"][0]["price"]["kind"] == "estimated"
