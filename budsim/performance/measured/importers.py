"""Result files of benchmark programs as rows in the columns of ``measurements.csv``.

The programs are `vllm bench serve`, `sglang.bench_serving`, GuideLLM, AIPerf, InferenceX,
`llama-bench` and `llama-batched-bench`, and a server's own metrics; each has a module that says
which fields it writes.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import pandas as pd

from budsim.commons.errors import InvalidInput
from budsim.engine_ops.profiles import profile_for, profiles
from budsim.hardware_ops.device import DeviceKind
from budsim.hardware_ops.device_names import find_device
from budsim.performance.measured.aiperf import (
    CSV_HEADER,
    aiperf_row,
    is_aiperf,
    read_csv_export,
)
from budsim.performance.measured.guidellm import guidellm_row
from budsim.performance.measured.inferencex import inferencex_row
from budsim.performance.measured.llama_bench import (
    batched_row,
    is_batched,
    is_single,
    single_row,
    tables_in,
)
from budsim.performance.measured.measurements import read_measurements
from budsim.performance.measured.result_fields import Record, Row, as_text
from budsim.performance.measured.server_metrics import (
    Window,
    is_scrape,
    metrics_row,
    read_scrape,
)
from budsim.performance.measured.sglang_bench import sglang_row
from budsim.performance.measured.vllm_bench import vllm_row

# Those of ``measurements.csv``, in its order.
COLUMNS = (
    "source license device_type device_name n_devices tp pp ep dp engine engine_version model "
    "precision kv_cache_dtype input_tokens output_tokens concurrency request_rate mode "
    "ttft_ms_mean ttft_ms_p50 ttft_ms_p90 ttft_ms_p99 tpot_ms_mean tpot_ms_p50 tpot_ms_p99 itl_ms "
    "e2e_latency_ms e2e_ms_p50 e2e_ms_p99 output_tokens_per_s_total output_tok_per_s_per_user "
    "requests_per_s n_requests date quality model_hf notes"
).split()

# Written where a row has them: what its client sent.
OPTIONAL_COLUMNS = ("arrival", "length_law", "prefix_hit_share", "cores")

# Larger files are refused: they would not fit into memory.
LARGEST_FILE_BYTES = 2_000_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    """What a result file does not say of the deployment; blank where not given.

    ``dp`` counts data ranks beside the tensor ranks, as vLLM does; ``attn_dp`` attention ranks
    among the tensor ranks. ``cores`` are those of one process on a processor.

    ``device`` and ``model`` win over the file's names, which may be aliases. Any other
    contradiction is an error of that row.
    """

    source: str = ""
    device: str = ""
    model: str = ""
    engine: str = ""
    engine_version: str = ""
    precision: str = ""
    kv_cache_dtype: str = ""
    tp: int | None = None
    pp: int | None = None
    ep: int | None = None
    dp: int | None = None
    attn_dp: int | None = None
    devices: int | None = None
    cores: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Imported:
    """Rows in `COLUMNS`, as text, and for each benchmark without a row its place and the reason."""

    rows: pd.DataFrame
    problems: Sequence[str]


def import_results(paths: Sequence[Path], setup: Setup) -> Imported:
    """Read result files of any of the programs.

    A benchmark that cannot become a row says why and stops no other.

    Raises
    ------
    InvalidInput
        When a file does not exist.
    """
    return import_records((found for path in paths for found in _records(path)), setup)


def import_records(records: Iterable[tuple[str, object]], setup: Setup) -> Imported:
    """Turn benchmarks, each with the place it was read at, into rows."""
    rows, places, problems = [], [], []
    for place, record in records:
        try:
            rows.append(_row(record, setup))
            places.append(place)
        except InvalidInput as error:
            told = str(error).removeprefix("file: ")
            problems.append(f"{place}: {told}")
    columns = [*COLUMNS, *(name for name in OPTIONAL_COLUMNS if any(row.get(name) for row in rows))]
    table = pd.DataFrame(
        [{name: as_text(row.get(name)) for name in columns} for row in rows],
        columns=columns,
        dtype=str,
    )
    reasons = read_measurements(table).problems if rows else []
    problems += [
        f"{place}: {reason}" for place, reason in zip(places, reasons, strict=True) if reason
    ]
    return Imported(
        rows=table[[not reason for reason in reasons]].reset_index(drop=True), problems=problems
    )


def _records(path: Path) -> Iterator[tuple[str, object]]:
    """Yield every benchmark of a file with its place; an unreadable one is yielded as an error."""
    for line, document in _documents(path):
        name = path.name + (f" line {line}" if line else "")
        many = document.get("benchmarks") if isinstance(document, dict) else document
        if isinstance(many, list):
            for number, record in enumerate(many, start=1):
                yield f"{name} benchmark {number}", _within(record, document)
        else:
            yield name, document


def _within(record: object, document: object) -> object:
    """Return a benchmark together with the report it is from."""
    return (
        {**record, "report": document}
        if isinstance(record, dict) and isinstance(document, dict)
        else record
    )


def _documents(path: Path) -> Iterator[tuple[int, object]]:
    """Yield the JSON of a file, or of each numbered line where it holds one object a line."""
    try:
        if path.stat().st_size > LARGEST_FILE_BYTES:
            raise InvalidInput(
                "file", f"{path.name} is larger than {LARGEST_FILE_BYTES:g} bytes", "a result file"
            )
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInput("file", f"{path.name} cannot be read", "a JSON file") from error
    try:
        yield 0, json.loads(text)
    except (ValueError, RecursionError) as error:
        reason = InvalidInput(
            "file", f"is not JSON ({error})"[:200], "a result file as it was written"
        )
        lines = [(n, line) for n, line in enumerate(text.splitlines(), start=1) if line.strip()]
        if len(lines) > 1 and lines[0][1].lstrip().startswith("{"):
            yield from _json_lines(lines)
        else:
            others = _other_documents(text, path) or [reason]
            yield from ((n if len(others) > 1 else 0, each) for n, each in enumerate(others, 1))


def _json_lines(lines: Sequence[tuple[int, str]]) -> Iterator[tuple[int, object]]:
    """Yield the object of each numbered line; an unreadable one is yielded as an error."""
    for number, line in lines:
        try:
            yield number, json.loads(line)
        except (ValueError, RecursionError) as error:
            yield number, InvalidInput("line", f"is not JSON ({error})"[:200], "one object a line")


def _other_documents(text: str, path: Path) -> list[object]:
    """Return the benchmarks of a text that is not JSON: a CSV, Markdown tables or metrics."""
    try:
        if text.startswith(f"{CSV_HEADER},"):
            return [read_csv_export(text)]
        if is_scrape(text):
            return [Window(after=read_scrape(text, at_s=path.stat().st_mtime))]
        return list(tables_in(text))
    except InvalidInput as error:
        return [error]


def _row(record: object, setup: Setup) -> Row:
    if isinstance(record, InvalidInput):
        raise record
    if isinstance(record, Window):
        return _complete(metrics_row(record), setup)
    if not isinstance(record, dict):
        raise InvalidInput(
            "file", f"holds {type(record).__name__} where a benchmark was expected", "a JSON object"
        )
    return _complete(_reader(record)(record), setup)


def _complete(row: Row, setup: Setup) -> Row:
    """Return a row with what the setup says of its deployment."""
    given = {field.name: getattr(setup, field.name) for field in fields(setup)}
    row |= {"quality": "A", "license": "own measurement", **_named(row, given)}
    for name in ("tp", "pp", "ep", "dp", "engine", "engine_version", "precision", "kv_cache_dtype"):
        row[name] = _agreed(name, row.get(name), given[name])
    for name in ("tp", "engine"):
        if not row[name]:
            raise _unsaid(name)
    row["engine"] = _engine_on(str(row["engine"]), DeviceKind(str(row["device_type"])))
    row["n_devices"] = _agreed("devices", row.get("n_devices"), given["devices"])
    if setup.attn_dp:
        row["dp"] = _agreed("attn_dp", row["dp"], setup.attn_dp)
    row["n_devices"] = row["n_devices"] or _devices_of_layout(row, setup)
    if setup.cores:
        _require_processor(row)
        row["cores"] = setup.cores
    return row


def _require_processor(row: Row) -> None:
    if row["device_type"] != DeviceKind.CPU.value:
        raise InvalidInput("cores", f"given for {row['device_name']}", "a processor as `device`")


def _devices_of_layout(row: Row, setup: Setup) -> int:
    """Return how many devices a row's layout takes; a degree it does not state counts as 1.

    TP 4 with ``dp`` 2 takes eight devices, with ``attn_dp`` 2 four.
    """
    degrees = ("tp", "pp") if setup.attn_dp else ("tp", "pp", "dp")
    return math.prod(int(str(row[name] or 1)) for name in degrees)


def _engine_on(name: str, kind: DeviceKind) -> str:
    """Return the measurements' name of an engine on this hardware: vLLM on CPUs is its own."""
    return profile_for(name, kind).name if name in profiles() else name


