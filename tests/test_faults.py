"""The table of faults names tests that exist."""

import re
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[1]
NAMED = re.findall(
    r"`(tests/[\w/]+\.py)::(\w+)`", (REPOSITORY / "docs" / "faults.md").read_text(encoding="utf-8")
)


def test_every_row_names_a_test():
    """The table is not empty, and no row goes without."""
    text = (REPOSITORY / "docs" / "faults.md").read_text(encoding="utf-8")
    rows = [line for line in text.splitlines() if line.startswith("|") and "---" not in line]
    faults = [row for row in rows if not row.startswith("| fault ")]
    assert len(faults) >= 20
    assert all("::" in row for row in faults)


@pytest.mark.parametrize(("file", "name"), sorted(set(NAMED)))
def test_a_test_of_the_table_exists(file: str, name: str):
    """Renaming a test renames it there."""
    source = (REPOSITORY / file).read_text(encoding="utf-8")
    assert re.search(rf"^(async )?def {name}\(", source, flags=re.M)
