"""Traces by OpenTelemetry's library, loaded only where traces are on.

Its own variables decide the rest: sampler, batches, limits, headers, certificates, service name, resource attributes.
"""

import os
import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from importlib import import_module
from typing import Any, cast

from opentelemetry import context as otel_context
from opentelemetry import trace
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import SpanLimits, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SimpleSpanProcessor, SpanExporter
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from atelier_server import __version__
from atelier_server.telemetry.origin import Origin
from atelier_server.telemetry.tracing import Value, failure_of

MOST_EVENTS = 2048
"""Steps of one call: 150, of 10 pictures; the library's default of 128 would lose the first ones."""

_KINDS = {"internal": trace.SpanKind.INTERNAL, "client": trace.SpanKind.CLIENT}
_PROPAGATOR = TraceContextTextMapPropagator()
_NO_FAULTS = ("CANCELLED", "CancelledError", "GeneratorExit")
"""That a caller left is nobody's failure."""


def resource(service: str, attributes: Mapping[str, Value]) -> Resource:
    """What every span and metric of the process tells."""
    told: dict[str, Any] = {f"atelier.{name}": value for name, value in attributes.items()}
    told |= {"service.version": __version__, "process.pid": os.getpid()}
    if not os.environ.get("OTEL_SERVICE_NAME"):
        told["service.name"] = service
    return Resource.create(told)


def protocol(signal: str) -> str:
    """`http` or `grpc`, the folder of the exporter's package; http/protobuf unless a variable says grpc."""
    general = os.environ.get("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf")
    return os.environ.get(f"OTEL_EXPORTER_OTLP_{signal}_PROTOCOL", general).partition("/")[0]


def exporter() -> SpanExporter:
    """The OTLP exporter that the variables describe."""
    module = import_module(f"opentelemetry.exporter.otlp.proto.{protocol('TRACES')}.trace_exporter")
    return cast(SpanExporter, module.OTLPSpanExporter())


class OtelTracing:
    """See tracing.Tracing.

    Args:
        described: What every span tells of its process.
        exporter: Where spans go.
        at_once: Whether each goes when it ends rather than in batches.
    """

    def __init__(self, described: Resource, exporter: SpanExporter, *, at_once: bool = False) -> None:
        limits = None if os.environ.get("OTEL_SPAN_EVENT_COUNT_LIMIT") else SpanLimits(max_events=MOST_EVENTS)
        self._provider = TracerProvider(resource=described, span_limits=limits, shutdown_on_exit=False)
        self._provider.add_span_processor((SimpleSpanProcessor if at_once else BatchSpanProcessor)(exporter))
        self._tracer = self._provider.get_tracer("atelier_server", __version__)

    def span(self, name: str, attributes: Mapping[str, Value], kind: str) -> AbstractContextManager["OtelSpan"]:
        """See Tracing."""
        return _opened(self._tracer.start_span(name, kind=_KINDS[kind], attributes=_named(attributes)))

    def server(self, name: str, headers: Mapping[str, str]) -> AbstractContextManager["OtelSpan"]:
        """See Tracing."""
        service, _, method = name.partition("/")
        attributes = {"rpc.system": "grpc", "rpc.service": service, "rpc.method": method}
        parent = _PROPAGATOR.extract(dict(headers), otel_context.Context())
        return _opened(self._tracer.start_span(name, parent, trace.SpanKind.SERVER, attributes))

    def job(self, name: str, origin: Origin, attributes: Mapping[str, Value]) -> "OtelJobSpans":
        """See Tracing."""
        parent = _PROPAGATOR.extract(origin.headers(), otel_context.Context())
        told = _named(attributes) | {"atelier.request_id": origin.request_id}
        return OtelJobSpans(self._tracer, self._tracer.start_span(name, parent, trace.SpanKind.SERVER, told))

    def headers(self) -> dict[str, str]:
        """See Tracing."""
        headers: dict[str, str] = {}
        _PROPAGATOR.inject(headers)
        return headers

    def link(self, headers: Mapping[str, str]) -> None:
        """See Tracing."""
        other = trace.get_current_span(_PROPAGATOR.extract(dict(headers), otel_context.Context()))
        trace.get_current_span().add_link(other.get_span_context())

    @contextmanager
    def unrecorded(self) -> Iterator[None]:
        """See Tracing: below a span that is not sampled none is, by the samplers that follow their parent."""
        context = trace.get_current_span().get_span_context()
        silent = trace.SpanContext(context.trace_id, context.span_id, is_remote=False, trace_state=context.trace_state)
        with trace.use_span(trace.NonRecordingSpan(silent)):
            yield

    def shutdown(self) -> None:
        """See Tracing."""
        self._provider.shutdown()


