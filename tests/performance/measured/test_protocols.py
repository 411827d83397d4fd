"""What published tables leave out about how their servers were started."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from budsim.commons.catalog import load_catalog
from budsim.performance.measured.measurements import read_measurements
from budsim.performance.measured.protocols import (
    SETTINGS,
    admission_steps,
    cache_formats,
    cold_starts,
    stated_flags,
    token_budgets,
    with_drafts,
)
from tests.performance.measured.measured_rows import ROW

DEFAULTS = {
    "input_tokens": 1024.0,
    "output_tokens": 1024.0,
    "concurrency": 64.0,
    "tp": 8.0,
    "dp": 1.0,
    "date": "2026-03-25",
}


def rows(**columns: object) -> pd.DataFrame:
    """Return one row of the two sources that stem from one benchmark."""
    row = {
        "source": "inferencex",
        "model": "deepseek-ai/DeepSeek-R1",
        "device_name": "B200-SXM",
        "precision": "fp8",
    }
    return pd.DataFrame([{**DEFAULTS, **row, **columns}])


def test_a_polling_scheduler_makes_newcomers_wait_half_its_interval() -> None:
    """SGLang on B200 looked at its queue every 30 steps from 16 requests in flight on.

    Every 10 steps below, and at each on H200.
    """
    assert admission_steps(rows(engine="sglang", concurrency=16.0)) == [15.0]
    assert admission_steps(rows(engine="sglang", concurrency=8.0)) == [5.0]
    assert admission_steps(rows(engine="sglang", device_name="H200-SXM")) == [0.0]


def test_a_held_back_batch_depends_on_layout_and_date() -> None:
    """TensorRT-LLM held back 1k/1k prompts of Llama on fewer than eight GPUs.

    Those of DeepSeek from the end of January 2026 on. In its 20 steps 1.25 of 64 requests of 1,024
    tokens come after the first: (20 + 1.25 x 10) / 2.25 = 14.4; in 40 steps 2.5: 90 / 3.5 = 25.7.
    """
    llama = {"engine": "trtllm", "model": "meta-llama/Llama-3.1-70B", "device_name": "H200-SXM"}
    assert admission_steps(rows(**llama, tp=4.0)) == pytest.approx([14.44], abs=0.01)
    assert admission_steps(rows(**llama, tp=8.0)) == [0.0]
    assert admission_steps(rows(engine="trtllm")) == pytest.approx([25.71], abs=0.01)
    assert admission_steps(rows(engine="trtllm", date="2026-01-14")) == [0.0]


def test_attention_ranks_wait_until_each_has_a_prompt() -> None:
    """512 requests of 1,024 tokens bring one every two steps, so eight ranks have one after 16.

    With 16, patience ends first.
    """
    ranks = {"engine": "trtllm", "dp": 8.0, "tp": 8.0}
    assert admission_steps(rows(**ranks, concurrency=512.0)) == [16.0]
    assert admission_steps(rows(**ranks, concurrency=16.0)) == [40.0]


def test_runs_before_the_benchmark_warmed_up_are_cold() -> None:
    """Its change of 21 January 2026 and undated runs tell.

    Other sources are not known to be cold.
    """
    dates = {"2026-01-20": True, "2026-01-22": False, "": True}
    assert {date: bool(cold_starts(rows(engine="vllm", date=date))[0]) for date in dates} == dates
    assert not cold_starts(rows(engine="vllm", date="", source="mlperf"))[0]


def test_the_last_of_a_flag_counts_and_only_whole_numbers() -> None:
    """Engines' parsers take the last of two; 1e3 is not 1, and a full stop ends a number."""
    notes = ["args: vllm serve M -tp 2 -tp 1", "args: x -tp 1e3", "args: x -tp 4."]
    assert stated_flags(pd.Series(notes)).tp.fillna(0.0).tolist() == [1.0, 0.0, 4.0]


