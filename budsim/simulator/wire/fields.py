"""Bounded types of single fields, and the units of the wire."""

from __future__ import annotations

import math
from typing import Annotated

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    ValidationError,
    ValidatorFunctionWrapHandler,
    WrapValidator,
)
from pydantic_core import PydanticCustomError

from budsim.commons.units import GIB
from budsim.model_ops.media import LONGEST_AUDIO_S, MOST_FRAMES
from budsim.performance.limits import MOST_REQUESTS, MOST_TOKENS
from budsim.performance.prefixes import MOST_SET_TOKENS, MOST_TURNS
from budsim.performance.traffic import MOST_RATE
from budsim.simulator.planning.days import LONGEST_LEAD_S

# Bytes of a GB of the wire: the inventory's writer calls a GiB a GB, and callers do the same.
WIRE_GB = GIB

MAX_TEXT = 1024
# ms, s or tokens/s: no service is so fast, and figures are divided by targets.
LEAST_TARGET = 1e-6


def only_number(value: object) -> object:
    """Refuse what is no number in JSON.

    Raises
    ------
    ValueError
        The value is text, true or false.
    """
    # Pydantic would read true as 1 and "4" as 4: what a caller did not mean would go unnoticed.
    if isinstance(value, bool):
        raise ValueError("must be a number, not true or false")
    if isinstance(value, str):
        raise ValueError("must be a number, not text")
    return value


def _only_bool(value: object) -> object:
    if not isinstance(value, bool):
        raise ValueError("must be true or false")
    return value


def _no_tiny_target(value: float) -> float:
    if 0 < value < LEAST_TARGET:
        raise ValueError(f"must be 0 (no target) or at least {LEAST_TARGET:g}")
    return value


Text = Annotated[str, Field(min_length=1, max_length=MAX_TEXT)]
Tokens = Annotated[int, Field(ge=1, le=MOST_TOKENS), BeforeValidator(only_number)]
Concurrency = Annotated[int, Field(ge=1, le=MOST_REQUESTS), BeforeValidator(only_number)]
Parallel = Annotated[int, Field(ge=1, le=1024), BeforeValidator(only_number)]
Items = Annotated[int, Field(ge=0, le=MOST_FRAMES), BeforeValidator(only_number)]
Seconds = Annotated[
    float, Field(ge=0, le=LONGEST_AUDIO_S, allow_inf_nan=False), BeforeValidator(only_number)
]
SetTokens = Annotated[
    float, Field(ge=1, le=MOST_SET_TOKENS, allow_inf_nan=False), BeforeValidator(only_number)
]
Turns = Annotated[int, Field(ge=1, le=MOST_TURNS), BeforeValidator(only_number)]
Interval = Annotated[float, Field(gt=0, allow_inf_nan=False), BeforeValidator(only_number)]
Gib = Annotated[float, Field(ge=0, le=65536, allow_inf_nan=False), BeforeValidator(only_number)]
Loras = Annotated[int, Field(ge=0, le=1024), BeforeValidator(only_number)]
LoraRank = Annotated[int, Field(ge=1, le=512), BeforeValidator(only_number)]
Target = Annotated[
    float,
    Field(ge=0, le=1e9, allow_inf_nan=False),
    BeforeValidator(only_number),
    AfterValidator(_no_tiny_target),
]
Rate = Annotated[
    float, Field(gt=0, le=MOST_RATE, allow_inf_nan=False), BeforeValidator(only_number)
]
HourlyRate = Annotated[
    float, Field(ge=0, le=MOST_RATE, allow_inf_nan=False), BeforeValidator(only_number)
]
LeadTime = Annotated[
    float, Field(ge=0, le=LONGEST_LEAD_S, allow_inf_nan=False), BeforeValidator(only_number)
]
Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False), BeforeValidator(only_number)]
Threshold = Annotated[float, Field(ge=0, le=1e6, allow_inf_nan=False), BeforeValidator(only_number)]
Chance = Annotated[float, Field(ge=0, lt=1, allow_inf_nan=False), BeforeValidator(only_number)]
Flag = Annotated[bool, BeforeValidator(_only_bool)]


def told_as(expected: str) -> WrapValidator:
    """Return a validator that answers any error of a field of several types with one message.

    Pydantic would answer one problem for each type, each under a name of its own.
    """

    def check(value: object, parse: ValidatorFunctionWrapHandler) -> object:
        """Parse the value as the field says."""
        try:
            return parse(value)
        except ValidationError as error:
            raise ValueError(f"must be {expected}") from error

    return WrapValidator(check)


def wrong_field(field: str, message: str) -> PydanticCustomError:
    """Return an error of a check over several fields that names the one to look at."""
    return PydanticCustomError("wrong_field", "{message}", {"field": field, "message": message})


def is_none(value: object) -> bool:
    """Return whether a field is to be left out of an answer, as it says nothing."""
    return value is None


def finite_or_none(value: float) -> float | None:
    """Return a number JSON can hold: none of what was not counted."""
    return value if math.isfinite(value) else None


def gigabytes(size_bytes: float) -> float:
    """Return bytes in the wire's GB, to three decimals."""
    return round(size_bytes / WIRE_GB, 3)