class OtelSpan:
    """See tracing.Span."""

    def __init__(self, inner: trace.Span) -> None:
        self._inner = inner
        self.failed = False

    def set(self, **attributes: Value) -> None:
        """See Span."""
        self._inner.set_attributes(_named(attributes))

    def event(self, name: str, **attributes: Value) -> None:
        """See Span."""
        self._inner.add_event(name, _named(attributes))

    def fail(self, reason: str, *, fault: bool = True) -> None:
        """See Span."""
        self.failed = True
        self._inner.set_attribute("error.type", reason)
        if fault and reason not in _NO_FAULTS:
            self._inner.set_status(trace.StatusCode.ERROR)


class OtelJobSpans:
    """See tracing.JobSpans. The engine's thread and the event loop may meet here; the last to end it finds it ended."""

    def __init__(self, tracer: trace.Tracer, inner: trace.Span) -> None:
        self._tracer = tracer
        self._inner = inner
        self._below = trace.set_span_in_context(inner, otel_context.Context())
        self._stages: dict[str, trace.Span] = {}

    def begin(self, stage: str) -> None:
        """See JobSpans."""
        if stage not in self._stages:
            self._stages[stage] = self._tracer.start_span(stage, self._below)

    def finish(self, stage: str) -> None:
        """See JobSpans."""
        opened = self._stages.pop(stage, None)
        if opened is not None:
            opened.end()

    def event(self, stage: str, name: str, **attributes: Value) -> None:
        """See JobSpans."""
        opened = self._stages.get(stage)
        if opened is not None:
            opened.add_event(name, _named(attributes))

    @contextmanager
    def stage(self, name: str, **attributes: Value) -> Iterator[OtelSpan]:
        """See JobSpans."""
        waits = "queue" in self._stages
        self.finish("queue")
        opened = self._tracer.start_span(name, self._below, attributes=_named(attributes))
        try:
            with _opened(opened) as inner:
                yield inner
        finally:
            if waits and self._inner.is_recording():
                self.begin("queue")

    def measured(self, stage: str, nanoseconds: int, ends_before: int = 0) -> None:
        """See JobSpans."""
        end = time.time_ns() - ends_before
        self._tracer.start_span(stage, self._below, start_time=end - nanoseconds).end(end)

    def end(self, outcome: str = "") -> None:
        """See JobSpans."""
        for stage in list(self._stages):
            self.finish(stage)
        if self._inner.is_recording():
            if outcome:
                OtelSpan(self._inner).fail(outcome)
            self._inner.end()


@contextmanager
def _opened(inner: trace.Span) -> Iterator[OtelSpan]:
    """Makes a span the current one for a block, and ends it. Of an exception it tells no message."""
    opened = OtelSpan(inner)
    try:
        with trace.use_span(inner, record_exception=False, set_status_on_exception=False):
            yield opened
    except BaseException as error:
        if not opened.failed:
            opened.fail(failure_of(error))
        raise
    finally:
        inner.end()


def _named(attributes: Mapping[str, Value]) -> dict[str, Any]:
    return {name if "." in name else f"atelier.{name}": value for name, value in attributes.items()}
