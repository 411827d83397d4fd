"""Production traces read row by row: Azure's CSV, Mooncake's JSON lines, and our own CSV.

=========  ==========================================================================
Azure      ``TIMESTAMP, ContextTokens, GeneratedTokens``: ISO times (AzurePublicDataset)
Mooncake   ``timestamp`` (ms), ``input_length, output_length, hash_ids``: one id for
           each 512 tokens of the prompt and all before them (kvcache-ai/Mooncake)
our own    ``send_s, prompt_tokens, output_tokens``, in any order of columns
=========  ==========================================================================
"""

from __future__ import annotations

import csv
import json
from array import array
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TextIO, TypeVar

import numpy as np

from budsim.commons.errors import InvalidInput
from budsim.commons.units import MILLI
from budsim.performance.lengths import EmpiricalLength
from budsim.performance.limits import MOST_REQUESTS, MOST_TOKENS
from budsim.performance.recorded import Trace
from budsim.performance.traffic import Traffic

AZURE = ("TIMESTAMP", "ContextTokens", "GeneratedTokens")
OWN = ("send_s", "prompt_tokens", "output_tokens")
# Tokens of the prompt behind one hash (Mooncake's trace README).
MOONCAKE_BLOCK_TOKENS = 512
# Rows whose problem is kept in words; others are only counted.
MOST_PROBLEMS = 100
# Lengths kept of a trace as its law; a trace itself is replayed whole.
LAW_VALUES = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class RowProblem:
    """Why a row was left out; ``line`` counts from 1, the header included."""

    line: int
    reason: str

    def __str__(self) -> str:
        """Say it as one line."""
        return f"line {self.line}: {self.reason}"


