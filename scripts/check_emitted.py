"""Check that what budsim emits starts: commands of drawn questions through the engines' parsers.

Draws questions from the catalogs of models and devices, answers them, and reads every command of
every plan back: with the packaged argument tables always, and with the real parser of an engine
where the Python it is installed in is named. vLLM then also builds its whole configuration for each
command, and SGLang resolves its arguments, from a folder with the model's config.json and no
weights: that is where they check ranges, formats and what a model class supports. The engines are
no dependencies of budsim.

    python scripts/check_emitted.py --questions 150 --vllm-python ~/vllm/bin/python --report out.md
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import budsim
from budsim.commons.errors import BudsimError
from budsim.engine_ops import serving_engines
from budsim.engine_ops.shared.arguments import parse_command_line, shipped_arguments
from budsim.hardware_ops.catalog import devices
from budsim.hardware_ops.cluster import Cluster, DeviceLabel, DevicePool, Node
from budsim.hardware_ops.device import Device
from budsim.model_ops.catalog import catalog_entries
from budsim.model_ops.registry import known_models

# Words of a command before the first flag that are no arguments of the parser.
PROGRAMS = {"vllm": 2, "sglang": 3}

# Each reads lists of words, one JSON list a line, and answers each with "" or what is wrong.
READERS = {
    "vllm": """
import json, sys
import vllm.platforms as platforms
if not platforms.current_platform.device_type:  # a GPU build on a host without GPU
    from vllm.platforms.cpu import CpuPlatform
    platforms._current_platform = CpuPlatform()
from vllm.utils.argparse_utils import FlexibleArgumentParser
try:
    from vllm.entrypoints.launchers.cli_args import make_arg_parser
except ImportError:
    from vllm.entrypoints.openai.cli_args import make_arg_parser
parser = make_arg_parser(FlexibleArgumentParser(exit_on_error=False))
""",
    "sglang": """
import argparse, json, sys
from sglang.srt.server_args import ServerArgs
parser = argparse.ArgumentParser(exit_on_error=False)
ServerArgs.add_cli_args(parser)
""",
}
# Writes a folder that stands for a model: its config.json, no weights, and stand-ins for its code.
FOLDERS = '''
import os, tempfile
os.environ["HF_HUB_OFFLINE"] = "1"
OWN_CODE = """
import json
from transformers import PretrainedConfig
class Fields(dict):
    __getattr__ = dict.get
class OwnConfig(PretrainedConfig):
    model_type = "{}"
    def __init__(self, block_configs=None, **stated):
        super().__init__(**stated)
        if block_configs:
            self.block_configs = json.loads(json.dumps(block_configs), object_hook=Fields)
"""
def write_folder(folder, words, config):
    if "--trust-remote-code" in words:  # stands for the code of the checkpoint's repository
        config["auto_map"] = {"AutoConfig": "configuration_own.OwnConfig"}
        with open(os.path.join(folder, "configuration_own.py"), "w") as file:
            file.write(OWN_CODE.format(config["model_type"]))
    with open(os.path.join(folder, "config.json"), "w") as file:
        json.dump(config, file)
'''
# Builds the engine's configuration of a command whose model is a folder with config.json alone.
BUILD_CONFIGURATIONS = (
    READERS["vllm"]
    + FOLDERS
    + """
from vllm.engine.arg_utils import AsyncEngineArgs
from vllm.model_executor.models import registry
# vLLM looks at each class in a process of its own, which imports everything again.
registry._LazyRegisteredModel.inspect_model_cls = lambda lazy: registry._ModelInfo.from_model_cls(
    lazy.load_model_cls()
)
for line in sys.stdin:
    words, config = json.loads(line)
    with tempfile.TemporaryDirectory() as folder:
        write_folder(folder, words, config)
        try:
            arguments = parser.parse_args([folder, *words[1:]])
            arguments.model, arguments.skip_tokenizer_init = folder, True
            AsyncEngineArgs.from_cli_args(arguments).create_engine_config()
            print(json.dumps(""), flush=True)
        except (Exception, SystemExit) as error:
            print(json.dumps(f"{type(error).__name__}: {error}"[:400]), flush=True)
"""
)
# Resolves and checks arguments as SGLang does before it starts, for a device it does not find.
RESOLVE_ARGUMENTS = (
    READERS["sglang"]
    + FOLDERS
    + """
