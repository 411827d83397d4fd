"""Result files of `vllm bench serve`, GuideLLM and InferenceX as rows in the columns of ``measurements.csv``.

What each program writes, as read in its source:

* vLLM ``vllm/benchmarks/serve.py`` (``--save-result``; ``--append-result`` writes one object a line): ``model_id``, ``date``,
  ``request_rate`` (a number or "inf"), ``max_concurrency``, ``completed``, ``failed``, ``total_input_tokens`` and
  ``total_output_tokens`` of completed requests, ``output_throughput`` (1/s), ``{mean,median,p90,p99}_{ttft,tpot,itl,e2el}_ms``.
* GuideLLM ``benchmark/schemas/{report,benchmark,metrics}.py`` (report version 2, 0.7): ``benchmarks[]`` with ``config.strategy``
  and ``metrics.<name>.successful.{mean,median,percentiles}``. Its ``time_per_output_token_ms`` counts the first token in; what
  the field calls TPOT is its ``inter_token_latency_ms``. ``request_latency`` is in seconds.
* InferenceX (formerly InferenceMAX) ``utils/process_result.py``: ``hw``, ``conc``, ``isl``, ``osl``, ``tp``, ``ep``,
  ``dp_attention``, ``framework``, ``precision``, ``output_tput_per_gpu`` (1/s) and ``{mean,median,p90,p99}_{ttft,tpot,itl,e2el}``
  in seconds. Lengths are nominal.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd

from budsim.commons.errors import InvalidInput
from budsim.commons.units import MILLI
from budsim.engine_ops.profiles import profile_for, profiles
from budsim.hardware_ops.device import DeviceKind
from budsim.hardware_ops.device_names import find_device
from budsim.performance.measured.measurements import NOMINAL_LENGTHS_NOTE, read_measurements

Record = Mapping[str, Any]
Row = dict[str, object]

COLUMNS = (
    "source license device_type device_name n_devices tp pp ep dp engine engine_version model precision kv_cache_dtype "
    "input_tokens output_tokens concurrency request_rate mode ttft_ms_mean ttft_ms_p50 ttft_ms_p90 ttft_ms_p99 tpot_ms_mean "
    "tpot_ms_p50 tpot_ms_p99 itl_ms e2e_latency_ms e2e_ms_p50 e2e_ms_p99 output_tokens_per_s_total output_tok_per_s_per_user "
    "requests_per_s n_requests date quality model_hf notes"
).split()
"""Those of ``measurements.csv``, in its order."""
LARGEST_FAILED_SHARE = 0.05
"""Past this share of failed requests the others were served by a machine in trouble: not a measurement of the configuration."""
KEPT_UP_SHARE = 0.9
"""An open loop that completes less than this share of its rate was held back, by its cap on concurrency or by saturation."""
LARGEST_FILE_BYTES = 2_000_000_000
FRAMEWORKS = {"trt": "trtllm", "dynamo-trt": "dynamo-trtllm"}
"""InferenceX's names of engines, where the measurements have another."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    """What a result file does not say of the deployment it measured; blank where not given.

    Where the file says it too, ``device`` and ``model`` win over the file's names (they may be aliases); any other contradiction
    is an error of that row.
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Imported:
    """Rows in `COLUMNS`, as text, and for every benchmark that became none its place and the reason."""

    rows: pd.DataFrame
    problems: Sequence[str]


