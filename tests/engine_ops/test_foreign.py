"""The real LiteLLM and LLM Compressor read the files written for them.

These tests are skipped unless options name the tools' Pythons.
"""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from budsim.engine_ops.base import RouteTarget
from budsim.engine_ops.litellm import STRATEGIES, Litellm
from budsim.engine_ops.llmc import recipe_yaml, schemes
from budsim.simulator.rendering.writing import yaml_text

ROUTER_TAKES = """
import json, os, sys
os.environ |= {"LITELLM_LOCAL_MODEL_COST_MAP": "True"}
os.environ |= {"BUDSIM_REPLICA_API_KEY": "none", "OPENAI_API_KEY": "none"}
import litellm, yaml
from litellm.proxy._types import ConfigYAML
for path in sys.argv[1:]:
    text = open(path).read()
    ConfigYAML(**yaml.safe_load(text))
    config = yaml.safe_load(text)
    router = litellm.Router(model_list=config["model_list"], **config["router_settings"])
    print(json.dumps([each["litellm_params"]["model"] for each in router.get_model_list()]))
"""

RECIPES_READ = """
import json, sys
from llmcompressor.recipe import Recipe
for path in sys.argv[1:]:
    modifiers = Recipe.create_instance(path).modifiers
    quantizing = [each for each in modifiers if hasattr(each, "resolve_quantization_config")]
    groups = quantizing[-1].resolve_quantization_config().config_groups.values()
    names = [type(each).__name__ for each in modifiers]
    print(json.dumps([names, next(iter(groups)).weights.num_bits]))
"""


def run_foreign(
    request: pytest.FixtureRequest, option: str, script: str, files: list[Path]
) -> list[object]:
    """Run a script over files in the Python an option names; return the JSON of its lines.

    The test is skipped where the option names none.
    """
    python = request.config.getoption(option)
    if python is None:
        pytest.skip(f"needs the real tool: pass {option}")
    done = subprocess.run(
        [python, "-c", script, *map(str, files)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("[")]


def test_litellms_router_takes_every_strategy_we_write(
    request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    """The proxy's reader and the router accept replicas of both engines and a provider fallback.

    The replicas have limits.
    """
    targets = [
        RouteTarget(
            api_base="http://a:8000/v1",
            engine="vllm",
            weight=3.0,
            requests_per_min=120,
            tokens_per_min=90_000,
        ),
        RouteTarget(api_base="http://b:30000/v1", engine="sglang", weight=1.0),
    ]
    files = [tmp_path / f"{strategy}.yaml" for strategy in STRATEGIES]
    for file, strategy in zip(files, STRATEGIES, strict=True):
        config = Litellm().proxy_config(
            "some/model", targets, strategy=strategy, fallbacks=["gpt-4o"]
        )
        file.write_text(yaml_text((), config))
    routes = run_foreign(request, "--litellm-python", ROUTER_TAKES, files)
    assert routes == [["hosted_vllm/some/model", "openai/some/model", "openai/gpt-4o"]] * len(
        STRATEGIES
    )


@pytest.mark.timeout(600)
def test_llm_compressor_reads_every_recipe(request: pytest.FixtureRequest, tmp_path: Path) -> None:
    """Every recipe names modifiers and a preset that exist.

    The recipes cover each scheme and method, with and without an 8-bit cache.
    """
    wanted = [
        (scheme, method, kv8)
        for scheme in schemes().values()
        for method in scheme.methods
        for kv8 in (False, True)
    ]
    files = [tmp_path / f"{scheme.name}-{method}-{kv8}.yaml" for scheme, method, kv8 in wanted]
    for file, (scheme, method, kv8) in zip(files, wanted, strict=True):
        file.write_text(recipe_yaml(scheme.name, method, kv8=kv8))
    read = run_foreign(request, "--llmc-python", RECIPES_READ, files)
    assert len(read) == len(wanted)
    assert {bits for _, bits in read} == {4, 8}  # type: ignore[misc]  # lines are pairs
