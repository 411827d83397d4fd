"""A model, its load and its targets, as a file or an agent spells them."""

from __future__ import annotations

from typing import Annotated

from pydantic import ConfigDict, Field

from budsim.simulator.planning.question import Disaggregation
from budsim.simulator.wire.fields import Text
from budsim.simulator.wire.guesses import SpeculationFields
from budsim.simulator.wire.kv_stores import KvTierFields
from budsim.simulator.wire.traffic import DailyFields, LoadFields


class ModelFields(SpeculationFields, KvTierFields):
    """A model, and what may be tried for it."""

    model_config = ConfigDict(extra="forbid", protected_namespaces=())

    model: Text = Field(description="Hugging Face id, or a name that `budsim models` lists")
    engines: Annotated[list[Text], Field(max_length=10)] = Field(
        [], description="serving engines that may be used (vllm, sglang); empty: all"
    )
    quantize: bool = Field(False, description="also try quantized weights")
    disaggregated: Disaggregation = Field(
        Disaggregation.OFF,
        description="workers of their own for prefill and decode: off; also, where that is better; "
        "only",
    )
    chance: float | None = Field(
        None, ge=0, lt=1, description="least chance of meeting all targets; null: 0.8"
    )


class ModelLoad(LoadFields, ModelFields):
    """A model, what clients send to it, the targets of its service, and what may be tried.

    Exactly one of ``concurrency`` and ``request_rate`` is given.
    """


class ModelDay(DailyFields, ModelFields):
    """A model, what clients send to it in each hour of a day, and the targets of its service."""