def import_results(paths: Sequence[Path], setup: Setup) -> Imported:
    """Read result files of any of the three programs; a benchmark that cannot be a row says why and stops no other.

    Raises
    ------
    InvalidInput
        When a file does not exist.
    """
    rows, places, problems = [], [], []
    for path in paths:
        for place, record in _records(path):
            try:
                rows.append(_row(record, setup))
                places.append(place)
            except InvalidInput as error:
                problems.append(f"{place}: {error}")
    table = pd.DataFrame(
        [{name: _text(row.get(name)) for name in COLUMNS} for row in rows],
        columns=COLUMNS,
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
    """Yield every benchmark of a file with its place; what cannot be read is yielded as an error."""
    for line, document in _documents(path):
        name = path.name + (f" line {line}" if line else "")
        many = document.get("benchmarks") if isinstance(document, dict) else document
        if isinstance(many, list):
            for number, record in enumerate(many, start=1):
                yield f"{name} benchmark {number}", _within(record, document)
        else:
            yield name, document


def _within(record: object, document: object) -> object:
    """Return a benchmark that remembers the report it is from."""
    return (
        {**record, "report": document}
        if isinstance(record, dict) and isinstance(document, dict)
        else record
    )


def _documents(path: Path) -> Iterator[tuple[int, object]]:
    """Yield the JSON of a file, or of each of its lines (numbered) where it holds one object a line."""
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
        return
    except (ValueError, RecursionError) as error:
        whole: object = InvalidInput(
            "file", f"is not JSON ({error})"[:200], "a result file as it was written"
        )
    lines = [
        (number, line) for number, line in enumerate(text.splitlines(), start=1) if line.strip()
    ]
    if len(lines) < 2 or not lines[0][1].lstrip().startswith("{"):
        yield 0, whole
        return
    for number, line in lines:
        try:
            yield number, json.loads(line)
        except (ValueError, RecursionError) as error:
            yield number, InvalidInput("line", f"is not JSON ({error})"[:200], "one object a line")


def _row(record: object, setup: Setup) -> Row:
    if isinstance(record, InvalidInput):
        raise record
    if not isinstance(record, dict):
        raise InvalidInput(
            "file", f"holds {type(record).__name__} where a benchmark was expected", "a JSON object"
        )
    row = _reader(record)(record)
    given = {field.name: getattr(setup, field.name) for field in fields(setup)}
    row |= {"quality": "A", "license": "own measurement", **_named(row, given)}
    for name in ("tp", "pp", "ep", "dp", "engine", "engine_version", "precision", "kv_cache_dtype"):
        row[name] = _agreed(name, row.get(name), given[name])
    for name in ("tp", "engine"):
        if not row[name]:
            raise InvalidInput(name, "the file does not say it", f"the option --{name}")
    row["engine"] = _engine_on(str(row["engine"]), DeviceKind(str(row["device_type"])))
    row["n_devices"] = row.get("n_devices") or math.prod(
        int(str(row[name] or 1)) for name in ("tp", "pp", "dp")
    )
    return row


def _engine_on(name: str, kind: DeviceKind) -> str:
    """Return the name measurements give an engine on this hardware: vLLM on CPUs is an engine of its own."""
    return profile_for(name, kind).name if name in profiles() else name


def _reader(record: Record) -> Callable[[Record], Row]:
    if "metrics" in record:
        return _guidellm
    if "hw" in record and "conc" in record:
        return _inferencex
    if "completed" in record and "output_throughput" in record:
        return _vllm
    raise InvalidInput(
        "file",
        "is of no known program",
        "JSON of vllm bench serve --save-result, GuideLLM or InferenceX, of text generation",
    )


def _named(row: Row, given: Mapping[str, Any]) -> Row:
    """Return the names of device, model and source."""
    name = given["device"] or row.get("device_name")
    if not name:
        raise InvalidInput("device", "the file does not say it", "the option --device")
    device = find_device(str(name))
    if device is None:
        raise InvalidInput(
            "device",
            f"{name!r} is not known",
            "the option --device with a name of `budsim devices`",
        )
    model = given["model"] or row.get("model")
    if not model:
        raise InvalidInput("model", "the file does not say it", "the option --model")
    return {
        "device_name": device.name,
        "device_type": device.kind.value,
        "model": row.get("model") or model,
        "model_hf": model,
        "source": given["source"] or row["source"],
    }


def _agreed(name: str, stated: object, given: object) -> object:
    """Return what file and option say; both may, if it is the same."""
    if given in (None, ""):
        return stated
    if stated not in (None, "") and str(stated) != str(given):
        raise InvalidInput(
            name,
            f"the file says {stated}, the option says {given}",
            f"--{name.replace('_', '-')} left out",
        )
    return given


def _vllm(record: Record) -> Row:
    if "total_output_tokens" not in record:
        raise InvalidInput(
            "total_output_tokens",
            "is missing: this is no benchmark of text generation",
            "one of a chat model",
        )
    if record.get("ramp_up_strategy"):
        raise InvalidInput(
            "ramp_up_strategy", "the request rate changed while it was measured", "a constant rate"
        )
    completed, failed = _need(record, "completed"), _number(record, "failed") or 0.0
    notes = ["imported from vllm bench serve", *_failures(completed, failed)]
    if "spec_decode_acceptance_length" in record:
        notes.append(
            f"mtp or other drafts, {_number(record, 'spec_decode_acceptance_length')} tokens a step"
        )
    row: Row = {
        "source": "vllm-bench",
        "model": record.get("model_id"),
        "input_tokens": _need(record, "total_input_tokens") / completed,
        "output_tokens": _need(record, "total_output_tokens") / completed,
        "mode": "serving",
        "output_tokens_per_s_total": _need(record, "output_throughput"),
        "requests_per_s": _number(record, "request_throughput"),
        "n_requests": completed,
        "date": _date_of_stamp(record.get("date")),
        "notes": "; ".join(notes),
    }
    return row | _load_of_vllm(record, completed) | _latencies(record, "_ms", 1.0)


def _load_of_vllm(record: Record, completed: float) -> Row:
    """Return concurrency of a closed loop, or request rate of an open one that the server kept up with."""
    cap, rate = _number(record, "max_concurrency"), record.get("request_rate")
    if rate in (None, "inf", math.inf):
        return {"concurrency": min(cap or completed, completed)}
    return _open_loop(
        _need(record, "request_rate"),
        _number(record, "request_throughput"),
        min(cap, completed) if cap else None,
    )


def _open_loop(rate: float, served: float | None, cap: float | None) -> Row:
    """Return the rate where the server kept up with it, else the cap that held requests back."""
    if served is None or served >= KEPT_UP_SHARE * rate:
        return {"request_rate": rate}
    if cap:
        return {"concurrency": cap}
    raise InvalidInput(
        "request_rate",
        f"{rate:g}/s is more than was served: the queue grew all along",
        "a rate it can serve",
    )


def _inferencex(record: Record) -> Row:
    disaggregated = bool(record.get("disagg")) or bool(record.get("is_multinode"))
    tp, attention = _number(record, "tp"), str(record.get("dp_attention")).lower() == "true"
    drafts = str(record.get("spec_decoding") or record.get("mtp") or "none").lower()
    notes = ["imported from InferenceX", NOMINAL_LENGTHS_NOTE]
    notes += (
        [f"spec={drafts}; drafts as mtp does"] if drafts not in ("none", "off", "false") else []
    )
    framework = str(record.get("framework") or "")
    throughput = _number(record, "output_tput_per_gpu")
    row: Row = {
        "source": "inferencex",
        "device_name": _hardware(str(record["hw"])),
        "model": record.get("model"),
        "engine": FRAMEWORKS.get(framework, framework),
        "engine_version": record.get("image"),
        "precision": record.get("precision"),
        "tp": _whole(tp),
        "ep": _whole(_number(record, "ep")),
        "dp": _whole(tp) if attention else 1,
        "n_devices": _whole(tp),
        "input_tokens": _number(record, "isl"),
        "output_tokens": _number(record, "osl"),
        "concurrency": _need(record, "conc"),
        "mode": "serving_disagg" if disaggregated else "serving",
        "output_tokens_per_s_total": throughput * tp if throughput and tp else None,
        "notes": "; ".join(notes),
    }
    return row | _latencies(record, "", 1.0 / MILLI)


def _hardware(name: str) -> str:
    """Return the device a runner's name begins with (``b200-trt``, ``h200_nv_3``), or the name itself."""
    words = name.replace("_", "-").split("-")
    known = (
        found
        for end in range(len(words), 0, -1)
        if (found := "-".join(words[:end])) and find_device(found)
    )
    return next(known, name)


def _guidellm(record: Record) -> Row:
    metrics = _mapping(record, "metrics")
    totals = metrics.get("request_totals")
    completed, failed = (
        _number(totals, name) if isinstance(totals, dict) else None
        for name in ("successful", "errored")
    )
    if completed is None:
        raise InvalidInput(
            "metrics.request_totals.successful",
            "is missing",
            "a GuideLLM report of version 0.3 or later",
        )
    ttft, token, latency = (
        _distribution(metrics, name)
        for name in ("time_to_first_token_ms", "inter_token_latency_ms", "request_latency")
    )
    row: Row = {
        "source": "guidellm",
        "model": _model_of_guidellm(record),
        "input_tokens": _mean(metrics, "prompt_token_count"),
        "output_tokens": _mean(metrics, "output_token_count"),
        "mode": "serving",
        "output_tokens_per_s_total": _mean(metrics, "output_tokens_per_second"),
        "requests_per_s": _mean(metrics, "requests_per_second"),
        "n_requests": completed,
        "date": _date_of_epoch(_number(record, "start_time")),
        "notes": "; ".join(["imported from GuideLLM", *_failures(completed, failed or 0.0)]),
    }
    row |= (
        _spread_of("ttft_ms", ttft, 1.0)
        | _spread_of("tpot_ms", token, 1.0)
        | _spread_of("e2e_ms", latency, 1.0 / MILLI)
    )
    row["e2e_latency_ms"], row["itl_ms"] = row.pop("e2e_ms_mean"), row["tpot_ms_mean"]
    return row | _load_of_guidellm(record, metrics)


def _load_of_guidellm(record: Record, metrics: Record) -> Row:
    """Return the load a strategy stands for; where it sets no number, the mean concurrency that was measured."""
    owner: Record = next(
        (
            record[name]
            for name in ("config", "args", "scheduler")
            if isinstance(record.get(name), dict)
        ),
        {},
    )
    strategy = _mapping(owner, "strategy")
    kind = str(strategy.get("type_"))
    if kind == "synchronous":
        return {"concurrency": 1}
    if kind == "concurrent":
        return {"concurrency": _need(strategy, "streams")}
    if kind == "throughput":
        return {"concurrency": _mean(metrics, "request_concurrency")}
    if kind in ("constant", "poisson", "async"):
        return _open_loop(_need(strategy, "rate"), _mean(metrics, "requests_per_second"), None)
    raise InvalidInput(
        "strategy",
        f"{kind!r} is no constant load",
        "synchronous, concurrent, throughput, constant or poisson",
    )


def _model_of_guidellm(record: Record) -> object:
    places = (("config", "backend"), ("report", "config", "backend"), ("report", "args"), ("args",))
    for path in places:
        found: Any = record
        for name in path:
            found = found.get(name) if isinstance(found, dict) else None
        model = found.get("model") if isinstance(found, dict) else None
        if isinstance(model, str) and model:
            return model
    return None


def _distribution(metrics: Record, name: str) -> Record:
    return _mapping(_mapping(metrics, name), "successful")


def _mean(metrics: Record, name: str) -> float | None:
    return _number(_distribution(metrics, name), "mean")


def _spread_of(column: str, values: Record, scale: float) -> Row:
    percentiles = values.get("percentiles")
    found = {"mean": _number(values, "mean"), "p50": _number(values, "median")}
    if isinstance(percentiles, dict):
        found |= {name: _number(percentiles, name) for name in ("p90", "p99")}
    return {f"{column}_{name}": value * scale if value else None for name, value in found.items()}


def _latencies(record: Record, ending: str, scale: float) -> Row:
    """Return TTFT, TPOT, ITL and end-to-end latency in milliseconds from keys such as ``mean_ttft`` + ``ending``."""

    def read(statistic: str, metric: str) -> float | None:
        value = _number(record, f"{statistic}_{metric}{ending}")
        return value * scale if value else None

    row: Row = {}
    for metric, column in (("ttft", "ttft_ms"), ("tpot", "tpot_ms"), ("e2el", "e2e_ms")):
        for statistic, name in (
            ("mean", "mean"),
            ("median", "p50"),
            ("p90", "p90"),
            ("p99", "p99"),
        ):
            row[f"{column}_{name}"] = read(statistic, metric)
    row["e2e_latency_ms"], row["itl_ms"] = row.pop("e2e_ms_mean"), read("mean", "itl")
    return row


def _failures(completed: float, failed: float) -> list[str]:
    if not completed:
        raise InvalidInput(
            "completed", "no request was completed", "a run in which requests succeed"
        )
    share = failed / (completed + failed)
    if share > LARGEST_FAILED_SHARE:
        raise InvalidInput(
            "failed", f"{share:.0%} of the requests failed", f"at most {LARGEST_FAILED_SHARE:.0%}"
        )
    return [f"{failed:g} of {completed + failed:g} requests failed"] if failed else []


def _mapping(record: Record, name: str) -> Record:
    found = record.get(name)
    if not isinstance(found, dict):
        raise InvalidInput(
            name,
            "is missing" if found is None else "is not a JSON object",
            "a result file as it was written",
        )
    return found


def _need(record: Record, name: str) -> float:
    value = _number(record, name)
    if value is None or value <= 0:
        raise InvalidInput(name, "is missing or 0", "a positive number")
    return value


def _number(record: Record, name: str) -> float | None:
    value = record.get(name)
    if value is None:
        return None
    try:
        number = (
            float(value)
            if isinstance(value, int | float | str) and not isinstance(value, bool)
            else math.nan
        )
    except (ValueError, OverflowError):
        number = math.nan
    if not 0 <= number < math.inf:
        raise InvalidInput(
            name, f"{str(value)[:40]!r} is not a positive number", "what the program wrote"
        )
    return number


def _whole(value: float | None) -> int | None:
    return None if value is None else int(value)


def _date_of_stamp(stamp: object) -> str | None:
    try:
        return datetime.strptime(str(stamp), "%Y%m%d-%H%M%S").replace(tzinfo=UTC).date().isoformat()
    except ValueError:
        return None


def _date_of_epoch(seconds: float | None) -> str | None:
    try:
        return datetime.fromtimestamp(seconds, UTC).date().isoformat() if seconds else None
    except (ValueError, OverflowError, OSError):
        return None


def _text(value: object) -> str:
    if value is None:
        return ""
    return f"{value:.10g}" if isinstance(value, float) else str(value)
