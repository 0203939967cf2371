"""What a running server tells of itself: its health from a shell, its metrics, and which requests leave spans."""

import asyncio
import subprocess
import sys
import urllib.request
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import grpc
import numpy as np
import pytest
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from prometheus_client.parser import text_string_to_metric_families

from atelier_server._generated.atelier.kserve import grpc_service_pb2 as pb
from atelier_server.cli import main
from atelier_server.frontend.app import subprocess_executor
from atelier_server.telemetry import tracing
from atelier_server.telemetry.otel import OtelTracing
from atelier_server.testing import RunningServer, echo_server, write_echo_model
from atelier_server.testing.openai_server import OpenAIServer
from tests.integration.grpc_kit import heard, images, request, until
from tests.integration.kserve_kit import infer_request, stub, write_double
from tests.integration.security_kit import authority, signed

TRACEPARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
PROMPT = "a bag"


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[RunningServer]:
    write_echo_model(tmp_path / "models", step_seconds=0.02)
    write_double(tmp_path / "models")
    async with echo_server(tmp_path) as running:
        yield running


@pytest.fixture
def spans() -> Iterator[InMemorySpanExporter]:
    kept = InMemorySpanExporter()
    tracing.use_tracing(OtelTracing(Resource({}), kept, at_once=True))
    yield kept
    tracing.shutdown_tracing()


def scraped(url: str) -> dict[str, float]:
    """Samples without labels' values: their sum, by name."""
    with urllib.request.urlopen(f"{url}/metrics") as page:
        text = page.read().decode()
    sums: dict[str, float] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            sums[sample.name] = sums.get(sample.name, 0.0) + sample.value
    return sums


async def test_a_generation_shows_in_every_metric_that_is_about_it(server: RunningServer) -> None:
    await heard(server)
    await server.app.registry.get("echo").refresh()
    numbers = await asyncio.to_thread(scraped, server.metrics_url)
    counted = {
        "atelier_pictures_total": 1,
        "atelier_generation_seconds_count": 1,
        "atelier_queue_seconds_count": 1,
        "atelier_step_seconds_count": 3,
        "atelier_batch_rows_sum": 3,
        "atelier_grpc_calls_total": 1,
        "atelier_model_ready": 2,
    }
    assert {name: numbers[name] for name in counted} == counted
    assert numbers["atelier_step_seconds_sum"] >= 0.06
    assert numbers["atelier_stage_seconds_count"] >= 6


async def test_leaving_a_stream_saves_steps_and_a_wrong_call_counts_as_refused(server: RunningServer) -> None:
    call = images(server).Generate(request(num_inference_steps=100, seed=1))
    async for event in call:
        if event.HasField("progress"):
            break
    call.cancel()
    status = await until(server, lambda seen: seen.counters.get("aborts_total", 0) == 1)
    assert 0 < status.counters["steps_saved_total"] < 100
    with pytest.raises(grpc.aio.AioRpcError):
        await heard(server, width=7)
    numbers = await asyncio.to_thread(scraped, server.metrics_url)
    assert numbers["atelier_cancelled_steps_saved_total"] == status.counters["steps_saved_total"]
    assert numbers["atelier_refusals_total"] == 1


async def test_trace_settings_decide_which_inferences_leave_spans(
    server: RunningServer, spans: InMemorySpanExporter
) -> None:
    async def infer() -> set[str]:
        spans.clear()
        await stub(server).ModelInfer(infer_request({"x": np.ones((1, 2), np.float32)}))
        return {span.name for span in spans.get_finished_spans()} - {"inference.GRPCInferenceService/ModelInfer"}

    async def set_level(level: str) -> None:
        settings = pb.TraceSettingRequest(model_name="double")
        settings.settings["trace_level"].value.append(level)
        settings.settings["trace_rate"].value.append("1")
        await stub(server).TraceSetting(settings)

    everything = {"infer", "run_tensors", "queue", "compute"}
    assert await infer() == everything  # nobody has set anything: the sampler decides
    await set_level("OFF")
    assert await infer() == set()
    await set_level("TIMESTAMPS")
    assert await infer() == everything


async def test_probes_leave_no_spans(server: RunningServer, spans: InMemorySpanExporter) -> None:
    assert await asyncio.to_thread(main, ["health", "--server", server.address]) == 0
    assert spans.get_finished_spans() == ()