from sglang.srt.arg_groups import mamba_hook
from sglang.srt.layers import quantization
mamba_hook._platform_supports_mamba_cache_extra_buffer = lambda: True
quantization.QUANTIZATION_METHODS["mxfp4"] = quantization.Mxfp4Config  # as on GPUs
quantization.QUANTIZATION_METHODS["gptq"] = quantization.GPTQMarlinConfig
for line in sys.stdin:
    words, config = json.loads(line)
    with tempfile.TemporaryDirectory() as folder:
        write_folder(folder, words, config)
        words[words.index("--model-path") + 1] = folder
        try:
            arguments = parser.parse_args(words)
            arguments.device = "cpu" if "cpu" in words else "cuda"
            arguments = ServerArgs.from_cli_args(arguments)
            arguments.resolve_once()
            arguments.check_server_args()
            print(json.dumps(""), flush=True)
        except (Exception, SystemExit) as error:
            print(json.dumps(f"{type(error).__name__}: {error}"[:400]), flush=True)
"""
)
# Fields of published checkpoints that vLLM reads, and that the catalog leaves out, by
# ``quant_method`` and by ``model_type``.
QUANTIZATION_FIELDS: Mapping[str, Mapping[str, object]] = {
    "awq": {"zero_point": True, "version": "gemm"},
    "gptq": {"desc_act": False, "sym": True},
    "fp8": {"activation_scheme": "dynamic"},
    "fbgemm_fp8": {"activation_scale_ub": 1200.0},
    "quark": {"export": {"kv_cache_group": [], "pack_method": "reorder"}},
}
# The same of a group in compressed-tensors checkpoints whose activations have 8 bits, too.
GROUP_OF_8_BIT: Mapping[str, Any] = {
    "weights": {"strategy": "channel", "symmetric": True, "dynamic": False},
    "input_activations": {"strategy": "token", "symmetric": True, "dynamic": True, "num_bits": 8},
}
CONFIG_FIELDS: Mapping[str, Mapping[str, object]] = {
    name: {"position_embedding_type": "absolute"} for name in ("bert", "roberta", "xlm-roberta")
}
READ_LINES = """
for line in sys.stdin:
    try:
        parser.parse_args(json.loads(line))
        print(json.dumps(""), flush=True)
    except (Exception, SystemExit) as error:
        print(json.dumps(f"{type(error).__name__}: {error}"), flush=True)
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Emitted:
    """One command, the engine it starts, and the question it answers."""

    engine: str
    words: tuple[str, ...]
    question: str
    model: str


def main() -> int:
    """Print a report; 1 when a parser refuses a command."""
    options = _options()
    emitted, skipped = _commands(options.questions, random.Random(options.seed))
    problems = {"packaged tables": _refused_by_tables(emitted)}
    for engine in serving_engines:
        python = getattr(options, f"{engine}_python", None)
        if python:
            own = [each for each in emitted if each.engine == engine]
            lines = [_arguments(each) for each in own]
            program = READERS[engine] + READ_LINES
            problems[f"the parser of {engine}"] = _refused(own, lines, python, program)
    if options.vllm_python:
        # Commands of GPUs are built as on a processor: all but the rules of their devices is read.
        built, pairs = _with_configs(emitted, "vllm")
        name = f"vllm's engine configuration, {len(built)} commands"
        problems[name] = _refused(built, pairs, options.vllm_python, BUILD_CONFIGURATIONS)
    if options.sglang_python:
        built, pairs = _with_configs(emitted, "sglang")
        name = f"sglang's resolution of arguments, {len(built)} commands"
        problems[name] = _refused(built, pairs, options.sglang_python, RESOLVE_ARGUMENTS)
    text = _report(emitted, skipped, problems)
    print(text)
    if options.report:
        options.report.write_text(text + "\n", encoding="utf-8")
    return int(any(problems.values()))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--questions", type=int, default=30, help="how many to draw")
    parser.add_argument("--seed", type=int, default=0, help="of the draw")
    parser.add_argument("--report", type=Path, help="file to write the report to")
    for engine in READERS:
        parser.add_argument(f"--{engine}-python", help=f"Python with {engine} installed")
    return parser.parse_args()


def _commands(questions: int, draw: random.Random) -> tuple[list[Emitted], Counter[str]]:
    """Return the distinct commands of drawn questions, and why some questions have none."""
    found: dict[tuple[str, ...], Emitted] = {}
    skipped: Counter[str] = Counter()
    served = [device for device in devices().values() if device.kind in {"cuda", "rocm", "cpu"}]
    for _ in range(questions):
        model, device = draw.choice(known_models()), draw.choice(served)
        tokens = draw.choice((64, 512, 2048, 8192)), draw.choice((1, 128, 1024))
        concurrency = draw.choice((1, 4, 32, 256))
        question = f"{model} on 8 x {device.name}, {tokens[0]} + {tokens[1]}, {concurrency} at once"
        traffic = budsim.Traffic.closed(
            concurrency=concurrency, input_tokens=tokens[0], output_tokens=tokens[1]
        )
        try:
            answer = budsim.simulate(
                model=model,
                cluster=_eight(device),
                traffic=traffic,
                quantize=draw.random() < 1 / 3,
                analytic=draw.random() < 1 / 2,
                disaggregated=draw.choice(("off", "off", "only")),
            )
        except BudsimError as error:
            skipped[type(error).__name__] += 1
            continue
        groups = [group for plan in answer.plans for group in plan.groups]
        skipped["no plan"] += not groups
        for group in groups:
            words = tuple(group.launch.command)
            found[words] = Emitted(
                engine=group.engine,
                words=words,
                question=question,
                model=model,
            )
    return list(found.values()), skipped


