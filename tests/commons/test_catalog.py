"""Shipped catalogs: read as lists of entries, and refused with the file and the entry named."""

import sys
from pathlib import Path

import pytest

from budsim.commons.catalog import load_catalog
from budsim.commons.errors import CatalogError


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the folder of an importable package named ``shipped``."""
    folder = tmp_path / "shipped"
    folder.mkdir()
    (folder / "__init__.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "shipped", raising=False)
    return folder


@pytest.mark.parametrize(("name", "text"), [("a.json", '[{"name": "x"}]'), ("a.yaml", "- name: x")])
def test_json_and_yaml_read_alike(package: Path, name: str, text: str) -> None:
    """The suffix says how, the entries are the same."""
    (package / name).write_text(text)
    assert load_catalog("shipped", name) == [{"name": "x"}]


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("a.json", "[", "shipped/a.json: not JSON"),
        ("a.yaml", "[", "shipped/a.yaml: not YAML"),
        ("a.json", "{}", "shipped/a.json: the file holds dict"),
        ("a.json", '[{}, "x"]', r"shipped/a.json\[1\]"),
        ("a.yaml", "- {1: x}", r"shipped/a.yaml\[0\]"),
        ("a.txt", "", "ends in .json or .yaml"),
    ],
)
def test_a_broken_catalog_names_file_and_entry(
    package: Path, name: str, text: str, said: str
) -> None:
    """A bug of ours is found at once."""
    (package / name).write_text(text)
    with pytest.raises(CatalogError, match=said):
        load_catalog("shipped", name)


@pytest.mark.parametrize(
    ("owner", "name"), [("shipped", "none.json"), ("no_such_package", "a.json")]
)
def test_a_missing_catalog_is_named(package: Path, owner: str, name: str) -> None:
    """Neither file nor package may be missing silently."""
    with pytest.raises(CatalogError, match=f"{owner}/{name}: cannot be read"):
        load_catalog(owner, name)
