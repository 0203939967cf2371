"""A collector for OpenTelemetry's protocol (http/protobuf) that keeps what it is sent, for tests of what is sent."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

PATIENCE_SECONDS = 60.0


@dataclass(frozen=True)
class SeenSpan:
    """A span as it arrived; ids as hexadecimal digits, times in nanoseconds since the epoch."""

    name: str
    trace_id: str
    span_id: str
    parent_id: str
    start: int
    end: int
    failed: bool
    attributes: dict[str, Any]
    resource: dict[str, Any]
    events: list[tuple[str, dict[str, Any]]] = field(default_factory=list)


class Collector:
    """What arrived so far."""

    def __init__(self) -> None:
        self.spans: list[SeenSpan] = []
        self.metrics: dict[str, Any] = {}
        self.raw = b""
        self._changed = threading.Condition()
        self.endpoint = ""

    def wait_for(self, condition: Callable[[list[SeenSpan]], bool]) -> list[SeenSpan]:
        """The spans, once they fulfil a condition."""
        with self._changed:
            reached = self._changed.wait_for(lambda: condition(self.spans), PATIENCE_SECONDS)
            assert reached, f"only these spans arrived: {sorted(span.name for span in self.spans)}"
            return list(self.spans)

    def wait_for_metric(self, name: str, condition: Callable[[Any], bool] = lambda metric: True) -> Any:
        """A metric, once it has arrived and fulfils a condition."""

        def arrived() -> bool:
            return name in self.metrics and condition(self.metrics[name])

        with self._changed:
            reached = self._changed.wait_for(arrived, PATIENCE_SECONDS)
            assert reached, f"only these metrics arrived: {sorted(self.metrics)}"
            return self.metrics[name]

    def take(self, path: str, body: bytes) -> None:
        """Keeps what a request brought."""
        with self._changed:
            self.raw += body
            if path == "/v1/traces":
                self.spans += _spans(ExportTraceServiceRequest.FromString(body))
            else:
                for resource in ExportMetricsServiceRequest.FromString(body).resource_metrics:
                    for scope in resource.scope_metrics:
                        self.metrics |= {metric.name: metric for metric in scope.metrics}
            self._changed.notify_all()


@contextmanager
def collecting() -> Iterator[Collector]:
    """Runs a collector on a free port for the time of the block."""
    collector = Collector()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            collector.take(self.path, self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            return None

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    collector.endpoint = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield collector
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def _spans(request: ExportTraceServiceRequest) -> Iterator[SeenSpan]:
    for resource in request.resource_spans:
        described = _values(resource.resource.attributes)
        for scope in resource.scope_spans:
            for span in scope.spans:
                yield SeenSpan(
                    span.name,
                    span.trace_id.hex(),
                    span.span_id.hex(),
                    span.parent_span_id.hex(),
                    span.start_time_unix_nano,
                    span.end_time_unix_nano,
                    span.status.code == span.status.STATUS_CODE_ERROR,
                    _values(span.attributes),
                    described,
                    [(event.name, _values(event.attributes)) for event in span.events],
                )


def _values(attributes: Any) -> dict[str, Any]:
    return {one.key: getattr(one.value, one.value.WhichOneof("value") or "string_value") for one in attributes}