@dataclass(frozen=True, slots=True, kw_only=True)
class TraceFile:
    """A trace as read: its requests, the first `MOST_PROBLEMS` problems, and counts of rows."""

    trace: Trace
    problems: tuple[RowProblem, ...]
    rows: int
    left_out: int

    def traffic(self) -> Traffic:
        """Return the trace as traffic, with the lengths seen as its laws."""
        kept = slice(None, None, max(len(self.trace) // LAW_VALUES, 1))
        prompts, outputs = self.trace.prompt_tokens[kept], self.trace.output_tokens[kept]
        return Traffic(
            arrivals=self.trace,
            prompt=EmpiricalLength(values=tuple(prompts.tolist())),
            output=EmpiricalLength(values=tuple(outputs.tolist())),
        )


def read_trace(file: str | Path, longest_tokens: int = MOST_TOKENS) -> TraceFile:
    """Read a trace from a file, one row at a time.

    Rows that are not requests, go back in time, or need more than ``longest_tokens`` for prompt
    and output are left out, with a reason.

    Raises
    ------
    InvalidInput
        When the file cannot be read, is of no known format, or has no usable row.
    """
    reading, path = _Reading(longest_tokens), Path(file)
    try:
        with path.open(encoding="utf-8-sig", errors="replace", newline="") as lines:
            for line, row in _rows(path, lines):
                reading.take(line, row)
    except (OSError, csv.Error) as error:
        raise InvalidInput("trace", f"{path.name} cannot be read", "a readable file") from error
    if not reading.times:
        why = f": {reading.problems[0]}" if reading.problems else ""
        raise InvalidInput("trace", f"{path.name} has no usable row{why}", "at least one request")
    return TraceFile(
        trace=reading.trace(),
        problems=tuple(reading.problems),
        rows=reading.rows,
        left_out=reading.rows - len(reading.times),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Row:
    """A request of a trace; ``blocks`` are hashes of its prompt's beginnings."""

    at_s: float
    prompt: int
    output: int
    blocks: Sequence[int] = ()


@dataclass(slots=True)
class _Reading:
    """Requests read so far, in arrays that grow; about 40 bytes a row."""

    longest: int
    rows: int = 0
    problems: list[RowProblem] = field(default_factory=list)
    times: array[float] = field(default_factory=lambda: array("d"))
    prompts: array[int] = field(default_factory=lambda: array("q"))
    outputs: array[int] = field(default_factory=lambda: array("q"))
    sources: array[int] = field(default_factory=lambda: array("q"))
    reused: array[int] = field(default_factory=lambda: array("q"))
    holders: dict[int, int] = field(default_factory=dict)

    def take(self, line: int, row: _Row | str) -> None:
        """Add a row, or the reason why it is none."""
        self.rows += 1
        reason = row if isinstance(row, str) else self._wrong(row)
        if reason:
            if len(self.problems) < MOST_PROBLEMS:
                self.problems.append(RowProblem(line=line, reason=reason))
        elif isinstance(row, _Row):
            self._add(row)

    def _wrong(self, row: _Row) -> str:
        if not np.isfinite(row.at_s):
            return "its time is not finite"
        if row.prompt < 1 or row.output < 0:
            return f"{row.prompt} prompt and {row.output} output tokens; expected 1 or more, and 0"
        if row.prompt + row.output > self.longest:
            return f"{row.prompt + row.output} tokens; at most {self.longest} fit"
        if self.times and row.at_s < self.times[-1]:
            return "it was sent before the row above; expected ascending times"
        if len(self.times) >= MOST_REQUESTS:
            return f"a trace may have {MOST_REQUESTS:,} requests"
        return ""

    def _add(self, row: _Row) -> None:
        source, blocks = -1, 0
        for count, block in enumerate(row.blocks, start=1):
            if block not in self.holders:
                break
            source, blocks = self.holders[block], count
        for block in row.blocks:
            self.holders[block] = len(self.times)
        self.sources.append(source)
        self.reused.append(min(blocks * MOONCAKE_BLOCK_TOKENS, row.prompt))
        self.times.append(row.at_s)
        self.prompts.append(row.prompt)
        self.outputs.append(row.output)

    def trace(self) -> Trace:
        """Return what was read."""
        return Trace(
            send_s=np.array(self.times) - self.times[0],
            prompt_tokens=np.array(self.prompts, dtype=np.int64),
            output_tokens=np.array(self.outputs, dtype=np.int64),
            reused_from=np.array(self.sources, dtype=np.int64),
            reused_tokens=np.array(self.reused, dtype=np.int64),
        )


def _rows(path: Path, file: TextIO) -> Iterator[tuple[int, _Row | str]]:
    """Yield each row with its line, as a request or as the reason why it is none."""
    start = file.read(1)
    file.seek(0)
    if start in ("{", "["):
        for line, text in enumerate(file, start=1):
            if text.strip():
                yield line, _parsed(_mooncake, text)
        return
    reader = csv.DictReader(file, skipinitialspace=True)
    header = set(reader.fieldnames or ())
    known = next((parse for names, parse in _CSV.items() if header.issuperset(names)), None)
    if known is None:
        expected = f"columns {', '.join(OWN)}, Azure's CSV or Mooncake's JSON lines"
        raise InvalidInput("trace", f"{path.name} is of no known format", expected)
    for record in reader:
        yield reader.line_num, _parsed(known, record)


Text = TypeVar("Text")


# What the readers of single rows raise; a row may be nested too deeply for JSON.
_UNREADABLE = (ValueError, TypeError, KeyError, OverflowError, AttributeError, RecursionError)


def _parsed(parse: Callable[[Text], _Row], text: Text) -> _Row | str:
    try:
        return parse(text)
    except _UNREADABLE as error:
        return f"not readable ({type(error).__name__}: {str(error)[:80]})"


def _mooncake(text: str) -> _Row:
    record = json.loads(text)
    return _Row(
        at_s=float(record["timestamp"]) * MILLI,
        prompt=int(record["input_length"]),
        output=int(record["output_length"]),
        blocks=[int(each) for each in record.get("hash_ids", ())],
    )


def _azure(record: Mapping[str, str]) -> _Row:
    sent = datetime.fromisoformat(record["TIMESTAMP"].strip()[:26])
    at_s = (sent.replace(tzinfo=None) - _EPOCH).total_seconds()
    prompt, output = int(record["ContextTokens"]), int(record["GeneratedTokens"])
    return _Row(at_s=at_s, prompt=prompt, output=output)


def _own(record: Mapping[str, str]) -> _Row:
    at_s, prompt, output = (float(record[name]) for name in OWN)
    return _Row(at_s=at_s, prompt=int(prompt), output=int(output))


_EPOCH = datetime(2020, 1, 1)  # noqa: DTZ001 - Azure's times name no zone; only differences count
_CSV: Mapping[tuple[str, ...], Callable[[Mapping[str, str]], _Row]] = {AZURE: _azure, OWN: _own}
