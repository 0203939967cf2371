"""Spans, in one line where something happens: `with span("score"): …`. Without an exporter that is a function call.

Traces are on when the standard variables of OpenTelemetry name a collector (OTEL_EXPORTER_OTLP_ENDPOINT, or
OTEL_EXPORTER_OTLP_TRACES_ENDPOINT); the library is not even loaded otherwise. A caller's W3C context is passed on and
stands in the log either way. No attribute ever holds a prompt. docs/12-observability.md lists every span.
"""

import importlib
import os
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Protocol

from atelier_server.telemetry.origin import TRACEPARENT, TRACESTATE, Origin, request_id, trace_headers

Value = str | bool | int | float
"""What an attribute may be."""

SHUTDOWN_SECONDS = 3.0
"""The last spans get so long to leave; a collector that is gone must not hold up the end of a process."""


class Span(Protocol):
    """A span that is open."""

    def set(self, **attributes: Value) -> None:
        """Adds attributes; their names get the prefix `atelier.`."""

    def event(self, name: str, **attributes: Value) -> None:
        """Notes a moment within it."""

    def fail(self, reason: str, *, fault: bool = True) -> None:
        """Notes why it failed, and whether that is a fault to look into."""


class JobSpans(Protocol):
    """A job that threads work on by turns: its span, and one below it for each of its stages."""

    def begin(self, stage: str) -> None:
        """Opens a stage, unless it is open."""

    def finish(self, stage: str) -> None:
        """Closes a stage, if it is open."""

    def event(self, stage: str, name: str, **attributes: Value) -> None:
        """Notes a moment within an open stage."""

    def stage(self, name: str, **attributes: Value) -> AbstractContextManager[object]:
        """Runs a block as a stage; a job that waits in its queue does not while the block runs."""

    def measured(self, stage: str, nanoseconds: int, ends_before: int = 0) -> None:
        """Adds a stage that has just ended, or that ended `ends_before` nanoseconds ago."""

    def end(self, outcome: str = "") -> None:
        """Closes everything; `outcome` tells why it failed, empty when it did not. Further calls do nothing."""


class Tracing(Protocol):
    """What a library for traces does; atelier_server.telemetry.otel has the one there is."""

    def span(self, name: str, attributes: Mapping[str, Value], kind: str) -> AbstractContextManager[Span]:
        """Opens a span below the one of this context."""

    def server(self, name: str, headers: Mapping[str, str]) -> AbstractContextManager[Span]:
        """Opens the span of a call from outside."""

    def job(self, name: str, origin: Origin, attributes: Mapping[str, Value]) -> JobSpans:
        """Opens the span of a job."""

    def headers(self) -> dict[str, str]:
        """The context of the open span for the next hop; empty without one."""

    def link(self, headers: Mapping[str, str]) -> None:
        """Lets the open span point to another one by that one's context."""

    def unrecorded(self) -> AbstractContextManager[None]:
        """Lets nothing of a block be recorded."""

    def shutdown(self) -> None:
        """Sends what is left."""


class _NoSpan:
    """Takes everything and keeps nothing."""

    def set(self, **attributes: Value) -> None:
        return None

    def event(self, name: str, **attributes: Value) -> None:
        return None

    def fail(self, reason: str, *, fault: bool = True) -> None:
        return None


class _NoJobSpans:
    """Likewise."""

    def begin(self, stage: str) -> None:
        return None

    def finish(self, stage: str) -> None:
        return None

    def event(self, stage: str, name: str, **attributes: Value) -> None:
        return None

    def stage(self, name: str, **attributes: Value) -> AbstractContextManager[object]:
        return _NOTHING

    def measured(self, stage: str, nanoseconds: int, ends_before: int = 0) -> None:
        return None

    def end(self, outcome: str = "") -> None:
        return None


_NOTHING: AbstractContextManager[Span] = nullcontext(_NoSpan())
NO_JOB_SPANS: JobSpans = _NoJobSpans()
_tracing: Tracing | None = None


