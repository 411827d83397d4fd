"""Wait for what another thread or process does.

This module imports little because worker processes import all that their tests import.
"""

import time
from collections.abc import Callable
from typing import Any


def wait_for(found: Callable[[], Any], longest_s: float = 20.0) -> Any:
    """Return what ``found`` finds once it is true; fail when that takes too long."""
    ends_s = time.monotonic() + longest_s
    while time.monotonic() < ends_s:
        if answer := found():
            return answer
        time.sleep(0.02)
    raise AssertionError("waited in vain")
