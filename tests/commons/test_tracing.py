"""Trace ids as they come in, and spans as a collector receives them."""

import threading
from collections.abc import Iterator
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from budsim.commons.tracing import Exported, trace_id, tracing

TRACE = "0af7651916cd43dd8448eb211c80319c"
PARENT = f"00-{TRACE}-b7ad6b7169203331-01"


class Collector:
    """Takes OTLP over HTTP."""

    def __init__(self) -> None:
        self.spans: list[object] = []
        spans = self.spans

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                if self.headers.get("content-encoding") == "gzip":
                    import gzip

                    body = gzip.decompress(body)
                assert self.path == "/v1/traces"
                for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
                    spans.extend(span for scope in resource.scope_spans for span in scope.spans)
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_arguments: object) -> None:
                """Say nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        self.endpoint = f"http://127.0.0.1:{self._server.server_address[1]}"

    def close(self) -> None:
        """Stop serving."""
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def collector() -> Iterator[Collector]:
    """Yield a collector."""
    server = Collector()
    yield server
    server.close()


@pytest.mark.parametrize(
    "text",
    [
        None,
        "",
        "00-abc-def-01",
        PARENT.upper(),
        f"ff-{TRACE}-b7ad6b7169203331-01",
        f"00-{32 * '0'}-b7ad6b7169203331-01",
        7,
    ],
)
def test_a_malformed_traceparent_is_no_trace(text: object):
    """What does not fit the specification is ignored, not passed on."""
    assert trace_id(text) is None
    with tracing(None).span("step", text) as inside:
        assert inside is None


def test_without_a_collector_the_trace_is_passed_on():
    """The traceparent that came in is the one that goes out."""
    assert trace_id(PARENT) == TRACE
    with tracing(None).span("step", PARENT) as inside:
        assert inside == PARENT


def test_a_collector_receives_spans_of_the_caller_s_trace(collector: Collector):
    """Our span is a child of the caller's and the parent of the next; failures are marked."""
    traces = Exported(collector.endpoint)
    with traces.span("validation", PARENT, workflow_id="w-1") as inside:
        assert trace_id(inside) == TRACE
    with pytest.raises(KeyError), traces.span("ranking", inside):
        raise KeyError
    traces.close()
    first, second = collector.spans
    assert (first.name, first.trace_id.hex(), first.parent_span_id.hex()) == (
        "validation",
        TRACE,
        "b7ad6b7169203331",
    )
    assert {pair.key: pair.value.string_value for pair in first.attributes} == {
        "workflow_id": "w-1"
    }
    assert second.parent_span_id == first.span_id
    assert second.status.code == 2


def test_a_missing_collector_delays_nobody():
    """Spans for nobody are dropped; what runs inside does not notice."""
    with (
        closing(Exported("http://127.0.0.1:9")) as traces,
        traces.span("validation", None) as inside,
    ):
        assert trace_id(inside)
