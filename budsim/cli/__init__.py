"""The terminal: `budsim COMMAND`. Each command asks the same functions as the HTTP service.

This file imports nothing heavy: an interrupt while the commands are imported must still end with
one line.
"""

from __future__ import annotations

import signal
import sys

__all__ = ["main", "run"]


def main() -> None:
    """Run the command line and end the process with the command's exit code."""
    code = run(sys.argv[1:])
    # The answer is written: an interrupt while the interpreter ends would only be a traceback.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    sys.exit(code)


def run(arguments: list[str]) -> int:
    """Run one command and return its exit code.

    It is 0, 2 for bad input, 130 for an interrupt, and 1 for any other failure.
    """
    try:
        from budsim.cli.streams import guarded
    except KeyboardInterrupt:
        sys.stderr.write("budsim: interrupted\n")
        return 130

    def command() -> int:
        """Import the commands only now, so that an interrupt meanwhile is handled."""
        from budsim.cli.app import run_command

        return run_command(arguments)

    return guarded(command)
