"""Reads rendered commands back, with the engines' real parsers."""

import shlex

from budsim.engine_ops.shared.arguments import parse_command_line
from tests.engine_ops.samples import real_arguments

TWO_NODES = {"a": 4, "b": 4}


def commands_of(text: str) -> list[list[str]]:
    """Return the words of every command."""
    return [shlex.split(line) for line in text.splitlines() if line and not line.startswith("#")]


def flags_of(words: list[str]) -> dict:
    """Return what the engine's real parser makes of a command."""
    engine = "vllm" if "vllm" in words else "sglang"
    start = words.index("serve") + 2 if engine == "vllm" else words.index("--model-path") + 2
    return dict(parse_command_line(words[start:], real_arguments(engine)))