def _eight(device: Device) -> Cluster:
    """Return a cluster of one node with eight devices, two where they are processors."""
    count = 2 if device.kind == "cpu" else 8
    label = DeviceLabel(
        name=device.name,
        raw_name=device.name,
        device_model=device.name,
        wire_type=str(device.kind),
    )
    pool = DevicePool(
        device=device,
        label=label,
        total=count,
        available=count,
        memory_free_bytes=device.memory_bytes,
    )
    node = Node(node_id="n", name="n", pools=(pool,))
    return Cluster(cluster_id="drawn", name="drawn", nodes=(node,))


def _arguments(emitted: Emitted) -> list[str]:
    """Return the words the engine's parser is given."""
    return list(emitted.words[PROGRAMS[emitted.engine] :])


def _with_configs(
    emitted: Iterable[Emitted], engine: str
) -> tuple[list[Emitted], list[tuple[list[str], Mapping[str, object]]]]:
    """Return the commands of an engine that start the model asked for, and its config.json."""
    own = [each for each in emitted if each.engine == engine and each.model in each.words]
    return own, [(_arguments(each), _config(each.model)) for each in own]


def _refused_by_tables(emitted: Iterable[Emitted]) -> list[tuple[Emitted, str]]:
    refused = []
    for each in emitted:
        words = _arguments(each)
        flags = words[1:] if each.engine == "vllm" else words[2:]
        try:
            parse_command_line(flags, shipped_arguments(each.engine))
        except BudsimError as error:
            refused.append((each, str(error)))
    return refused


def _config(model: str) -> Mapping[str, object]:
    """Return the catalog's config.json of a model, with the fields that it leaves out."""
    return completed(catalog_entries()[model.lower()].config)


def completed(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return a configuration with fields that engines read and sizes do not depend on."""
    whole = {**CONFIG_FIELDS.get(str(config.get("model_type")), {}), **config}
    stored = whole.get("quantization_config")
    if isinstance(stored, Mapping):
        method = str(stored.get("quant_method"))
        whole["quantization_config"] = {**QUANTIZATION_FIELDS.get(method, {}), **stored}
        groups = stored.get("config_groups")
        if isinstance(groups, Mapping):
            completed_groups = {name: _group(group) for name, group in groups.items()}
            whole["quantization_config"]["config_groups"] = completed_groups
    return whole


def _group(group: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a group of compressed-tensors whose 8 bit weights meet activations of 8 bits."""
    weights = group.get("weights", {})
    if weights.get("num_bits") != 8 or "input_activations" in group:
        return group
    activations = {**GROUP_OF_8_BIT["input_activations"], "type": weights.get("type", "int")}
    return {
        **group,
        "weights": {**GROUP_OF_8_BIT["weights"], **weights},
        "input_activations": activations,
    }


def _refused(
    emitted: Sequence[Emitted], lines: Sequence[object], python: str, program: str
) -> list[tuple[Emitted, str]]:
    """Return the commands that ``program`` refuses in another environment, and its words."""
    done = subprocess.run(
        [python, "-c", program],
        input="".join(json.dumps(line) + "\n" for line in lines),
        capture_output=True,
        text=True,
        check=False,
    )
    answers = [line for line in done.stdout.splitlines() if line.startswith('"')]
    if len(answers) != len(emitted):
        sys.exit(f"read {len(answers)} of {len(emitted)} commands\n{done.stderr[-2000:]}")
    pairs = zip(emitted, map(json.loads, answers), strict=True)
    return [(each, problem) for each, problem in pairs if problem]


def _report(
    emitted: Sequence[Emitted],
    skipped: Mapping[str, int],
    problems: Mapping[str, Sequence[tuple[Emitted, str]]],
) -> str:
    by_engine = Counter(each.engine for each in emitted)
    counts = ", ".join(f"{count} of {engine}" for engine, count in sorted(by_engine.items()))
    lines = ["# Emitted commands", "", f"Distinct commands: {counts or 'none'}."]
    lines += [f"Questions without: {count} ({why})." for why, count in skipped.items() if count]
    for reader, refused in problems.items():
        lines += ["", f"## Read by {reader}: {len(refused)} refused"]
        lines += [f"* {each.question}: {why}: `{' '.join(each.words)}`" for each, why in refused]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
