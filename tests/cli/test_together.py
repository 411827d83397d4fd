"""`budsim together` reads models from a file and answers one plan for each."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from budsim.cli import run

ONE = """
- model: meta-llama/Llama-3.1-8B-Instruct
  concurrency: 8
  input_tokens: 512
  output_tokens: 128
  target_throughput_per_user: 15
"""


@pytest.fixture
def ask(tmp_path: Path, cluster: str):
    """Return a function that asks about the models of a text."""

    def asked(text: str, *options: str) -> int:
        file = tmp_path / "models.yaml"
        file.write_text(text)
        return run(["together", str(file), "--cluster", cluster, "--analytic", *options])

    return asked


def test_each_model_gets_a_plan(ask, capsys):
    """Two equal models are both served, and one more node of the kind is told."""
    assert ask(ONE + ONE, "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert told["served"] == 2
    assert [len(each["configurations"]) for each in told["models"]] == [1, 1]
    assert [each["node"] for each in told["one_more_node"]] == ["gpu-0"]


def test_the_terminal_names_models_and_cost(ask, capsys):
    """Each model stands in a line with its devices and cost."""
    assert ask(ONE) == 0
    told = capsys.readouterr().out
    assert "1 of 1 models are served" in told
    assert "Llama-3.1-8B-Instruct: 1 x H100-SXM" in told
    assert "with a chance of >99%" in " ".join(told.split())
    assert "one more node of any kind would change nothing" in told


def test_a_model_without_targets_is_not_said_to_meet_them(ask, capsys):
    """Whatever is served then, nothing was promised."""
    assert ask(ONE.replace("  target_throughput_per_user: 15\n", "")) == 0
    assert "no targets" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("", "1 to 20 models"),
        ("model: x", "1 to 20 models"),
        ("- {model: x}", "questions[0].input_tokens"),
        (ONE + "  colour: red", "questions[0].colour"),
        (ONE + "  request_rate: 3", "questions[0]"),
        (ONE + ONE.replace("meta-llama/Llama-3.1-8B-Instruct", "no/such"), "questions[1].model"),
        (ONE.replace("concurrency: 8", "concurrency: 0"), "questions[0].concurrency"),
        ("- [1, 2", "not YAML"),
        ("[" * 5000, "YAML"),
        (ONE + "  input_tokens: 7", "'input_tokens' twice"),
        ("- {model: x, output_tokens: 1}", "input_tokens: is missing; expected a value"),
        ("- 3", "questions[0]: is no mapping; expected a list of models"),
        (ONE + "  colour: red", "is no field of a model; expected one of"),
        (ONE + "  kv_offload_gib: -1", "questions[0].kv_offload_gib: is -1"),
        (ONE + "  engines: [foo]", "questions[0].engines: 'foo'"),
        (ONE + "  target_ttft: 1.0e-300", "is 1e-300; expected 0 (no target) or"),
        (ONE.replace("concurrency: 8", "concurrency: -1"), "is -1; expected greater than or equal"),
        (ONE.replace("meta-llama/Llama-3.1-8B-Instruct", "'a b'"), "questions[0].model"),
    ],
)
def test_a_wrong_file_is_refused_in_one_line(ask, capsys, text, named):
    """The message names the model by its number, and the field."""
    assert ask(text) == 2
    told = capsys.readouterr().err
    assert named in told
    assert told.count("\n") == 1


def test_a_missing_file_is_refused(capsys, cluster):
    """The message names the file."""
    assert run(["together", "none.yaml", "--cluster", cluster]) == 2
    assert "none.yaml" in capsys.readouterr().err
