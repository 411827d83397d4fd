"""Streams that fail and interrupts: whatever happens to them, the user reads one line."""

from __future__ import annotations

import contextlib
import io
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator

# Exit codes: input a person can correct, Ctrl-C, and everything else that went wrong.
FAILED, BAD_INPUT, INTERRUPTED = 1, 2, 130


def complain(message: str, code: int) -> int:
    """Write one line to stderr, where that is possible, and return ``code``."""
    with contextlib.suppress(OSError, ValueError):
        sys.stderr.write("budsim: " + " ".join(message.split()) + "\n")
        sys.stderr.flush()
    return code


def guarded(command: Callable[[], int]) -> int:
    """Run a command; turn interrupts and broken streams into one line and an exit code.

    A reader that closes its end of a pipe (`budsim devices | head`) has what it wants. That ends
    without a message, as other programs do.
    """
    _prepare_streams()
    with _interrupts_noted() as was_interrupted:
        try:
            code = command()
            _finish_output()
            return complain("interrupted", code) if code == INTERRUPTED else code
        # `budsim devices | head` ends here as soon as head has its lines.
        except BrokenPipeError:
            _discard_output()
            return FAILED
        except BaseException as error:
            # A compiled module that is being imported turns an interrupt into an error of its own.
            if was_interrupted() or isinstance(error, KeyboardInterrupt):
                return complain("interrupted", INTERRUPTED)
            # An error of a stream names no file; others are faults of ours and keep their trace.
            if not isinstance(error, OSError) or error.filename is not None:
                raise
            _discard_output()
            return complain(f"the output cannot be written ({error.strerror or error})", FAILED)


def _prepare_streams() -> None:
    """Replace closed streams, and print ``?`` where a stream's encoding lacks a character."""
    # Python sets a stream to None when its descriptor was closed before the start. A buffer lets
    # commands run that print nothing, such as `predict`.
    sys.stdout = sys.stdout or io.StringIO()
    sys.stderr = sys.stderr or io.StringIO()
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure:
            reconfigure(errors="replace")


def _finish_output() -> None:
    """Write what is still buffered: a failure at the interpreter's exit would be a traceback.

    Raises
    ------
    OSError
        The output cannot be written.
    """
    if isinstance(sys.stdout, io.StringIO) and sys.stdout.getvalue():
        raise OSError("standard output is closed")
    sys.stdout.flush()


def _discard_output() -> None:
    """Point a broken stdout at nothing, so that the interpreter's own flush succeeds."""
    with contextlib.suppress(OSError, ValueError):
        nothing = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nothing, sys.stdout.fileno())
        os.close(nothing)


@contextlib.contextmanager
def _interrupts_noted() -> Iterator[Callable[[], bool]]:
    """Remember an interrupt: imported code that catches every exception may swallow it."""
    noted = threading.Event()
    # Only the main thread may set handlers; a server such as uvicorn brings its own.
    in_main_thread = threading.current_thread() is threading.main_thread()
    if not in_main_thread or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield noted.is_set
        return

    def note(_number: int, _frame: object) -> None:
        """Handle SIGINT."""
        noted.set()
        raise KeyboardInterrupt

    signal.signal(signal.SIGINT, note)
    try:
        yield noted.is_set
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