async def test_an_image_service_is_asked_within_the_callers_trace(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spans: InMemorySpanExporter
) -> None:
    shipped = Path(__file__).parents[2] / "models" / "openai_images" / "config.pbtxt"
    folder = tmp_path / "models" / "openai_images"
    folder.mkdir(parents=True)
    (folder / "config.pbtxt").write_text(shipped.read_text())
    async with OpenAIServer() as service:
        monkeypatch.setenv("OPENAI_API_KEY", "sk-test")
        monkeypatch.setenv("OPENAI_BASE_URL", service.base_url)
        async with echo_server(tmp_path) as server:
            asked = request(model_name="openai_images", seed=None, num_inference_steps=None)
            async for _ in images(server).Generate(asked, metadata=(("traceparent", TRACEPARENT),)):
                pass
    (received,) = service.requests
    upstream = next(span for span in spans.get_finished_spans() if span.name == "upstream")
    assert upstream.context is not None
    assert received.headers["traceparent"] == f"{TRACEPARENT[:36]}{upstream.context.span_id:016x}-01"
    assert all(PROMPT not in span.to_json() for span in spans.get_finished_spans())


async def test_a_runners_lines_name_the_calls_they_are_about(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_echo_model(tmp_path / "models", fail_at_step=2)
    async with echo_server(tmp_path, executor_factory=subprocess_executor) as server:
        call = images(server).Generate(request(request_id="call-9"), metadata=(("traceparent", TRACEPARENT),))
        with pytest.raises(grpc.aio.AioRpcError):
            async for _ in call:
                pass
        async with asyncio.timeout(20):
            # the line takes the way of the process's output
            while not (told := [line for line in caplog.records if "a step failed" in line.getMessage()]):  # noqa: ASYNC110
                await asyncio.sleep(0.01)
    assert (told[0].name, told[0].levelname) == ("atelier.runner.echo", "ERROR")
    assert told[0].__dict__["request_ids"] == ["call-9"]
    assert "RuntimeError: told to fail" in told[0].__dict__["exception"]


async def test_health_from_a_shell(server: RunningServer, capsys: pytest.CaptureFixture[str]) -> None:
    async def asked(*arguments: str) -> tuple[int, str]:
        status = await asyncio.to_thread(main, ["health", "--server", server.address, *arguments])
        return status, capsys.readouterr().out.strip()

    assert await asked() == (0, "SERVING")
    assert await asked("--service", "model/echo") == (0, "SERVING")
    status, told = await asked("--service", "model/nobody")
    assert (status, told.split(": ")[1]) == (1, "NOT_FOUND")
    await server.app.registry.unload_now("echo")
    await server.app.registry.unload_now("double")
    await server.app._serving.publish()
    assert await asked() == (1, "NOT_SERVING")


async def test_health_from_a_shell_over_tls(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ca = authority(tmp_path, "ca")
    chain, key = signed(tmp_path, "server", "ca")
    cert, own_key = signed(tmp_path, "probe", "ca")
    async with echo_server(tmp_path, tls_cert=chain, tls_key=key, tls_client_ca=ca) as server:
        plain = ["health", "--server", server.address, "--timeout", "10"]
        trusting = [*plain, "--ca", str(ca)]
        for arguments in (plain, trusting):  # the second has no certificate of its own
            assert await asyncio.to_thread(main, arguments) == 1
        assert capsys.readouterr().out.count(f"{server.address}: UNAVAILABLE: ") == 2
        assert await asyncio.to_thread(main, [*trusting, "--cert", str(cert), "--key", str(own_key)]) == 0
        named = ["--cert", str(cert), "--key", str(own_key), "--server-name", "elsewhere"]
        assert await asyncio.to_thread(main, [*trusting, *named]) == 1
        assert await asyncio.to_thread(main, [*plain, "--ca", str(tmp_path / "none.pem")]) == 2


def test_health_asks_where_serve_would_listen() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "atelier_server", "health", "--timeout", "1"],
        env={"ATELIER_LISTEN": "0.0.0.0:1", "PYTHONPATH": ":".join(sys.path)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert done.stdout.startswith("0.0.0.0:1: ")
    assert done.stderr == ""
