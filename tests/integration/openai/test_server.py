"""A whole server with an openai model: the same events, what could not be honoured, fallback, health, secrets."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import psutil
import pytest
from google.rpc import error_details_pb2

from atelier.v1 import common_pb2, health_pb2, image_generation_pb2
from atelier_server.executor.openai import OpenAIExecutor
from atelier_server.frontend.app import subprocess_executor
from atelier_server.testing import RunningServer, echo_server, write_echo_model
from atelier_server.testing.openai_server import OpenAIServer, Received, picture, refusal, stalled
from tests.integration.grpc_kit import detail, failing, fields_at_fault, heard, images, request

SHIPPED = Path(__file__).parents[3] / "models" / "openai_images" / "config.pbtxt"
KEY = "sk-test-b7c1d9"
SIGN = "a neon sign that says open late"
UNSET = {"seed": None, "num_inference_steps": None}


@pytest.fixture
async def server(
    service: OpenAIServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[RunningServer]:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setenv("OPENAI_BASE_URL", service.base_url)
    write_models(tmp_path, max_retries=0, breaker_failures=1, breaker_seconds=600)
    async with echo_server(tmp_path) as running:
        yield running


def write_models(folder: Path, **parameters: object) -> None:
    """The shipped description of the model, with further parameters, beside echo."""
    write_echo_model(folder / "models")
    (folder / "models" / "openai_images").mkdir()
    more = [f'parameters {{ key: "{key}" value {{ string_value: "{value}" }} }}' for key, value in parameters.items()]
    (folder / "models" / "openai_images" / "config.pbtxt").write_text("\n".join([SHIPPED.read_text(), *more]))


async def health(server: RunningServer) -> health_pb2.HealthResponse:
    return await images(server).Health(health_pb2.HealthRequest())


def started(events: list[image_generation_pb2.GenerateResponse]) -> image_generation_pb2.Started:
    return next(event.started for event in events if event.HasField("started"))


async def test_dall_e_3_answers_with_the_events_of_every_model(server: RunningServer, service: OpenAIServer) -> None:
    given: dict[str, Any] = {
        "model": common_pb2.MODEL_DALL_E_3,
        "prompt": SIGN,
        "negative_prompt": "people",
        "seed": 5,
        "num_inference_steps": 30,
        "guidance_scale": 4.0,
        "noise_schedule": common_pb2.NOISE_SCHEDULE_DDIM,
        "reproducibility": common_pb2.REPRODUCIBILITY_EXACT,
        "preview": image_generation_pb2.PreviewOptions(every_n_steps=1),
        "width": 768,
        "height": 512,
    }
    events = await heard(server, **given)
    kinds = list(dict.fromkeys(event.WhichOneof("event") for event in events))
    assert kinds == ["queued", "started", "progress", "image_chunk", "image_completed", "completed"]
    begun, end = started(events), events[-1].completed
    assert begun.model == "openai_images"
    assert (begun.dimensions.width, begun.dimensions.height) == (768, 512)
    assert begun.native_dimensions.width * begun.native_dimensions.height >= 655_360
    assert begun.prompt_used == service.requests[0].body["prompt"]
    assert begun.prompt_used.endswith("none of this: people.")
    assert not begun.HasField("negative_prompt_used")
    previews = [event.progress.preview for event in events if event.progress.HasField("preview")]
    assert len(previews) == 3
    assert (previews[0].dimensions.width, previews[0].dimensions.height) == (256, 171)
    assert end.model_used == "gpt-image-2.6-flare"
    ignored = ["guidance_scale", "noise_schedule", "num_inference_steps", "reproducibility", "seed"]
    assert sorted(end.ignored_fields) == ignored
    assert end.reproducibility == common_pb2.REPRODUCIBILITY_BATCHED
    assert (end.usage.total_tokens, end.usage.upstream_calls) == (1020, 1)
    assert end.usage.estimated_cost_usd == pytest.approx(0.0301)
    assert set(end.timings_ms) >= {"queue", "upstream", "encode_image"}
    assert not end.cached

    again = (await heard(server, **given))[-1].completed
    assert again.cached
    assert not again.HasField("usage")
    assert len(service.requests) == 1
    metrics = await images(server).GetMetrics(health_pb2.GetMetricsRequest())
    assert dict(metrics.generations_by_model) == {"openai_images": 1}


async def test_fields_that_were_not_set_are_not_called_ignored(server: RunningServer) -> None:
    end = (await heard(server, model=common_pb2.MODEL_DALL_E_3, **UNSET))[-1].completed
    assert list(end.ignored_fields) == []


async def test_auto_reads_the_prompt(server: RunningServer) -> None:
    sign, bag = await heard(server, prompt=SIGN, **UNSET), await heard(server, prompt="a leather bag", **UNSET)
    assert (started(sign).model, started(bag).model) == ("openai_images", "echo")
    assert "text inside the picture" in started(sign).routing_reason
    seeded = started(await heard(server, prompt=SIGN))
    assert seeded.model == "echo"
    assert "the seed that was set" in seeded.routing_reason


async def test_auto_goes_on_without_a_failing_service_and_then_leaves_it_alone(
    server: RunningServer, service: OpenAIServer
) -> None:
    service.script(refusal(500, "server_error"))
    events = await heard(server, prompt=SIGN, **UNSET)
    tried = [event.started for event in events if event.HasField("started")]
    assert [one.model for one in tried] == ["openai_images", "echo"]
    assert "openai_images failed" in tried[1].routing_reason
    assert events[-1].completed.model_used == "echo"
    assert len(service.requests) == 1
    begun = started(await heard(server, prompt=SIGN, **UNSET))
    assert begun.model == "echo"
    assert "openai_images is not ready" in begun.routing_reason
    error = await failing(images(server).Generate(request(model=common_pb2.MODEL_DALL_E_3, **UNSET)))
    assert error.code() is grpc.StatusCode.UNAVAILABLE
    assert len(service.requests) == 1
    seen = await health(server)
    assert (seen.status, seen.models_available.dalle_3) == ("degraded", False)
    assert "the service fails" in " ".join(seen.reasons)


async def test_auto_goes_nowhere_else_once_a_picture_is_paid_for_and_held_by_its_gate(
    server: RunningServer, service: OpenAIServer
) -> None:
    finished = asyncio.Event()

    async def fails_after_the_first(received: Received, writer: asyncio.StreamWriter) -> None:
        await finished.wait()
        await refusal(500, "server_error")(received, writer)

    service.script(picture(), fails_after_the_first)
    events: list[image_generation_pb2.GenerateResponse] = []

    async def heard_until_it_failed() -> None:
        held = request(prompt=SIGN, num_images=2, gate=common_pb2.GATE_RETRY, **UNSET)
        async for event in images(server).Generate(held, timeout=20.0):
            events.append(event)
            if event.HasField("progress") and event.progress.step == event.progress.total_steps:
                finished.set()

    error = await failing(heard_until_it_failed())
    assert error.code() is grpc.StatusCode.UNAVAILABLE
    assert detail(error, error_details_pb2.ErrorInfo).reason == "UPSTREAM_FAILED"
    assert [event.started.model for event in events if event.HasField("started")] == ["openai_images"]
    assert not any(event.HasField("image_chunk") for event in events)
    assert len(service.requests) == 2


@pytest.mark.parametrize(
    ("reply", "code", "field"),
    [
        (refusal(400, "moderation_blocked"), grpc.StatusCode.INVALID_ARGUMENT, ["prompt"]),
        (refusal(429, "insufficient_quota"), grpc.StatusCode.RESOURCE_EXHAUSTED, []),
        (refusal(401, "invalid_api_key"), grpc.StatusCode.FAILED_PRECONDITION, []),
    ],
)
async def test_refusals_have_their_own_status(
    server: RunningServer, service: OpenAIServer, reply: Any, code: grpc.StatusCode, field: list[str]
) -> None:
    service.script(reply)
    error = await failing(images(server).Generate(request(model=common_pb2.MODEL_DALL_E_3, **UNSET)))
    assert error.code() is code
    assert len(service.requests) == 1
    assert KEY not in str(error.details())
    if field:
        assert fields_at_fault(error) == field


async def test_a_deadline_holds_for_a_stalled_service(server: RunningServer, service: OpenAIServer) -> None:
    service.script(stalled())
    call = images(server).Generate(request(model=common_pb2.MODEL_DALL_E_3, **UNSET), timeout=2.0)
    assert (await failing(call)).code() is grpc.StatusCode.DEADLINE_EXCEEDED
    async with asyncio.timeout(20):
        while not service.aborted:  # noqa: ASYNC110 - the double has no event for it
            await asyncio.sleep(0.01)


async def test_a_key_that_was_never_given_is_nobody_s_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.delenv("OPENAI_API_KEY_FILE", raising=False)
    write_models(tmp_path)
    async with echo_server(tmp_path) as server:
        seen = await health(server)
        assert (seen.status, seen.models_available.dalle_3) == ("healthy", False)
        [row] = [row for row in seen.instances if row.model == "openai_images"]
        assert row.state == "UNAVAILABLE"
        assert "OPENAI_API_KEY" in row.reason
        error = await failing(images(server).Generate(request(model=common_pb2.MODEL_DALL_E_3)))
        assert error.code() is grpc.StatusCode.FAILED_PRECONDITION
        assert started(await heard(server, prompt=SIGN, **UNSET)).model == "echo"


async def test_a_placeholder_key_leaves_the_local_models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "your-api-key")
    write_models(tmp_path)
    async with echo_server(tmp_path) as server:
        assert (await health(server)).status == "healthy"
        assert started(await heard(server, prompt=SIGN, **UNSET)).model == "echo"


async def test_runners_never_see_the_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, service: OpenAIServer
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setenv("OPENAI_BASE_URL", service.base_url)
    write_models(tmp_path)
    async with echo_server(tmp_path, executor_factory=subprocess_executor) as server:
        registry = server.app.registry
        assert isinstance(registry.get("openai_images"), OpenAIExecutor)
        runner = psutil.Process(registry.get("echo").status().pid)
        assert runner.environ(), "the environment can be read"
        assert KEY not in json.dumps([runner.environ(), runner.cmdline()])