def test_serve_commands_in_the_notes_are_read() -> None:
    """Each engine's own spelling sets the same thing; digits of other scripts set nothing."""
    notes = pd.Series(
        [
            "BS=8 | args: vllm serve M --max-num-batched-tokens=16384 --max-num-seqs 512 "
            "--gpu-memory-utilization 0.9",
            "args: python3 -m sglang.launch_server --chunked-prefill-size 4096 --pp-size 2 "
            "--mem-fraction-static=0.8 --ep-size 4",
            "hw: 8 x H200 | args: vllm serve M --tensor-parallel-size \N{FULLWIDTH DIGIT TWO}",
        ]
    )
    flags = stated_flags(notes)
    assert flags.tokens.tolist()[:2] == [16384, 4096]
    assert (flags.sequences[0], flags.memory_fraction[0], flags.pp[1], flags.ep[1]) == (
        512,
        0.9,
        2,
        4,
    )
    assert flags.loc[2].isna().all()


def test_whole_prompts_set_the_budget_of_engines_that_do_not_chunk() -> None:
    """TensorRT-LLM took one whole prompt a step, at least 8,192 tokens.

    Other sources keep the engine's default.
    """
    default = np.array([2048.0])
    assert token_budgets(rows(engine="trtllm", input_tokens=16384.0), default) == [16384.0]
    assert token_budgets(rows(engine="trtllm"), default) == [8192.0]
    assert token_budgets(rows(engine="trtllm", source="mlperf"), default) == [2048.0]


def test_the_cache_was_eight_bit_only_where_the_launch_script_says_so() -> None:
    """The first entry that matches counts: TensorRT-LLM cached in fp8, but for gpt-oss on H200."""
    assert cache_formats(rows(engine="trtllm")).tolist() == ["fp8"]
    assert cache_formats(
        rows(engine="trtllm", model="openai/gpt-oss-120b", device_name="H200-SXM")
    ).tolist() == [""]


def test_eight_bit_runs_of_optimum_habana_kept_eight_bit_caches() -> None:
    """Its quantization covers the cache, and its batches would not fit otherwise.

    Other sources on Gaudi may differ.
    """
    assert cache_formats(rows(engine="optimum-habana", source="gaudi_tutorials_ref")).tolist() == [
        "fp8"
    ]
    assert cache_formats(
        rows(engine="optimum-habana", source="gaudi_tutorials_ref", precision="bf16")
    ).tolist() == [""]
    assert cache_formats(rows(engine="vllm", source="hpu_misc")).tolist() == [""]


def test_what_a_row_says_itself_wins() -> None:
    """A row that states its cache format keeps it, whatever the protocol says of its source."""
    row = {**ROW, "source": "inferencex", "engine": "trtllm", "kv_cache_dtype": "bf16"}
    read = read_measurements(pd.DataFrame([row, {**row, "kv_cache_dtype": ""}])).candidates
    assert [read.precisions[code].value for code in read.kv_precision] == ["bf16", "fp8"]


def test_every_entry_sets_something_by_known_conditions() -> None:
    """An entry with a misspelt condition would match everything; there is none."""
    for entry in load_catalog("budsim.performance.measured", "catalog/protocols.yaml"):
        assert entry["setting"] in SETTINGS
        assert entry.keys() <= SETTINGS[entry["setting"]] | {"setting"}


def test_runs_that_speculated_on_known_dates_say_so() -> None:
    """The tool's table names no multi-token prediction; TensorRT-LLM had it on three days."""
    asked = {
        "source": "aiconfigurator_silicon",
        "engine": "trtllm",
        "notes": "",
        "precision": "fp8",
    }
    drafting, plain = ("2026-02-05", "2026-01-14"), ("2026-01-29", "2026-02-06", "")
    assert all("mtp" in with_drafts(rows(**asked, date=date))[0] for date in drafting)
    assert all(with_drafts(rows(**asked, date=date))[0] == "" for date in plain)
    assert with_drafts(rows(**{**asked, "source": "inferencex"}, date=drafting[0]))[0] == ""
