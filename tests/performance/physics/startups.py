"""Start-ups of real engines as candidates, beside what our memory model says of each.

Run as a module, it writes their table.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import yaml

from budsim.commons.precision import Precision
from budsim.commons.units import GIB
from budsim.engine_ops.engine_profile import EngineProfile
from budsim.engine_ops.memory_rule import MemoryRule
from budsim.engine_ops.profiles import memory_rule, profiles
from budsim.performance.physics.memory import memory_use
from budsim.performance.physics.ranks import Ranks, prepare
from tests.performance.populations import population

FACTS = Path(__file__).parent / "startups.yaml"
DOCUMENT = Path(__file__).parents[3] / "docs" / "memory.md"
MARK = "<!-- written by python -m tests.performance.physics.startups -->\n"
PROFILES = {"vllm": "vllm", "vllm-gaudi": "vllm", "sglang": "sglang"}
DEFAULTS = {
    "device": "H100-SXM",
    "max_num_seqs": 256,
    "max_num_batched_tokens": 8192,
    "max_model_len": 8192,
    "memory_fraction": 0.9,
}
SHORT = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class StartUp:
    """One start-up: ``fact`` is what its log and flags say."""

    fact: Mapping[str, object]

    @property
    def name(self) -> str:
        """What a report calls it."""
        fact = self.fact
        sizes = [f"{size}{fact[size]}" for size in ("tp", "pp") if size in fact]
        sizes += (
            [f"{fact['max_model_len']} tokens"]
            if fact["max_model_len"] != DEFAULTS["max_model_len"]
            else []
        )
        formats = [f"{fact[part]} {part}" for part in ("weights", "cache") if part in fact]
        parts = (
            fact["engine"],
            fact["version"],
            fact["device"],
            fact["model"],
            *sizes,
            *formats,
            fact["memory_fraction"],
        )
        return " ".join(map(str, parts))

    def measured(self, figure: str) -> float | None:
        """Return ``weights_gib``, ``cache_gib`` or ``tokens`` as logged."""
        value = self.fact.get(figure)
        return None if value is None else float(str(value))

    def modelled(self) -> dict[str, float]:
        """Return the same figures as we work them out."""
        memory = memory_use(self._ranks())
        cache, tokens = memory.kv_bytes[0] / GIB, memory.kv_capacity_tokens[0]
        given = self.measured("given_gib")
        if given is not None:
            tokens *= given * GIB / memory.kv_bytes[0]
        return {"weights_gib": memory.weight_bytes[0] / GIB, "cache_gib": cache, "tokens": tokens}

    def _ranks(self) -> Ranks:
        fact = self.fact
        weights = Precision(str(fact.get("weights", "bf16")))
        table = population(
            model=str(fact["model"]),
            device=str(fact["device"]),
            engine=PROFILES[str(fact["engine"])],
            precision=weights,
            kv_precision=Precision(str(fact.get("cache", "bf16"))),
            tp=fact.get("tp", 1),
            pp=fact.get("pp", 1),
            memory_fraction=fact["memory_fraction"],
            max_num_seqs=fact["max_num_seqs"],
            token_budget=fact["max_num_batched_tokens"],
            input_tokens=self._length() / 2,
            output_tokens=self._length() / 2,
        )
        quantization = table.architectures[0].quantization
        stored = (quantization.precision if quantization else weights, table.precisions[1])
        return prepare(replace(table, engines=(self._engine(),), precisions=stored))

    def _length(self) -> int:
        """Return the sequence length the log counts in.

        Before 0.21 vLLM counted windowed layers as if they held everything.
        """
        counts_windows = str(self.fact["version"]) >= "0.21"
        return int(str(self.fact["max_model_len"])) if counts_windows else SHORT

    def _engine(self) -> EngineProfile:
        return replace(profiles()[PROFILES[str(self.fact["engine"])]], memory=self._rule())

    def _rule(self) -> MemoryRule:
        rule = memory_rule(str(self.fact["engine"]), str(self.fact["version"]))
        if self.fact.get("fused_sampling"):
            rule = replace(rule, logit_bytes=memory_rule("vllm", "0.17").logit_bytes)
        return replace(rule, graph_share=float(str(self.fact.get("graph_share", rule.graph_share))))


def start_ups() -> list[StartUp]:
    """Return every start-up of the file, its group's flags and the defaults filled in."""
    groups = yaml.safe_load(FACTS.read_text(encoding="utf-8"))
    shared = [
        {name: value for name, value in group.items() if name != "start_ups"} for group in groups
    ]
    return [
        StartUp(fact={**DEFAULTS, **common, **fact})
        for common, group in zip(shared, groups, strict=True)
        for fact in group["start_ups"]
    ]


def document() -> str:
    """Return docs/memory.md with its table as it is today."""
    told = DOCUMENT.read_text(encoding="utf-8").split(MARK)[0]
    head = (
        "| start-up | weights GiB | ours | cache GiB | ours | tokens | ours |\n"
        "|---|---|---|---|---|---|---|\n"
    )
    return told + MARK + head + "".join(f"{_line(each)}\n" for each in start_ups())


def _line(each: StartUp) -> str:
    modelled = each.modelled()
    cells = [_cells(each.measured(figure), modelled[figure], digits) for figure, digits in _FIGURES]
    note = f"; {each.fact['outside']}" if "outside" in each.fact else ""
    return f"| {each.name}{note} | " + " | ".join(cells) + " |"


def _cells(measured: float | None, ours: float, digits: int) -> str:
    return (
        " | "
        if measured is None
        else f"{measured:,.{digits}f} | {ours / measured - 1.0:+.1%}".replace("-0.0%", "+0.0%")
    )


_FIGURES = (("weights_gib", 2), ("cache_gib", 2), ("tokens", 0))

if __name__ == "__main__":
    DOCUMENT.write_text(document(), encoding="utf-8")
