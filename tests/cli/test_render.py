"""`budsim render` reads plans from files and pipes."""

import io
import json

import pytest

from budsim.cli import run


def test_a_plan_is_rendered_from_a_file_or_a_pipe(simulate, capsys, tmp_path, monkeypatch):
    """`budsim render` reads the output of `simulate --json` from a file or stdin."""
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
        (["PLAN", "--format", "kserve", "--timezone", "Mars/Base"], "--timezone"),
        (["PLAN", "--format", "kserve", "--timezone", ""], "--timezone"),
        (["PLAN", "--format", "kserve", "--prometheus", "not a url"], "--prometheus"),
        (["PLAN", "--format", "kserve", "--prometheus", ""], "--prometheus"),
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
