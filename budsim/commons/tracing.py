"""W3C trace context, and OpenTelemetry spans where a collector is configured.

Without a collector trace ids are only passed on. Spans are sent by a thread of their own and are
dropped when the collector is slow, so no request waits for them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, Protocol

# Trace Context, level 1, section 3.2.2 (https://www.w3.org/TR/trace-context/).
TRACEPARENT = re.compile(
    r"^(?!ff)[0-9a-f]{2}-(?!0{32})(?P<trace_id>[0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}$"
)


def trace_id(traceparent: object) -> str | None:
    """Return the trace id of a `traceparent`; None when there is none or it is malformed."""
    found = TRACEPARENT.match(traceparent) if isinstance(traceparent, str) else None
    return found["trace_id"] if found else None


class Tracing(Protocol):
    """Records how long a piece of work took, as part of a trace."""

    def span(
        self, name: str, parent: object, /, **attributes: str
    ) -> AbstractContextManager[str | None]:
        """Return a context that yields the traceparent for the work inside."""
        ...

    def close(self) -> None:
        """Send the spans that have not been sent yet."""
        ...


class NoTracing:
    """Records nothing; a trace that a caller began is passed on."""

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
        """See `Tracing.span`; an exception raised inside marks the span as failed."""
        context = self._propagator.extract({"traceparent": parent}) if trace_id(parent) else None
        with self._tracer.start_as_current_span(name, context=context, attributes=attributes):
            carrier: dict[str, str] = {}
            self._propagator.inject(carrier)
            yield carrier.get("traceparent")

    def close(self) -> None:
        """See `Tracing.close`."""
        self._provider.shutdown()


def tracing(endpoint: str | None) -> Tracing:
    """Return a recorder of spans; without an endpoint nothing is imported or connected."""
    return Exported(endpoint) if endpoint else NoTracing()
