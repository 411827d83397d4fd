"""The terminal as a caller meets it: answers on stdout, progress on stderr, one line for every mistake."""

import io
import json
import subprocess
import sys
from pathlib import Path

import pytest

from budsim.cli.commands import run

CLUSTER = """
clusters:
  - name: lab
    nodes:
      - {name: gpu, count: 2, devices: [{device: H100-SXM, count: 4}]}
      - {name: broken, down: true, devices: [{device: H100-SXM, count: 4}]}
"""
TRAFFIC = ["--input-tokens", "512", "--output-tokens", "128", "--concurrency", "16"]


@pytest.fixture
def cluster(tmp_path: Path) -> str:
    """Path of a short YAML with two nodes of four H100 and one that is down."""
    file = tmp_path / "lab.yaml"
    file.write_text(CLUSTER)
    return str(file)


@pytest.fixture
def simulate(cluster: str) -> list[str]:
    """Arguments of a simulation that works."""
    return [
        "simulate",
        "--model",
        "meta-llama/Llama-3.1-8B-Instruct",
        "--cluster",
        cluster,
        *TRAFFIC,
        "--analytic",
    ]


def test_a_person_reads_the_plan_at_a_glance(simulate, capsys):
    """The table has the plan, its command, cost, and what was rejected and why; progress is on stderr."""
    assert run([*simulate, "--ttft-ms", "2000"]) == 0
    out, err = capsys.readouterr()
    for part in (
        "H100-SXM",
        "USD/Mtok",
        "vllm serve meta-llama/Llama-3.1-8B-Instruct",
        "bound by",
        "met",
        "down",
    ):
        assert part in out
    assert "100 %" in err


def test_json_is_the_recommendation_and_the_same_each_time(simulate, capsys):
    """L5: the same seed prints the same bytes; the document has the wire's names."""
    texts = []
    for _ in range(2):
        assert run([*simulate, "--json", "--seed", "5"]) == 0
        texts.append(capsys.readouterr().out)
    assert texts[0] == texts[1]
    document = json.loads(texts[0])
    assert document["object"] == "cluster_recommendations"
    assert document["recommendations"][0]["metrics"]["error_rate"] == 0
    assert document["configurations"][0]["node_groups"][0]["tp_size"] >= 1
    assert document["reasons"][0]["devices"] == 4


def test_adapters_are_options_of_every_question(simulate, capsys):
    """`--max-loras` reaches the command of the best plan; a rank no engine has kernels for is refused by its option."""
    assert run([*simulate, "--max-loras", "4", "--max-lora-rank", "32"]) == 0
    out = capsys.readouterr().out
    assert "--enable-lora" in out
    assert "--max-lora-rank 32" in out
    assert run([*simulate, "--max-loras", "4", "--max-lora-rank", "17"]) == 2
    assert "--max-lora-rank" in capsys.readouterr().err


def test_pooling_models_are_told_in_requests(simulate, capsys):
    """A reranker's table has requests/s instead of tokens; prices are of what it reads, to two digits; a rate is refused."""
    asked = [
        "BAAI/bge-reranker-v2-m3" if each.startswith("meta-llama") else each for each in simulate
    ]
    assert run([*asked, "--ttft-ms", "500", "--what-if", "concurrency=32"]) == 0
    out = capsys.readouterr().out
    assert "16 requests of 512 tokens at a time" in out
    assert "requests/s" in out
    assert "tok/s/user" not in out
    assert "tokens/s per user" not in out
    assert "0.00" in out
    assert " 0.00 " not in out
    assert run([*asked, "--tokens-per-s-per-user", "5"]) == 2
    assert "--tokens-per-s-per-user" in capsys.readouterr().err


def test_engine_restricts_the_search(simulate, capsys):
    """`--engine sglang` leaves only SGLang's configurations."""
    assert run([*simulate, "--engine", "sglang", "--json"]) == 0
    groups = [
        group
        for each in json.loads(capsys.readouterr().out)["configurations"]
        for group in each["node_groups"]
    ]
    assert {group["engine_type"] for group in groups} == {"sglang"}


