"""What a measured row's mode may be, and which columns need which mode."""

from __future__ import annotations

import pandas as pd

from budsim.performance.measured.pool_columns import COLUMNS, MODE
from budsim.performance.measured.problems import mark

# Modes in which all prompts are one batch.
STATIC_MODES = ("static_batch", "low_latency")

# Modes that need neither a concurrency nor a rate.
OFFLINE_MODES = ("offline", "mlperf_offline")

# MLPerf's further scenarios.
MLPERF_MODES = (
    "mlperf_server",
    "mlperf_interactive",
    "mlperf_server_interactive",
    "mlperf_singlestream",
)

MODES = ("serving", MODE, *STATIC_MODES, *OFFLINE_MODES, *MLPERF_MODES)


def mark_modes(table: pd.DataFrame, modes: pd.Series, problems: pd.Series) -> None:
    """Write into ``problems`` which modes are unknown, and where columns of pools lack theirs."""
    known = modes.isin(["", *MODES])
    mark(problems, ~known, f"mode: expected one of {', '.join(MODES)}")
    for name in COLUMNS:
        if name in table:
            given = table[name].astype(str).str.strip() != ""
            reason = f"{name}: is given without its mode; expected mode {MODE}"
            mark(problems, given & (modes != MODE), reason)
