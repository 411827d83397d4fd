"""Mistakes on the command line end with one line that names the option."""

import subprocess
import sys
from pathlib import Path

import pytest

from budsim.cli import run


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
        (["--rate", "3"], "--rate"),
        (["--trace", "none.csv"], "--concurrency"),
        (["--lengths", "short"], "--lengths"),
        (["--prefix-hits", "2"], "--prefix-hits"),
        (["--max-input-tokens", "5"], "--max-input-tokens"),
        (["--ttft-p99-ms", "-1"], "--ttft-p99-ms"),
        (["--ttft-p95-ms", "500", "--ttft-p99-ms", "100"], "--ttft-p95-ms"),
        (["--goodput", "0.9"], "--goodput"),
        (["--goodput", "2", "--ttft-ms", "100"], "--goodput"),
        (["--no-such-option"], "--no-such-option"),
    ],
)
def test_mistakes_are_one_line_that_names_the_option(simulate, capsys, extra, named):
    """Bad input ends with exit code 2, no answer, and one line on stderr naming the option."""
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


def test_without_machines_the_question_is_another_one(load, capsys):
    """`budsim simulate` without a cluster points to `budsim size`."""
    assert run(["simulate", *load]) == 2
    assert "budsim size" in capsys.readouterr().err


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


def test_help_imports_nothing_heavy():
    """The commands load neither numpy nor the search nor the service before one of them runs."""
    code = (
        "import sys, budsim.cli.app; "
        "heavy = {'numpy', 'deap', 'xgboost', 'fastapi', 'pandas', 'rich'}; "
        "print(sorted(heavy & set(sys.modules)))"
    )
    found = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parents[2],
    )
    assert found.stdout.strip() == "[]"
