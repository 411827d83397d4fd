"""`budsim devices`, `models` and `engines` list the catalogs."""

import pytest

from budsim.cli import run


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
