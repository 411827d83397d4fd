"""The envelope of requests, plain or a CloudEvent, and the fields echoed in events."""

from __future__ import annotations

import json
from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from budsim.simulator.wire.fields import MAX_TEXT, Flag, told_as, wrong_field

ENVELOPE_KEYS = ("topic", "pubsubname", "data")
# Some 400 subscriber ids (UUIDs); 12 events of a run then echo less than 200 kB.
MAX_ECHOED_BYTES = 16_384

Texts = Annotated[str | list[str], told_as("text or a list of texts")]
TopicKeys = Annotated[
    str | list[str] | list[dict[str, str]],
    told_as("text, a list of texts, or a list of objects of texts"),
]


class Category(StrEnum):
    """How a notification is shown."""

    INAPP = "inapp"
    INTERNAL = "internal"
    EMAIL = "email"


class NotificationType(StrEnum):
    """To whom a notification goes."""

    EVENT = "event"
    TOPIC = "topic"
    BROADCAST = "broadcast"


class NotificationMetadata(BaseModel):
    """Fields that every event of the run repeats for its listeners."""

    model_config = ConfigDict(extra="ignore")

    notification_type: NotificationType = NotificationType.EVENT
    name: str | None = Field(None, max_length=MAX_TEXT)
    workflow_id: str | None = Field(None, max_length=MAX_TEXT)
    subscriber_ids: Texts | None = None
    actor: str | None = Field(None, max_length=MAX_TEXT)
    topic_keys: TopicKeys | None = None
    category: Category = Category.INTERNAL

    @field_validator("topic_keys")
    @classmethod
    def _name_topics(
        cls, value: str | list[str] | list[dict[str, str]] | None
    ) -> str | list[str] | None:
        """Keep the keys of topics given as objects: listeners take text only."""
        if not isinstance(value, list):
            return value
        return [each if isinstance(each, str) else _topic_key(each) for each in value]

    @model_validator(mode="after")
    def _bound_echo(self) -> Self:
        # It stands in every event of the run, for as long as the run is kept.
        size = len(self.model_dump_json().encode())
        if size > MAX_ECHOED_BYTES:
            problem = f"{size} bytes to be echoed in every event; at most {MAX_ECHOED_BYTES}"
            raise wrong_field("notification_metadata", problem)
        return self


class Body(BaseModel):
    """A request body; unknown fields are refused in a plain one and ignored in a CloudEvent."""

    model_config = ConfigDict(extra="forbid", protected_namespaces=())

    specversion: str | None = Field(None, max_length=MAX_TEXT)
    topic: str | None = Field(None, max_length=MAX_TEXT)
    pubsubname: str | None = Field(None, max_length=MAX_TEXT)
    source: str | None = Field(None, max_length=MAX_TEXT)
    source_topic: Texts | None = None
    data: Any = None
    traceid: str | None = Field(None, max_length=MAX_TEXT)
    tracestate: str | None = Field(None, max_length=MAX_TEXT)
    traceparent: str | None = Field(None, max_length=MAX_TEXT)
    type: str | None = Field(None, max_length=MAX_TEXT)
    time: str | None = Field(None, max_length=MAX_TEXT)
    id: str | None = Field(None, max_length=MAX_TEXT)
    datacontenttype: str | None = Field(None, max_length=MAX_TEXT)
    debug: Flag = False
    notification_metadata: NotificationMetadata | None = None

    @model_validator(mode="before")
    @classmethod
    def _open_cloud_event(cls, value: object) -> object:
        # Checked after decoding: `data` may be JSON in a string, which hides what it spells.
        opened = cls._request_in(value)
        _refuse_unstorable(opened)
        return opened

    @classmethod
    def _request_in(cls, value: object) -> object:
        if not isinstance(value, Mapping) or any(value.get(key) is None for key in ENVELOPE_KEYS):
            return value
        inside = _event_content(value["data"])
        merged = {**value, **inside, "data": None}
        # A repeated delivery is recognized by the event's own id and source, not by the request's.
        merged |= {
            key: value[key]
            for key in ("id", "topic", "pubsubname", "type", "traceparent", "tracestate")
            if key in value
        }
        return {key: content for key, content in merged.items() if key in cls.model_fields}

    @property
    def topics(self) -> tuple[str, ...]:
        """Topics every event of this request is published on, each once."""
        named = (
            [self.source_topic] if isinstance(self.source_topic, str) else self.source_topic or []
        )
        return tuple(dict.fromkeys(topic for topic in named if topic))

    @field_validator("source_topic")
    @classmethod
    def _check_topics(cls, value: str | list[str] | None) -> str | list[str] | None:
        named = value if isinstance(value, list) else [value or ""]
        if len(named) > 16 or any(len(topic) > 255 for topic in named):
            raise ValueError("at most 16 topics of at most 255 characters each")
        return value


def _refuse_unstorable(value: object) -> None:
    """Databases store neither NUL characters nor half surrogate pairs, which JSON can spell."""
    if _is_storable(value):
        return
    fields = value if isinstance(value, Mapping) else {}
    field = next(
        (str(name) for name, content in fields.items() if not _is_storable(content)), "body"
    )
    raise wrong_field(
        field if field.isprintable() else "body",
        "text must be Unicode without NUL characters and half surrogate pairs",
    )


def _is_storable(value: object) -> bool:
    try:
        text = json.dumps(value, ensure_ascii=False, default=str)
        text.encode()
    except UnicodeEncodeError:
        return False
    except RecursionError:  # nested more deeply than it could be written
        return False
    return "\\u0000" not in text


def _event_content(data: object) -> Mapping[str, Any]:
    if isinstance(data, str):
        try:
            data = json.loads(data)
        except (ValueError, RecursionError):
            data = None
    if not isinstance(data, Mapping):
        raise wrong_field("data", "data of a CloudEvent must be a JSON object: the request")
    return data


def _topic_key(named: Mapping[str, str]) -> str:
    """Return the key of a topic given as ``{"type": "Topic", "topicKey": KEY}``."""
    return named.get("topicKey") or named.get("topic_key") or json.dumps(named, sort_keys=True)
