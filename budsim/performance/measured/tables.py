"""CSV files as tables of text, in parts, without exact copies."""

from __future__ import annotations

import csv
import hashlib
import io
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path

import pandas as pd

from budsim.commons.errors import InvalidInput

# Column of a table as read with the reason why a line of the file is no row.
UNREADABLE = "unreadable"

# Rows of a file held in memory at a time.
PART_ROWS = 20_000


def read_tables(paths: Sequence[Path]) -> pd.DataFrame:
    """Read CSV files, or all CSV files of folders, into one table of text.

    Raises
    ------
    InvalidInput
        When there is no file, or one is not a CSV table with a header.
    """
    return pd.concat(
        [part for file in csv_files(paths) for part, _ in read_parts(file)], ignore_index=True
    ).fillna("")


def csv_files(paths: Sequence[Path]) -> list[Path]:
    """Return the files, and those of the folders whose name ends in .csv.

    Raises
    ------
    InvalidInput
        When there is none.
    """
    files = [
        file for path in paths for file in (sorted(path.glob("*.csv")) if path.is_dir() else [path])
    ]
    if not files:
        raise InvalidInput(
            "data", f"no CSV file in {', '.join(map(str, paths))}", "a CSV file or a folder of them"
        )
    return files


def read_parts(file: Path, rows: int = PART_ROWS) -> Iterator[tuple[pd.DataFrame, float]]:
    """Yield a CSV file as tables of text, each with the share of the file read so far.

    A row with more fields than the header has a reason in the column `UNREADABLE`; one with fewer
    is blank in the others. A table has ``rows`` rows at most.

    Raises
    ------
    InvalidInput
        When the file cannot be read or is not a CSV table with a header.
    """
    try:
        with file.open("rb") as raw:
            size = max(raw.seek(0, io.SEEK_END), 1)
            raw.seek(0)
            reader = csv.reader(
                io.TextIOWrapper(raw, "utf-8-sig", errors="replace", newline=""),
                skipinitialspace=True,
            )
            header = next(reader, [])
            # A file that is no text is read as one header of unknown signs, and as no row.
            binary = any("\0" in name for name in header)
            if binary or not header or len(set(header)) < len(header):
                raise InvalidInput(
                    "data",
                    f"{file.name} has no header of distinct columns",
                    "that of measurements.csv",
                )
            filled = filter(None, reader)
            yield _part(header, islice(filled, rows)), raw.tell() / size
            while len(part := _part(header, islice(filled, rows))):
                yield part, raw.tell() / size
    except FileNotFoundError as error:
        raise InvalidInput("data", f"{file.name} does not exist", "a readable CSV file") from error
    except (csv.Error, OSError) as error:
        raise InvalidInput(
            "data", f"{file.name} is not a CSV table", "a header line and rows of as many columns"
        ) from error


def without_repeats(table: pd.DataFrame, seen: set[int]) -> tuple[pd.DataFrame, list[str]]:
    """Return the rows not ``seen`` before, and a reason for every exact copy left out.

    Copies are no further evidence. ``seen`` holds hashes of rows; those of new ones are added.
    """
    hashes = pd.util.hash_pandas_object(table, index=False)
    repeated = hashes.duplicated() | hashes.isin(seen)
    seen.update(hashes.tolist())
    reason = "row: is an exact copy of an earlier one"
    return table[~repeated].reset_index(drop=True), [reason] * int(repeated.sum())


def _part(header: list[str], rows: Iterable[list[str]]) -> pd.DataFrame:
    width = len(header)
    found = list(rows)
    table = pd.DataFrame(
        [[*row[:width], *[""] * (width - len(row))] for row in found], columns=header, dtype=object
    )
    if any(len(row) > width for row in found):
        table[UNREADABLE] = [
            f"row: has {len(r)} fields; expected {width}, as the header" if len(r) > width else ""
            for r in found
        ]
    return table


def table_digest(table: pd.DataFrame) -> str:
    """Return the SHA-256 of a table, which says what rows models and records were made on."""
    return hashlib.sha256(table.to_csv(index=False).encode()).hexdigest()
