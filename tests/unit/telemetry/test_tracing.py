"""Spans: nothing without an exporter, and the right shape with one."""

import asyncio
import subprocess
import sys
from collections.abc import Iterator

import pytest
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from atelier_server.errors import InvalidArgument
from atelier_server.telemetry import tracing
from atelier_server.telemetry.origin import Origin, read_headers
from atelier_server.telemetry.otel import OtelTracing

TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
HEADERS = {"traceparent": f"00-{TRACE}-{PARENT}-01", "tracestate": "vendor=1"}


@pytest.fixture
def exporter() -> Iterator[InMemorySpanExporter]:
    kept = InMemorySpanExporter()
    tracing.use_tracing(OtelTracing(Resource({}), kept, at_once=True))
    yield kept
    tracing.shutdown_tracing()


def named(exporter: InMemorySpanExporter, name: str) -> ReadableSpan:
    (found,) = [span for span in exporter.get_finished_spans() if span.name == name]
    return found


def test_without_an_exporter_every_hook_is_the_same_object_and_loads_no_library() -> None:
    code = (
        "import sys; from atelier_server.telemetry import tracing; from atelier_server.telemetry.origin import Origin;"
        "assert tracing.span('a', x=1) is tracing.span('b');"
        "assert tracing.job_spans('a', Origin()) is tracing.NO_JOB_SPANS;"
        "tracing.configure_tracing('x'); tracing.shutdown_tracing();"
        "assert not any(name.startswith('opentelemetry') for name in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, env={"PYTHONPATH": ":".join(sys.path)})


@pytest.mark.parametrize(
    ("variables", "traces", "metrics"),
    [
        ({}, False, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://x"}, True, True),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://x"}, True, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://x", "OTEL_METRICS_EXPORTER": "none"}, True, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://x", "OTEL_TRACES_EXPORTER": "console"}, False, True),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://x", "OTEL_SDK_DISABLED": "true"}, False, False),
    ],
)
def test_the_standard_variables_decide(variables: dict[str, str], traces: bool, metrics: bool) -> None:
    assert (tracing.wanted("traces", variables), tracing.wanted("metrics", variables)) == (traces, metrics)


@pytest.mark.parametrize(
    "value", ["", "nonsense", f"00-{'0' * 32}-{PARENT}-01", f"00-{TRACE}-{'0' * 16}-01", f"ff-{TRACE}-{PARENT}-01"]
)
def test_a_wrong_context_counts_as_none(value: str) -> None:
    assert read_headers([("traceparent", value), ("tracestate", "a=1")]) == {}


def test_a_callers_context_is_passed_on_without_an_exporter() -> None:
    metadata: list[tuple[str, str | bytes]] = [*HEADERS.items(), ("x-other", b"1")]
    with tracing.server_span("service/Method", read_headers(metadata)):
        assert tracing.current_headers() == HEADERS
        assert tracing.current_trace_id() == TRACE
        assert tracing.current_origin().headers() == HEADERS
    assert tracing.current_trace_id() == ""


def test_spans_nest_below_the_caller(exporter: InMemorySpanExporter) -> None:
    with tracing.server_span("service/Method", HEADERS), tracing.span("score", kind="client", model="m"):
        assert tracing.current_trace_id() == TRACE
        assert tracing.current_headers()["traceparent"] != HEADERS["traceparent"]
        assert tracing.current_headers()["tracestate"] == "vendor=1"
    outer, inner = named(exporter, "service/Method"), named(exporter, "score")
    assert outer.parent is not None
    assert f"{outer.parent.span_id:016x}" == PARENT
    assert inner.parent is not None
    assert outer.context is not None
    assert inner.parent.span_id == outer.context.span_id
    assert dict(inner.attributes or {}) == {"atelier.model": "m"}


def test_a_failure_tells_its_reason_and_never_its_message(exporter: InMemorySpanExporter) -> None:
    with pytest.raises(InvalidArgument), tracing.span("route"):
        raise InvalidArgument("the prompt 'secret' is too long", reason="PROMPT_TOO_LONG")
    route = named(exporter, "route")
    assert dict(route.attributes or {}) == {"error.type": "PROMPT_TOO_LONG"}
    assert not route.status.is_ok
    assert "secret" not in route.to_json()


def test_a_caller_who_leaves_is_no_failure(exporter: InMemorySpanExporter) -> None:
    with pytest.raises(asyncio.CancelledError), tracing.span("generate"):
        raise asyncio.CancelledError
    assert named(exporter, "generate").status.description is None
    assert named(exporter, "generate").status.status_code.name == "UNSET"


def test_the_stages_of_a_job_follow_each_other(exporter: InMemorySpanExporter) -> None:
    spans = tracing.job_spans("run_diffusion", Origin("call-1", HEADERS["traceparent"]), steps=2)
    spans.begin("queue")
    with spans.stage("encode_text"):
        pass
    spans.finish("queue")
    spans.begin("denoise")
    spans.event("denoise", "step", step=1)
    spans.end()
    spans.end("too late")
    names = [span.name for span in exporter.get_finished_spans()]
    assert names == ["queue", "encode_text", "queue", "denoise", "run_diffusion"]
    job = named(exporter, "run_diffusion")
    assert dict(job.attributes or {}) == {"atelier.steps": 2, "atelier.request_id": "call-1"}
    assert job.context is not None
    assert f"{job.context.trace_id:032x}" == TRACE
    assert [event.name for event in named(exporter, "denoise").events] == ["step"]


def test_work_that_another_call_began_is_linked(exporter: InMemorySpanExporter) -> None:
    with tracing.server_span("service/Method", {}):
        tracing.link_to(tracing.current_headers())
        tracing.link_to(HEADERS)
    (link,) = named(exporter, "service/Method").links
    assert f"{link.context.trace_id:032x}" == TRACE


def test_nothing_of_a_block_is_recorded_where_that_is_asked_for(exporter: InMemorySpanExporter) -> None:
    with tracing.server_span("service/Method", HEADERS):
        with tracing.unrecorded(True), tracing.span("infer"):
            assert tracing.current_trace_id() == TRACE
            assert tracing.current_headers()["traceparent"].endswith("-00")
            tracing.job_spans("run_tensors", tracing.current_origin()).end()
        with tracing.unrecorded(False), tracing.span("route"):
            pass
    assert [span.name for span in exporter.get_finished_spans()] == ["route", "service/Method"]
