"""Broken streams and interrupts end with one line, never with a traceback."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from budsim.cli import streams

ROOT = Path(__file__).parents[2]


def budsim(*arguments: str, script: str = "", **streams: object) -> subprocess.CompletedProcess:
    """Run the terminal in a process of its own, or a script that uses it."""
    command = ["-c", script] if script else ["-m", "budsim.cli", *arguments]
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True} | streams
    return subprocess.run([sys.executable, *command], cwd=ROOT, check=False, **options)


def test_a_full_disk_is_one_line():
    """Output that cannot be written ends with exit code 1 and the system's reason."""
    with Path("/dev/full").open("w") as full:
        ended = budsim("engines", stdout=full)
    assert ended.returncode == 1
    assert ended.stderr == "budsim: the output cannot be written (No space left on device)\n"


def test_closed_streams_are_survived():
    """Without stdout there is one line; without stderr there is an answer."""
    closed = budsim("engines", stdout=None, preexec_fn=lambda: os.close(1))
    assert closed.returncode == 1
    assert closed.stderr == "budsim: the output cannot be written (standard output is closed)\n"
    silent = budsim("engines", stderr=None, preexec_fn=lambda: os.close(2))
    assert silent.returncode == 0
    assert "vllm" in silent.stdout


def test_a_reader_may_leave():
    """A pipe closed by its reader ends the command without a word."""
    reader, writer = os.pipe()
    os.close(reader)
    ended = budsim("engines", stdout=writer)
    os.close(writer)
    assert ended.returncode == 1
    assert ended.stderr == ""


def test_ascii_terminals_get_the_answer(tmp_path):
    """A name that the terminal's encoding lacks is printed with question marks."""
    file = tmp_path / "zürich.yaml"
    file.write_text(
        "clusters: [{name: Zürich, nodes: [{name: é, devices: [{device: L4, count: 1}]}]}]",
        encoding="utf-8",
    )
    asked = ["--model", "meta-llama/Llama-3.1-8B-Instruct", "--cluster", str(file), "--analytic"]
    asked += ["--input-tokens", "512", "--output-tokens", "128", "--concurrency", "1"]
    environment = os.environ | {"PYTHONIOENCODING": "ascii"}
    ended = budsim("simulate", *asked, env=environment)
    assert ended.returncode == 0
    assert "1 x L4 tp1" in ended.stdout
    assert "on ?" in ended.stdout


@pytest.mark.parametrize("raised", ["KeyboardInterrupt", "ImportError"])
def test_an_interrupt_during_imports_is_one_line(raised):
    """Ctrl-C while the commands are imported, even where an import turns it into an error."""
    script = f"""
import builtins, os, signal, sys
# A shell's background jobs, such as a nightly CI, are started with Ctrl-C ignored.
signal.signal(signal.SIGINT, signal.default_int_handler)
original = builtins.__import__
def interrupted(name, *rest):
    if name == "budsim.cli.app":
        try:
            os.kill(os.getpid(), signal.SIGINT)
            original("time").sleep(5)
        except KeyboardInterrupt:
            raise {raised}
    return original(name, *rest)
from budsim.cli import main
builtins.__import__ = interrupted
sys.argv = ["budsim", "engines"]
main()
"""
    ended = budsim(script=script)
    assert ended.returncode in (130, -signal.SIGINT)
    assert ended.stderr == "budsim: interrupted\n"


def test_faults_of_ours_keep_their_traceback():
    """Only errors of streams are shortened: others are bugs that we want to read."""

    def broken() -> int:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        streams.guarded(broken)