def _reader(record: Record) -> Callable[[Record], Row]:
    for belongs, reader in _READERS:
        if belongs(record):
            return reader
    raise InvalidInput(
        "file",
        "is of no known program",
        "results of text generation of vllm bench serve --save-result, sglang.bench_serving, "
        "GuideLLM, AIPerf, InferenceX, llama-bench or llama-batched-bench, or a server's /metrics",
    )


_READERS: Sequence[tuple[Callable[[Record], bool], Callable[[Record], Row]]] = (
    (lambda record: "metrics" in record, guidellm_row),
    (lambda record: "hw" in record and "conc" in record, inferencex_row),
    (is_aiperf, aiperf_row),
    (is_single, single_row),
    (is_batched, batched_row),
    (lambda record: "total_output_tokens_retokenized" in record, sglang_row),
    (lambda record: "completed" in record and "output_throughput" in record, vllm_row),
)


def _named(row: Row, given: Mapping[str, Any]) -> Row:
    """Return the names of device, model and source."""
    name = given["device"] or row.get("device_name")
    if not name:
        raise _unsaid("device")
    device = find_device(str(name))
    if device is None:
        expected = "`device` with a name of `budsim devices`"
        raise InvalidInput("device", f"{name!r} is not known", expected)
    model = given["model"] or row.get("model")
    if not model:
        raise _unsaid("model")
    return {
        "device_name": device.name,
        "device_type": device.kind.value,
        "model": row.get("model") or model,
        "model_hf": model,
        "source": given["source"] or row["source"],
    }


def _agreed(name: str, stated: object, given: object) -> object:
    """Return what file and setup say; both may say the same."""
    if given in (None, ""):
        return stated
    if stated not in (None, "") and str(stated) != str(given):
        problem = f"the file says {stated}, which contradicts {given}"
        raise InvalidInput(name, problem, f"`{name}` left out")
    return given


def _unsaid(name: str) -> InvalidInput:
    return InvalidInput(name, "the file does not say it", f"`{name}`")
