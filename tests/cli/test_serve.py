"""`budsim serve` checks its options before it listens."""

from budsim.cli import run


def test_serve_checks_its_inventory(capsys, tmp_path):
    """`budsim serve` with a missing inventory ends before it listens."""
    assert run(["serve", "--inventory", str(tmp_path / "none.json")]) == 2
    assert "--inventory" in capsys.readouterr().err
