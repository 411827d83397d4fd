"""Optional columns in which a table says on what, and how, its server ran."""

from __future__ import annotations

import numpy as np
import pandas as pd

from budsim.hardware_ops.device import DeviceKind
from budsim.performance.candidates import Booleans
from budsim.performance.measured.problems import mark

_YES = ("true", "1", "yes")
_NO = ("", "false", "0", "no", "nan", "none", "null")
_EAGER_FLAG = r"--(?:enforce-eager|disable-cuda-graph)(?:[\s;]|$)"
# Kinds of hardware in public tables that we have no device of.
_OTHER_KINDS = ("", "rdu")


def eager(text: pd.DataFrame) -> Booleans | None:
    """Return which rows ran without captured graphs, by their column or their serve command.

    None where none did.
    """
    stated = text.enforce_eager.str.lower().isin(_YES)
    found = np.asarray(stated | text.notes.str.contains(_EAGER_FLAG), dtype=bool)
    return found if found.any() else None


def mark_unreadable_servers(text: pd.DataFrame, problems: pd.Series) -> None:
    """Write into ``problems`` which rows state a server that cannot be."""
    unclear = ~text.enforce_eager.str.lower().isin((*_YES, *_NO))
    mark(problems, unclear, "enforce_eager: expected true or false")
    kinds = [kind.value for kind in DeviceKind]
    unknown = ~text.device_type.isin((*kinds, *_OTHER_KINDS))
    mark(problems, unknown, f"device_type: expected one of {', '.join(kinds)}, or none")
