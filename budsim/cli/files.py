"""Files that commands read and write, with errors that name the option."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from budsim.commons.errors import InvalidInput, NotFound

if TYPE_CHECKING:
    from budsim.hardware_ops.cluster import Cluster


def read_clusters(path: Path, option: str = "--cluster") -> tuple[Cluster, ...]:
    """Return the clusters of an inventory file.

    Raises
    ------
    typer.BadParameter
        There is no such file, or it holds no inventory.
    """
    from budsim.hardware_ops.cluster_file import read_cluster_file

    if not path.is_file():
        raise typer.BadParameter(
            f"{str(path)!r} is not a file; an inventory JSON or the short YAML is needed.",
            param_hint=f"'{option}'",
        )
    try:
        return read_cluster_file(path)
    except (InvalidInput, NotFound) as error:
        raise typer.BadParameter(str(error), param_hint=f"'{option}'") from error


def read_plan(path: Path) -> str:
    """Return the text of a plan; ``-`` stands for stdin.

    Raises
    ------
    InvalidInput
        The file cannot be read.
    """
    try:
        return sys.stdin.read() if str(path) == "-" else path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        raise InvalidInput(
            "PLAN",
            f"{path.name} cannot be read ({reason})",
            "a file that `budsim simulate --json` wrote",
        ) from error


@contextmanager
def writing(output: Path, option: str = "--output") -> Iterator[None]:
    """Turn a failure to write ``output`` into an error that names the option."""
    try:
        yield
    except OSError as error:
        raise InvalidInput(
            option, f"{output.name} cannot be written ({error.strerror})", "a writable file"
        ) from error


def measurement_folders(given: list[Path] | None) -> list[Path]:
    """Return the files and folders given, or the folder of the environment's BUDSIM_DATA."""
    # Checkouts of the project are kept beside a folder of measurements that is not published.
    return given or [Path(os.environ.get("BUDSIM_DATA", "../shared/data"))]
