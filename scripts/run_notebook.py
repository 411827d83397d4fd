"""Runs docs/notebook.ipynb from start to end; `--write` keeps its outputs in the file.

CI runs it without `--write`: a cell that fails ends with exit code 1 and its traceback.
"""

from __future__ import annotations

import sys
from pathlib import Path

import nbformat
from nbclient import NotebookClient

NOTEBOOK = Path(__file__).parent.parent / "docs/notebook.ipynb"
TIMEOUT_S = 300


def main() -> None:
    """Execute the notebook in its own folder."""
    document = nbformat.read(NOTEBOOK, as_version=4)
    client = NotebookClient(
        document,
        timeout=TIMEOUT_S,
        resources={"metadata": {"path": str(NOTEBOOK.parent)}},
    )
    client.execute()
    if "--write" in sys.argv[1:]:
        for cell in document.cells:
            cell.metadata.pop("execution", None)  # times of day differ each time
        nbformat.write(document, NOTEBOOK)
    print(f"{NOTEBOOK.name}: {len(document.cells)} cells run")


if __name__ == "__main__":
    main()
