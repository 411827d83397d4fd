"""LoRA adapters that a measured server had room for, by its columns or its serve command."""

from __future__ import annotations

import numpy as np
import pandas as pd

from budsim.commons.errors import InvalidInput
from budsim.engine_ops.limits import DEFAULT_MAX_LORA_RANK
from budsim.engine_ops.shared.checks import check_adapters
from budsim.performance.candidates import Floats
from budsim.performance.measured.protocols import stated_flags

# Optional columns of numbers.
NUMBERS = ("max_loras", "max_lora_rank")

# Slots of a server that serves adapters and is told no number (``--max-loras-per-batch`` of SGLang
# 0.5.23, ``--max-loras`` of vLLM 0.32.0).
_SGLANG_SLOTS = 8.0
_USUAL_SLOTS = 1.0

# Flags without which a server has no slots: vLLM reads ``--max-loras`` only beside the first, and
# SGLang's ``--lora-paths`` sets it (``ServerArgs.check_lora_server_args``).
_ENABLED = r"args:.*\s--(?:enable-lora|lora-paths)(?:[\s=]|$)"


def adapter_ranks(text: pd.DataFrame, numbers: pd.DataFrame) -> Floats | None:
    """Return the LoRA slots of each row times the rank they hold, (n,); None where none has any.

    Columns come before the serve command, and both before the engine's defaults.
    """
    enabled = text.notes.str.contains(_ENABLED)
    if not (enabled.any() or (numbers.max_loras > 0).any()):
        return None
    told = stated_flags(text.notes)
    usual = np.where(text.engine == "sglang", _SGLANG_SLOTS, _USUAL_SLOTS)
    slots = told.adapters.fillna(pd.Series(usual, index=text.index)).where(enabled, 0.0)
    ranks = numbers.max_lora_rank.fillna(told.adapter_rank).fillna(DEFAULT_MAX_LORA_RANK)
    return np.asarray(numbers.max_loras.fillna(slots) * ranks, dtype=np.float64)


def mark_unreadable_adapters(numbers: pd.DataFrame, problems: pd.Series) -> None:
    """Write into ``problems`` why the adapters that the columns of a row state cannot be."""
    stated = (numbers[list(NUMBERS)] > 0).any(axis=1) & (problems == "")
    for row in np.flatnonzero(stated).tolist():
        try:
            _check(numbers.max_loras.iloc[row], numbers.max_lora_rank.iloc[row])
        except InvalidInput as error:
            problems.iloc[row] = str(error)


def _check(slots: float, rank: float) -> None:
    if not slots > 0:
        raise InvalidInput("max_lora_rank", "is given without adapters", "max_loras beside it")
    for name, value in (("max_loras", slots), ("max_lora_rank", rank)):
        if value % 1 > 0:
            raise InvalidInput(name, f"is {value:g}", "a whole number")
    check_adapters(int(slots), DEFAULT_MAX_LORA_RANK if np.isnan(rank) else int(rank))