def wanted(signal: str = "traces", environment: Mapping[str, str] = os.environ) -> bool:
    """Whether OpenTelemetry's variables ask for a signal: traces or metrics."""
    if environment.get("OTEL_SDK_DISABLED", "").lower() == "true":
        return False
    if "otlp" not in environment.get(f"OTEL_{signal.upper()}_EXPORTER", "otlp").split(","):
        return False
    names = ("OTEL_EXPORTER_OTLP_ENDPOINT", f"OTEL_EXPORTER_OTLP_{signal.upper()}_ENDPOINT")
    return any(environment.get(name) for name in names)


def configure_tracing(service: str, **resource: Value) -> None:
    """Turns traces on for this process if they are wanted.

    Args:
        service: Its name, unless OTEL_SERVICE_NAME gives another.
        resource: What every span of the process tells beside it, by names with the prefix `atelier.`.
    """
    if wanted("traces"):
        otel = importlib.import_module("atelier_server.telemetry.otel")
        use_tracing(otel.OtelTracing(otel.resource(service, resource), otel.exporter()))


def use_tracing(tracing: Tracing | None) -> None:
    """Replaces what records spans; None turns traces off."""
    global _tracing
    _tracing = tracing


def shutdown_tracing() -> None:
    """Sends what is left, within SHUTDOWN_SECONDS, and turns traces off. Blocks."""
    tracing = _tracing
    if tracing is not None:
        use_tracing(None)
        sending = threading.Thread(target=tracing.shutdown, name="last spans", daemon=True)
        sending.start()
        sending.join(SHUTDOWN_SECONDS)


def span(name: str, *, kind: str = "internal", **attributes: Value) -> AbstractContextManager[Span]:
    """A span around a block, below the one that is open in this context. An exception marks it as failed.

    Args:
        name: One of those in docs/12-observability.md.
        kind: internal, or client where another process is asked.
        attributes: Their names get the prefix `atelier.`; never a prompt.
    """
    return _NOTHING if _tracing is None else _tracing.span(name, attributes, kind)


@contextmanager
def server_span(name: str, headers: Mapping[str, str], *, traced: bool = True) -> Iterator[Span]:
    """The span of a call from outside, below the caller's own; the caller's context holds in the block in any case."""
    token = trace_headers.set(headers)
    try:
        with _tracing.server(name, headers) if _tracing is not None and traced else _NOTHING as opened:
            yield opened
    finally:
        trace_headers.reset(token)


def job_spans(name: str, origin: Origin, **attributes: Value) -> JobSpans:
    """The span of a job that began now; whoever takes it ends it."""
    return NO_JOB_SPANS if _tracing is None else _tracing.job(name, origin, attributes)


def unrecorded(without: bool) -> AbstractContextManager[object]:
    """Lets nothing of a block be recorded if `without` says so."""
    return _tracing.unrecorded() if without and _tracing is not None else nullcontext()


def link_to(headers: Mapping[str, str]) -> None:
    """Lets the open span point to where its work is done, which another call began; its own context is no news."""
    if _tracing is not None and headers != current_headers():
        _tracing.link(headers)


def current_headers() -> Mapping[str, str]:
    """The trace context of this moment for the next hop: the open span's, or else the caller's own."""
    return (_tracing.headers() if _tracing is not None else {}) or trace_headers.get()


def current_origin() -> Origin:
    """What work that leaves this process now is done for."""
    headers = current_headers()
    return Origin(request_id.get(), headers.get(TRACEPARENT, ""), headers.get(TRACESTATE, ""))


def current_trace_id() -> str:
    """For the log; empty outside of any trace."""
    return Origin(traceparent=current_headers().get(TRACEPARENT, "")).trace_id


def failure_of(error: BaseException) -> str:
    """What a span says of an exception: its reason or class. Messages may quote what a caller wrote."""
    return str(getattr(error, "reason", "") or type(error).__name__)


def joined(values: Iterable[object]) -> str:
    """Several values as one attribute."""
    return ",".join(map(str, values))
