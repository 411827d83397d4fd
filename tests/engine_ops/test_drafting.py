"""How engines are told to guess tokens ahead."""

from __future__ import annotations

import json

import pytest

from budsim.engine_ops import serving_engines
from budsim.engine_ops.base import ArgumentValue, Drafting
from budsim.model_ops.registry import resolve_model
from tests.engine_ops.samples import real_arguments, replica

HEAD = "yuhuili/EAGLE3-LLaMA3.1-Instruct-8B"


def arguments(engine: str, drafting: Drafting | None) -> dict[str, ArgumentValue]:
    """Return what starts Llama 8B on one H100."""
    model = resolve_model("meta-llama/Llama-3.1-8B-Instruct")
    config = replica("H100-SXM", drafting=drafting)
    return dict(serving_engines[engine].launch(model, config).args)


def test_vllm_reads_one_object() -> None:
    """Method, number and head in JSON."""
    stated = arguments("vllm", Drafting(method="eagle3", tokens=3, model=HEAD))
    assert json.loads(str(stated["speculative-config"])) == {
        "method": "eagle3",
        "num_speculative_tokens": 3,
        "model": HEAD,
    }


def test_sglang_counts_the_token_of_the_model_too() -> None:
    """A chain of three guesses: three steps, four tokens to verify."""
    stated = arguments("sglang", Drafting(method="eagle3", tokens=3, model=HEAD))
    assert stated["speculative-algorithm"] == "EAGLE3"
    assert (stated["speculative-num-steps"], stated["speculative-num-draft-tokens"]) == (3, 4)
    assert stated["speculative-eagle-topk"] == 1
    assert stated["speculative-draft-model-path"] == HEAD


@pytest.mark.parametrize("engine", ["vllm", "sglang"])
def test_lookup_names_no_model(engine: str) -> None:
    """The text so far guesses."""
    stated = arguments(engine, Drafting(method="ngram", tokens=4))
    assert not any("path" in flag for flag in stated)
    assert "model" not in str(stated.get("speculative-config", ""))


@pytest.mark.parametrize("engine", ["vllm", "sglang"])
def test_without_drafting_nothing_is_said(engine: str) -> None:
    """Engines guess nothing by themselves."""
    assert not any(flag.startswith("speculative") for flag in arguments(engine, None))


@pytest.mark.parametrize("engine", ["vllm", "sglang"])
def test_every_flag_is_one_of_the_parser(engine: str) -> None:
    """The engine's own list has it."""
    stated = arguments(engine, Drafting(method="eagle3", tokens=3, model=HEAD))
    named = [flag for flag in stated if flag.startswith("speculative")]
    assert named
    assert set(named) <= real_arguments(engine).keys()
