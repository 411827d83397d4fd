"""The compiled kernel: where its library is, how it is made, and the structures both sides share.

A wheel brings the library. A checkout compiles `kernel/` once per version of its source with the
system's C compiler, or with the one in the ``ziglang`` package, into the user's cache (about half a
second). ``python -m`` with this module compiles beside the source, for images that are read-only.
"""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

from budsim.commons.errors import Unavailable

SOURCES = Path(__file__).parent / "kernel"
COMPILERS = ("cc", "gcc", "clang")
# No fused multiply-adds: every processor gives the same answer to the last bit.
FLAGS = ("-std=c99", "-O2", "-shared", "-fPIC", "-ffp-contract=off")

COMPILE_TIMEOUT_S = 120.0
# Fields of `PartTables`, in the order of kernel/tables.h.
PART_COLUMNS = tuple("decode prefill beside decode_context prefill_context attended".split())
# Length of a timeline, and of the histogram of gaps (kernel/replica.h).
SAMPLES, GAPS = 256, 800


class Part(ctypes.Structure):
    """`PartTables` of one candidate, as addresses."""

    _fields_ = [(name, ctypes.c_void_p) for name in PART_COLUMNS]


class Tables(ctypes.Structure):
    """`StepTables` of one candidate."""

    _fields_ = [
        ("rest", Part),
        ("traffic", Part),
        *((name, ctypes.c_double) for name in ("overlap", "multiplies_cache", "multiplies_step")),
        *((name, ctypes.c_int64) for name in ("last_token", "last_context")),
    ]


class Setting(ctypes.Structure):
    """How one replica schedules; `scheduling.Schedulers` says what each field means."""

    _fields_ = [
        *(
            (name, ctypes.c_int64)
            for name in (
                "kind router ranks whole_prompts reserve_output both_ways loads_overlap sharing"
            ).split()
        ),
        *(
            (name, ctypes.c_double)
            for name in (
                "token_budget max_sequences cache_tokens block_tokens lag_steps receive_steps "
                "imbalance request_s burst_s token_s reply_s first_wave_s "
                "prefill_factor decode_factor step_floor_s prompt_step_floor_s "
                "tier_tokens tier_token_s store_tokens store_rank_tokens store_token_s"
            ).split()
        ),
    ]


class Requests(ctypes.Structure):
    """Addresses of one array a field, of ``count`` requests."""

    _fields_ = [
        *((name, ctypes.c_int64) for name in "count concurrency measured_from measured_to".split()),
        *(
            (name, ctypes.c_void_p)
            for name in (
                "prompt output reused distance far far_distance reused_from send admitted "
                "first done"
            ).split()
        ),
    ]


class Record(ctypes.Structure):
    """What a replay records besides the times of its requests."""

    _fields_ = [
        ("busy_s", ctypes.c_double),
        ("end_s", ctypes.c_double),
        ("loaded_tokens", ctypes.c_double),
        *((name, ctypes.c_int64) for name in "steps preemptions samples".split()),
        *((name, ctypes.c_double) for name in "sample_every_s peak_waiting peak_cached".split()),
        *((name, ctypes.c_double * SAMPLES) for name in "time running waiting cached".split()),
        ("gaps", ctypes.c_double * GAPS),
        ("gap_seconds", ctypes.c_double * GAPS),
    ]


class PoolRun(ctypes.Structure):
    """One closed loop through two pools; `pools.runs.Run` says what each field means."""

    _fields_ = [
        *(
            (name, ctypes.c_int64)
            for name in "clients workers most_prompts decode_workers places count".split()
        ),
        *((name, ctypes.c_double) for name in "batch_s more_s further".split()),
    ]


class PoolRequests(ctypes.Structure):
    """Addresses of one array a field: seconds of each prompt and output, and times to fill."""

    _fields_ = [(name, ctypes.c_void_p) for name in "prompt decoding sent first".split()]


def kernel() -> Callable[..., int]:
    """Return the compiled ``replay`` function; it fills the requests' times and the record."""
    return _function("replay", (Tables, Setting, Requests, Record))


def pools_kernel() -> Callable[..., int]:
    """Return the compiled ``serve_pools``: it fills the requests' times, and when the last ends."""
    return _function("serve_pools", (PoolRun, PoolRequests, ctypes.c_double))


def _function(name: str, arguments: Sequence[type]) -> Callable[..., int]:
    function = getattr(library(), name)
    function.argtypes = [ctypes.POINTER(each) for each in arguments]
    function.restype = ctypes.c_int
    call: Callable[..., int] = function
    return call


@lru_cache(maxsize=1)
def library() -> ctypes.CDLL:
    """Return the compiled library, of which `kernel` and `pools_kernel` are functions.

    Raises
    ------
    Unavailable
        When there is no compiled library and no compiler to make one.
    """
    digest = source_digest()
    made = next((path for path in _places(digest) if path.is_file()), None)
    return ctypes.CDLL(str(made or _compiled(digest)))


def source_digest() -> str:
    """Return a hash of the kernel's source and of how it is compiled."""
    parts = [path.read_bytes() for path in sorted(SOURCES.iterdir())]
    return hashlib.sha256(b"".join([*parts, " ".join(FLAGS).encode()])).hexdigest()[:16]


def compile_kernel(library: Path, source: Path | None = None) -> None:
    """Compile the kernel, or another ``source``, to a shared library at this path.

    Raises
    ------
    Unavailable
        When there is no compiler, or it fails.
    OSError
        When the folder cannot be written.
    """
    command = next(_compilers(), None)
    if command is None:
        raise Unavailable(
            "the replay kernel is not compiled and there is no C compiler; install a wheel of "
            "budsim, a C compiler, or `pip install ziglang`"
        )
    made = library.with_suffix(f".{os.getpid()}")
    arguments = [*command, *FLAGS, str(source or SOURCES / "kernel.c"), "-o", str(made), "-lm"]
    ended = subprocess.run(
        arguments, capture_output=True, text=True, timeout=COMPILE_TIMEOUT_S, check=False
    )
    if ended.returncode:
        if not os.access(library.parent, os.W_OK):
            raise PermissionError(f"{library.parent} cannot be written")
        raise Unavailable(f"the replay kernel does not compile: {ended.stderr[-400:]}")
    made.replace(library)


def _places(digest: str) -> Iterator[Path]:
    for folder in (SOURCES.parent, *_cache_folders()):
        yield folder / library_name(digest)


def library_name(digest: str) -> str:
    """Return the file name of the library made of this source: a stale one is never loaded."""
    return f"replay-{digest}.so"


def _cache_folders() -> Iterator[Path]:
    """Yield the user's cache folder if there is one, then a folder beside the source."""
    stated = os.environ.get("XDG_CACHE_HOME")
    with contextlib.suppress(RuntimeError):
        yield (Path(stated) if stated else Path.home() / ".cache") / "budsim"
    yield SOURCES.parent / "__pycache__"


def _compiled(digest: str) -> Path:
    for folder in _cache_folders():
        library = folder / library_name(digest)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            compile_kernel(library)
        except OSError:
            continue
        return library
    raise Unavailable("the replay kernel cannot be compiled: no folder to write it to")


def _compilers() -> Iterator[list[str]]:
    for command in map(shlex.split, (os.environ.get("CC", ""), *COMPILERS)):
        if command and shutil.which(command[0]):
            yield command
    if find_spec("ziglang"):
        yield [sys.executable, "-m", "ziglang", "cc"]


if __name__ == "__main__":
    compile_kernel(SOURCES.parent / library_name(source_digest()))