@pytest.mark.parametrize(
    ("extra", "named"),
    [
        (["--concurrency", "0"], "--concurrency"),
        (["--concurrency", "9999999999"], "--concurrency"),
        (["--input-tokens", "-5"], "--input-tokens"),
        (["--input-tokens", "many"], "--input-tokens"),
        (["--input-tokens", "500000"], "--input-tokens"),
        (["--ttft-ms", "-1"], "--ttft-ms"),
        (["--ttft-ms", "nan"], "--ttft-ms"),
        (["--e2e-s", "inf"], "--e2e-s"),
        (["--tokens-per-s-per-user", "-0.1"], "--tokens-per-s-per-user"),
        (["--engine", "nobody"], "--engine"),
        (["--model", "nobody/has-this"], "--model"),
        (["--cluster", "no-such-file.yaml"], "--cluster"),
        (["--seed", "-1"], "--seed"),
        (["--no-such-option"], "--no-such-option"),
    ],
)
def test_mistakes_are_one_line_that_names_the_option(simulate, capsys, extra, named):
    """Bad input ends with exit code 2, nothing on stdout, and one line on stderr naming the option."""
    assert run([*simulate, *extra]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert named in err


@pytest.mark.parametrize("text", ["", "[", "[1, 2]", "clusters: 7", '[{"nodes": 3}]', "\x00\x01"])
def test_malformed_inventories_name_the_cluster_option(simulate, capsys, tmp_path, text):
    """An inventory that is none ends with exit code 2 and a line about --cluster."""
    file = tmp_path / "bad.yaml"
    file.write_text(text)
    assert run([*simulate, "--cluster", str(file)]) == 2
    assert "--cluster" in capsys.readouterr().err


def test_missing_options_are_named(capsys):
    """`budsim simulate` alone says which option it wants first."""
    assert run(["simulate"]) == 2
    assert "--model" in capsys.readouterr().err


def test_commands_without_a_cluster_blame_none(capsys, tmp_path):
    """What `import` cannot read is named by its file, not by an option of another command."""
    file = tmp_path / "result.json"
    file.write_text("{}")
    rows = [
        "-o",
        str(tmp_path / "rows.csv"),
        "--device",
        "H100-SXM",
        "--tp",
        "1",
        "--engine",
        "vllm",
    ]
    assert run(["import", str(file), *rows]) == 2
    err = capsys.readouterr().err
    assert "result.json" in err
    assert "--cluster" not in err


def test_a_file_that_is_no_calibration_is_named_by_its_option(simulate, capsys, tmp_path):
    """Not by the cluster's, which is read well."""
    file = tmp_path / "site.json"
    file.write_text("{}")
    assert (
        run([*(each for each in simulate if each != "--analytic"), "--calibration", str(file)]) == 2
    )
    err = capsys.readouterr().err
    assert "--calibration" in err
    assert "--cluster" not in err


def test_nothing_fits_is_an_answer(simulate, capsys, tmp_path):
    """A model no device can hold is exit code 0 with the reason in the table."""
    file = tmp_path / "small.yaml"
    file.write_text(
        "clusters: [{name: edge, nodes: [{name: e, devices: [{device: L4, count: 1}]}]}]"
    )
    assert (
        run([*simulate, "--model", "meta-llama/Llama-3.1-405B-Instruct", "--cluster", str(file)])
        == 0
    )
    out = capsys.readouterr().out
    assert "nothing fits" in out
    assert "weights need" in " ".join(out.split())


@pytest.mark.parametrize(
    ("command", "known"),
    [
        ("devices", "H100-SXM"),
        ("models", "meta-llama/Llama-3.1-70B-Instruct"),
        ("engines", "sglang"),
    ],
)
def test_lists_name_what_is_known(capsys, command, known):
    """`budsim devices|models|engines` list the catalogs."""
    assert run([command]) == 0
    assert known in capsys.readouterr().out


def test_serve_checks_its_inventory(capsys, tmp_path):
    """`budsim serve` with a missing inventory ends before it listens."""
    assert run(["serve", "--inventory", str(tmp_path / "none.json")]) == 2
    assert "--inventory" in capsys.readouterr().err


def test_help_imports_nothing_heavy():
    """`budsim --help` loads neither numpy nor the search nor the service."""
    code = "import sys, budsim.cli.commands; print(sorted({'numpy', 'deap', 'xgboost', 'fastapi', 'pandas'} & set(sys.modules)))"
    found = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parents[1],
    )
    assert found.stdout.strip() == "[]"


