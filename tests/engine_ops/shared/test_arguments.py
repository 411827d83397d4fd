"""Argument lists: what is refused, and that a command line reads back."""

from __future__ import annotations

import pytest

from budsim.commons.errors import InvalidInput
from budsim.engine_ops.base import ArgumentValue
from budsim.engine_ops.shared.arguments import (
    check_arguments,
    command_line,
    parse_command_line,
    shipped_arguments,
)


@pytest.mark.parametrize(
    ("engine", "flag", "value", "says"),
    [
        ("vllm", "swap-space", 4, "gone"),
        ("vllm", "num-scheduler-steps", 8, "gone"),
        ("vllm", "disable-cascade-attn", True, "deprecated"),
        ("sglang", "enable-dp-attention", True, "deprecated"),
        ("sglang", "disable-cuda-graph", True, "deprecated"),
        ("sglang", "cuda-graph-max-bs", 8, "gone"),
        ("vllm", "tensor-parallel-sise", 2, "has no"),
        ("vllm", "tensor-parallel-size", "two", "whole number"),
        ("vllm", "tensor-parallel-size", True, "takes a value"),
        ("vllm", "enable-prefix-caching", "yes", "no value"),
        ("vllm", "kv-cache-dtype", "fp7", "not one of"),
        ("sglang", "schedule-policy", "best", "not one of"),
        ("sglang", "disable-radix-cache", False, "switched off"),
        ("vllm", "gpu-memory-utilization", "0.9", "takes a number"),
    ],
)
def test_what_the_parser_would_refuse_is_refused(
    engine: str, flag: str, value: ArgumentValue, says: str
) -> None:
    """Dropped, deprecated, misspelt, mistyped and unlisted values are refused by flag name."""
    with pytest.raises(InvalidInput, match=says) as refused:
        check_arguments(engine, {flag: value})
    assert refused.value.field == f"args.{flag}"


def test_a_boolean_flag_takes_no_value_on_the_command_line() -> None:
    """True is the bare flag, false its negative form."""
    assert command_line(
        "vllm", {"enable-prefix-caching": True, "enable-chunked-prefill": False}
    ) == (
        "--enable-prefix-caching",
        "--no-enable-chunked-prefill",
    )


def test_a_command_line_reads_back() -> None:
    """Types survive the way to text and back."""
    args = {
        "gpu-memory-utilization": 0.9,
        "max-num-seqs": 64,
        "kv-cache-dtype": "fp8",
        "enable-chunked-prefill": False,
    }
    assert parse_command_line(command_line("vllm", args), shipped_arguments("vllm")) == args


@pytest.mark.parametrize("words", [["serve"], ["--no-such"], ["--max-num-seqs"]])
def test_a_broken_command_line_is_refused(words: list[str]) -> None:
    """A stray word, an unknown flag and a flag without its value are bad input, not a traceback."""
    with pytest.raises(InvalidInput, match="command"):
        parse_command_line(words, shipped_arguments("vllm"))
