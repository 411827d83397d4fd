"""`import budsim`: light, complete, documented."""

import inspect
import subprocess
import sys

import pytest

import budsim


def test_the_import_loads_nothing():
    """`import budsim` loads neither numpy nor any room; a name loads its own when first used."""
    code = (
        "import sys, budsim; before = {'numpy', 'budsim.api.questions'} & set(sys.modules); "
        "budsim.simulate; print(sorted(before), 'budsim.api.questions' in sys.modules)"
    )
    command = [sys.executable, "-c", code]
    found = subprocess.run(command, capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[] True"


@pytest.mark.parametrize("name", budsim.__all__)
def test_public_names_exist_and_are_documented(name):
    """Each name of `__all__` can be imported, is listed by `dir`, and has a docstring."""
    assert name in dir(budsim)
    assert inspect.getdoc(getattr(budsim, name))


def test_unknown_names_are_refused():
    """A typing error is an AttributeError, as of any module."""
    with pytest.raises(AttributeError, match="simulat"):
        _ = budsim.simulat