def test_a_plan_is_rendered_from_a_file_or_a_pipe(simulate, capsys, tmp_path, monkeypatch):
    """`budsim render` reads what `simulate --json` printed, from a file or stdin, and prints the plan asked for."""
    assert run([*simulate, "--json"]) == 0
    text = capsys.readouterr().out
    plan = tmp_path / "plan.json"
    plan.write_text(text)
    assert run(["render", str(plan), "--format", "command", "--number", "2"]) == 0
    from_file = capsys.readouterr().out
    monkeypatch.setattr("sys.stdin", io.StringIO(text))
    assert run(["render", "-", "--format", "command", "-n", "2"]) == 0
    assert capsys.readouterr().out == from_file
    assert json.loads(text)["configurations"][1]["node_groups"][0]["config_id"] in from_file


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["PLAN", "--format", "helm"], "--format"),
        (["PLAN"], "--format"),
        (["PLAN", "--format", "command", "-n", "0"], "--number"),
        (["PLAN", "--format", "command", "-n", "99"], "--number"),
        (["PLAN", "--format", "recipe"], "--format"),
        (["PLAN", "--format", "litellm", "--fallback", "gpt-4oo"], "--fallback"),
        (["none.json", "--format", "command"], "PLAN"),
        (["BAD", "--format", "command"], "PLAN"),
    ],
)
def test_mistakes_in_rendering_are_one_line(simulate, capsys, tmp_path, arguments, named):
    """Exit code 2 and one line that names the option or the plan."""
    assert run([*simulate, "--json"]) == 0
    (tmp_path / "plan.json").write_text(capsys.readouterr().out)
    (tmp_path / "bad.json").write_text("[1, 2]")
    places = {"PLAN": str(tmp_path / "plan.json"), "BAD": str(tmp_path / "bad.json")}
    assert run(["render", *(places.get(word, word) for word in arguments)]) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert named in err


def test_a_changed_knob_stands_beside_the_plan(simulate, capsys):
    """`--what-if` adds a table with intervals before and after, in JSON the node groups; a bad one names the option."""
    assert run([*simulate, "--what-if", "tp=2", "--what-if", "max-num-seqs=4"]) == 0
    out = capsys.readouterr().out
    assert "as it is" in out
    assert "tp=2" in out
    assert run([*simulate, "--json", "--what-if", "tp=2"]) == 0
    change = json.loads(capsys.readouterr().out)["what_if"][0]
    assert (change["before"]["tp_size"], change["after"]["tp_size"]) == (1, 2)
    assert run([*simulate, "--what-if", "turbo=on"]) == 2
    assert "--what-if" in capsys.readouterr().err


def test_capacity_is_what_the_cluster_carries(cluster, capsys):
    """`budsim capacity` says how many requests each cluster carries and what gives way beyond; it needs a target."""
    asked = [
        "capacity",
        "--model",
        "meta-llama/Llama-3.1-8B-Instruct",
        "--cluster",
        cluster,
        *TRAFFIC[:4],
        "--analytic",
    ]
    assert run([*asked, "--ttft-ms", "60", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["clusters"][0]
    assert found["concurrency"] < found["refused_concurrency"]
    assert found["configuration"]["error_rate"] == 0
    assert run([*asked, "--ttft-ms", "60"]) == 0
    assert f"lab carries {found['concurrency']} requests" in capsys.readouterr().out
    assert run(asked) == 2
    assert "--ttft-ms" in capsys.readouterr().err


def test_size_names_devices_and_their_price(capsys):
    """`budsim size` lists device sets, cheapest per hour first; a device nobody knows is refused."""
    asked = [
        "size",
        "--model",
        "meta-llama/Llama-3.1-8B-Instruct",
        *TRAFFIC,
        "--analytic",
        "--ttft-ms",
        "500",
    ]
    asked += ["--device", "L4", "--device", "H100-SXM"]
    assert run([*asked, "--json"]) == 0
    sets = json.loads(capsys.readouterr().out)["sets"]
    assert [each["device"] for each in sets] == ["L4", "H100-SXM"]
    assert sets[0]["usd_per_hour"] < sets[1]["usd_per_hour"]
    assert run(asked) == 0
    assert "1 x L4" in capsys.readouterr().out
    assert run([*asked, "--device", "Frobnicator-9000"]) == 2
    assert "--device" in capsys.readouterr().err


def test_what_owning_costs_is_not_passed_off_as_rent(capsys):
    """A device nobody rents out is priced by what it costs to own, and marked; one that has a rent is not."""
    asked = [
        "size",
        "--model",
        "meta-llama/Llama-3.1-8B-Instruct",
        *TRAFFIC,
        "--analytic",
        "--ttft-ms",
        "500",
        "--device",
    ]
    assert run([*asked, "Gaudi3-PCIe"]) == 0
    assert "no rent is known" in capsys.readouterr().out
    assert run([*asked, "L4"]) == 0
    assert "no rent is known" not in capsys.readouterr().out
    assert run([*asked, "Gaudi3-PCIe", "--json"]) == 0
    assert (
        "no common rental" in json.loads(capsys.readouterr().out)["sets"][0]["usd_per_hour_source"]
    )
