"""Results of InferenceX (formerly InferenceMAX) as rows.

Read in ``utils/process_result.py``: ``hw``, ``conc``, ``isl``, ``osl``, ``tp``, ``ep``,
``dp_attention``, ``framework``, ``precision``, ``output_tput_per_gpu`` (1/s) and
``{mean,median,p90,p99}_{ttft,tpot,itl,e2el}`` in seconds. Lengths are nominal.
"""

from __future__ import annotations

from budsim.commons.units import MILLI
from budsim.hardware_ops.device_names import find_device
from budsim.performance.measured.measurements import NOMINAL_LENGTHS_NOTE
from budsim.performance.measured.result_fields import (
    Record,
    Row,
    latencies,
    number,
    positive,
    whole,
)

# Names of engines that the measurements spell differently.
FRAMEWORKS = {"trt": "trtllm", "dynamo-trt": "dynamo-trtllm"}


def inferencex_row(record: Record) -> Row:
    """Return the row of one result.

    Raises
    ------
    InvalidInput
        When a number is missing.
    """
    disaggregated = bool(record.get("disagg")) or bool(record.get("is_multinode"))
    tp, attention = number(record, "tp"), str(record.get("dp_attention")).lower() == "true"
    framework = str(record.get("framework") or "")
    throughput = number(record, "output_tput_per_gpu")
    row: Row = {
        "source": "inferencex",
        "device_name": _hardware(str(record["hw"])),
        "model": record.get("model"),
        "engine": FRAMEWORKS.get(framework, framework),
        "engine_version": record.get("image"),
        "precision": record.get("precision"),
        "tp": whole(tp),
        "ep": whole(number(record, "ep")),
        "dp": whole(tp) if attention else 1,
        "n_devices": whole(tp),
        "input_tokens": number(record, "isl"),
        "output_tokens": number(record, "osl"),
        "concurrency": positive(record, "conc"),
        "mode": "serving_disagg" if disaggregated else "serving",
        "output_tokens_per_s_total": throughput * tp if throughput and tp else None,
        "notes": "; ".join(_notes(record)),
    }
    return row | latencies(record, "", 1.0 / MILLI)


def _notes(record: Record) -> list[str]:
    notes = ["imported from InferenceX", NOMINAL_LENGTHS_NOTE]
    drafts = str(record.get("spec_decoding") or record.get("mtp") or "none").lower()
    if drafts not in ("none", "off", "false"):
        notes.append(f"spec={drafts}; drafts as mtp does")
    return notes


def _hardware(name: str) -> str:
    """Return the device a runner's name begins with (``b200-trt``, ``h200_nv_3``), or the name."""
    words = name.replace("_", "-").split("-")
    known = (
        found
        for end in range(len(words), 0, -1)
        if (found := "-".join(words[:end])) and find_device(found)
    )
    return next(known, name)
