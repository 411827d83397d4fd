"""README, docs and the pages that are generated from the code."""

import json
import re
from pathlib import Path

import pytest
import yaml

from budsim import __version__
from budsim.main import create_app

ROOT = Path(__file__).parents[1]
DOCUMENTS = [
    *(ROOT / name for name in ("README.md", "CHANGELOG.md", "CONTRIBUTING.md")),
    *sorted((ROOT / "docs").rglob("*.md")),
]


def test_the_readme_is_short():
    """A stranger reads at most 900 words before the first command of their own."""
    assert len((ROOT / "README.md").read_text(encoding="utf-8").split()) <= 900


def test_every_wire_field_has_a_meaning():
    """The table of HTTP fields has no empty line, and explains no field that is gone."""
    meanings = yaml.safe_load((ROOT / "scripts/field_meanings.yaml").read_text(encoding="utf-8"))
    schemas = create_app().openapi()["components"]["schemas"].values()
    fields = [each for schema in schemas for each in schema.get("properties", {}).items()]
    bare = {name for name, facts in fields if not facts.get("description")}
    assert sorted(bare - meanings.keys()) == []
    assert sorted(meanings.keys() - {name for name, _ in fields}) == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_documents_point_at_what_is_there(document):
    """Links of README and docs lead to files of the project; generated pages are mkdocs' matter."""
    text = re.sub(r"```.*?```", "", document.read_text(encoding="utf-8"), flags=re.DOTALL)
    for target in re.findall(r"\]\(([^)#\s]+)", text):
        if "://" in target or "reference/" in target or target in {"changelog.md", "fields.md"}:
            continue
        assert (document.parent / target).exists(), target


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_documents_name_no_file_a_stranger_lacks(document):
    """Nothing outside the project is referred to."""
    text = document.read_text(encoding="utf-8")
    assert not re.search(r"shared/|performance-model|design\.md|style\.md|contract\.md", text)


def test_the_notebook_is_committed_with_its_outputs():
    """Readers on the web see what each cell prints; `make notebook` proves that cells run."""
    document = json.loads((ROOT / "docs/notebook.ipynb").read_text(encoding="utf-8"))
    cells = [cell for cell in document["cells"] if cell["cell_type"] == "code"]
    assert all(cell["outputs"] for cell in cells)


def test_the_changelog_knows_this_version():
    """The version of the package is the newest one of the changelog, which groups its lines."""
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    versions = re.findall(r"^## (\S+)", text, flags=re.MULTILINE)
    assert versions[0] == __version__
    groups = set(re.findall(r"^### (\S+)", text, flags=re.MULTILINE))
    assert groups <= {"Added", "Changed", "Fixed", "Removed"}
