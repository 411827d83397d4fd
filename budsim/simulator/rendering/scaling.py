"""Reads from a document of `budsim day` when replicas are added, and how many there may be."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Final
from zoneinfo import available_timezones

from pydantic import BaseModel, Field, ValidationError

from budsim.commons.errors import InvalidInput

DOCUMENT: Final = "what `budsim day --json` prints"
LARGEST: Final = 1e9
# How names of the IANA database of time zones are spelled.
ZONE: Final = r"[A-Za-z][A-Za-z0-9_+\-]*(/[A-Za-z0-9_+\-]+)*"

Replicas = Annotated[int, Field(ge=1, le=1_000_000)]


class Scaling(BaseModel):
    """How many replicas there may be, and the load of one at which the next is started.

    ``in_flight_to_scale_at`` are mean requests running and waiting on a replica, and
    ``in_flight_per_replica`` the most with which it meets its targets. ``replicas_by_hour`` has 24
    entries of a whole day, from midnight.
    """

    min_replicas: Replicas
    max_replicas: Replicas
    lead_time_s: float = Field(ge=0, le=3600)
    replicas_by_hour: list[Replicas] = Field(default_factory=list, max_length=24)
    in_flight_per_replica: float = Field(gt=0, le=LARGEST)
    in_flight_to_scale_at: float = Field(gt=0, le=LARGEST)
    requests_per_s_per_replica: float = Field(gt=0, le=LARGEST)


@dataclass(frozen=True, slots=True, kw_only=True)
class Metrics:
    """Where an autoscaler asks for metrics, and the time zone of the day's hours."""

    address: str = "http://prometheus-server.monitoring.svc:9090"
    timezone: str = "Etc/UTC"

    def __post_init__(self) -> None:
        """Refuse an address or a zone that the autoscaler would fail on once it runs."""
        if not re.fullmatch(r"https?://[^\s/?#]+\S*", self.address):
            expected = "an address such as http://prometheus:9090"
            raise InvalidInput("prometheus", f"is {self.address[:60]!r}", expected)
        # A system without the zones' data knows none of them: then the spelling alone counts.
        known = available_timezones() or {self.timezone}
        if self.timezone not in known or not re.fullmatch(ZONE, self.timezone):
            expected = "a zone of the IANA database, such as Europe/Berlin"
            raise InvalidInput("timezone", f"is {self.timezone[:60]!r}", expected)


USUAL_METRICS: Final = Metrics()


def scaling_of(document: Mapping[str, Any]) -> Scaling | None:
    """Return the scaling of a document, None where it is not about a day.

    Raises
    ------
    InvalidInput
        The document's scaling is not as `budsim day` writes it; names the field.
    """
    entry = document.get("scaling")
    if entry is None:
        return None
    try:
        return Scaling.model_validate(entry)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(["PLAN.scaling", *map(str, first["loc"])])
        raise InvalidInput(where, first["msg"], DOCUMENT) from None
