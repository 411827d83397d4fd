"""Puts what `make demo` prints, shortened, into README.md: `python scripts/readme_demo.py`."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

README = Path(__file__).parent.parent / "README.md"
BLOCK = re.compile(r"(`make demo` prints \(shortened\):\n\n```\n).*?(```)", re.DOTALL)
PLANS_SHOWN = 2
COLUMNS = 120
LEFT_OUT = ("memory", "energy", "The server refuses", "If yours vary", "one more replica")


def main() -> None:
    """Run the demo and rewrite the block of README.md that quotes it."""
    makefile = (README.parent / "Makefile").read_text(encoding="utf-8")
    found = re.search(r"budsim (simulate --model meta-llama.*?(?:\\\n.*?)*)\n\n", makefile)
    assert found
    arguments = found.group(1).replace("\\\n", " ").split()
    command = [sys.executable, "-m", "budsim.cli", *arguments]
    ended = subprocess.run(command, capture_output=True, text=True, check=True, cwd=README.parent)
    text = README.read_text(encoding="utf-8")
    README.write_text(BLOCK.sub(lambda match: match[1] + shortened(ended.stdout) + match[2], text))


def shortened(output: str) -> str:
    """Return the first plans, how the best is started, and why; long lines end with three dots."""
    lines = [line.rstrip() for line in output.splitlines()]
    second_cut = next(n for n, line in enumerate(lines) if line.startswith(f" {PLANS_SHOWN + 1}. "))
    start = next(n for n, line in enumerate(lines) if line.startswith("best plan"))
    end = next(n for n, line in enumerate(lines) if line.startswith(" rejected"))
    rest = [line for line in lines[start:end] if not line.startswith(LEFT_OUT)]
    kept = [*lines[:second_cut], " ...", "", *rest]
    cut = (line if len(line) <= COLUMNS else line[: COLUMNS - 4] + " ..." for line in kept)
    return re.sub(r"\n{3,}", "\n\n", "\n".join(cut)).rstrip() + "\n"


if __name__ == "__main__":
    main()
