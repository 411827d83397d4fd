"""How far a command has come, on stderr: a bar on a terminal, one line elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.progress import TaskID


@contextmanager
def progress(what: str = "searching") -> Iterator[Callable[[float], None]]:
    """Yield a function that takes the share done (0..1) and shows it."""
    if not sys.stderr.isatty():
        with _one_line(what) as tell:
            yield tell
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(what, total=1.0)
        yield lambda share: bar.update(task, completed=share)


@contextmanager
def _one_line(what: str) -> Iterator[Callable[[float], None]]:
    """Yield a function that adds each quarter reached to one line."""
    told: set[int] = set()

    def tell(share: float) -> None:
        """Add a quarter when it is reached."""
        quarter = int(4 * share)
        if quarter not in told:
            sys.stderr.write(f"{'' if told else what + ':'} {25 * quarter} %")
            sys.stderr.flush()
            told.add(quarter)

    try:
        yield tell
    finally:
        # Also after an error: its message must start on a line of its own.
        if told:
            sys.stderr.write("\n")


@contextmanager
def steps() -> Iterator[Callable[[str], None]]:
    """Yield a function that names each step as it begins; a terminal shows a clock beside it."""
    if not sys.stderr.isatty():
        yield _write_line
        return
    from rich.console import Console
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True)) as bar:
        running: list[TaskID] = []

        def step(text: str) -> None:
            """Stop the clock of the last step and start that of this one."""
            for task in running:
                bar.update(task, total=1.0, completed=1.0)
            running[:] = [bar.add_task(text, total=None)]

        yield step
        for task in running:
            bar.update(task, total=1.0, completed=1.0)


def _write_line(text: str) -> None:
    sys.stderr.write(text + "\n")
    sys.stderr.flush()
