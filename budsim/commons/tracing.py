"""W3C trace context, and OpenTelemetry spans where a collector is configured; otherwise ids are only passed on.

Spans leave in a thread of their own and are dropped when the collector is slower: no request waits for them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, Protocol

TRACEPARENT = re.compile(
    r"^(?!ff)[0-9a-f]{2}-(?!0{32})(?P<trace_id>[0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}$"
)
"""Trace Context, level 1, section 3.2.2 (https://www.w3.org/TR/trace-context/)."""


def trace_id(traceparent: object) -> str | None:
    """Return the trace id of a `traceparent`, or None when it is none or malformed (then it is to be ignored)."""
    found = TRACEPARENT.match(traceparent) if isinstance(traceparent, str) else None
    return found["trace_id"] if found else None


class Tracing(Protocol):
    """Marks the time something took as part of a trace."""

    def span(
        self, name: str, parent: object, /, **attributes: str
    ) -> AbstractContextManager[str | None]:
        """Return a context that yields the traceparent of what happens inside."""
        ...

    def close(self) -> None:
        """Send what has not left yet."""
        ...


class PassedOn:
    """No collector: who comes with a trace stays in it."""

    def span(
        self, _name: str, parent: object, /, **_attributes: str
    ) -> AbstractContextManager[str | None]:
        """See `Tracing.span`."""
        return nullcontext(str(parent) if trace_id(parent) else None)

    def close(self) -> None:
        """See `Tracing.close`."""


class Exported:
    """Spans to an OpenTelemetry collector over OTLP/HTTP.

    Parameters
    ----------
    endpoint : str
        Base address of the collector; spans go to its path ``/v1/traces``.
    """

    def __init__(self, endpoint: str) -> None:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        exporter = OTLPSpanExporter(endpoint=endpoint.rstrip("/") + "/v1/traces", timeout=5)
        self._provider = TracerProvider(
            resource=Resource.create({"service.name": "budsim"}), shutdown_on_exit=False
        )
        self._provider.add_span_processor(BatchSpanProcessor(exporter))
        self._tracer = self._provider.get_tracer("budsim")
        self._propagator: Any = TraceContextTextMapPropagator()

    @contextmanager
    def span(self, name: str, parent: object, /, **attributes: str) -> Iterator[str | None]:
        """See `Tracing.span`; what is raised inside marks the span as failed."""
        context = self._propagator.extract({"traceparent": parent}) if trace_id(parent) else None
        with self._tracer.start_as_current_span(name, context=context, attributes=attributes):
            carrier: dict[str, str] = {}
            self._propagator.inject(carrier)
            yield carrier.get("traceparent")

    def close(self) -> None:
        """See `Tracing.close`."""
        self._provider.shutdown()


def tracing(endpoint: str | None) -> Tracing:
    """Return what marks spans: nothing is imported and no connection is made without an endpoint."""
    return Exported(endpoint) if endpoint else PassedOn()
