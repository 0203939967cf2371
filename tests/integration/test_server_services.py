"""The other services on the port: health, reflection, models, and what is declared but not built."""

import asyncio
import logging
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf import descriptor_pb2
from google.rpc import error_details_pb2
from grpc_health.v1 import health_pb2 as probe_pb2
from grpc_health.v1 import health_pb2_grpc as probe_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2

from atelier.v1 import (
    health_pb2,
    image_generation_pb2_grpc,
    model_pb2,
    model_pb2_grpc,
)
from atelier_server.frontend.app import build
from atelier_server.testing import (
    RunningServer,
    echo_server,
    echo_server_in_thread,
    in_process_executor,
    server_config,
    write_echo_model,
)
from tests.integration.grpc_kit import detail, failing, fields_at_fault, heard, images, request

SERVING = probe_pb2.HealthCheckResponse.SERVING
NOT_SERVING = probe_pb2.HealthCheckResponse.NOT_SERVING
SERVICES = [
    "atelier.v1.BrandService",
    "atelier.v1.ImageGenerationService",
    "atelier.v1.ModelService",
    "grpc.health.v1.Health",
    "inference.GRPCInferenceService",
]
REFLECTIONS = ["grpc.reflection.v1.ServerReflection", "grpc.reflection.v1alpha.ServerReflection"]


def probes(server: RunningServer) -> probe_pb2_grpc.HealthStub:
    return probe_pb2_grpc.HealthStub(server.channel)


def models(server: RunningServer) -> model_pb2_grpc.ModelServiceStub:
    return model_pb2_grpc.ModelServiceStub(server.channel)


async def serving(server: RunningServer, name: str) -> int:
    return (await probes(server).Check(probe_pb2.HealthCheckRequest(service=name))).status


async def statuses(server: RunningServer, name: str) -> AsyncIterator[int]:
    """What a watcher is told."""
    async for answer in probes(server).Watch(probe_pb2.HealthCheckRequest(service=name)):
        yield answer.status


async def until_told(watch: AsyncIterator[int], status: int) -> None:
    async with asyncio.timeout(20):
        async for told in watch:
            if told == status:
                return


def reflect(server: RunningServer, service: str, **ask: Any) -> Any:
    call = server.channel.stream_stream(
        f"/{service}/ServerReflectionInfo",
        request_serializer=reflection_pb2.ServerReflectionRequest.SerializeToString,
        response_deserializer=reflection_pb2.ServerReflectionResponse.FromString,
    )
    return call(iter([reflection_pb2.ServerReflectionRequest(**ask)])).read()


@pytest.mark.parametrize("reflection", REFLECTIONS)
async def test_reflection_lists_and_describes_every_service(server: RunningServer, reflection: str) -> None:
    listed = await reflect(server, reflection, list_services="")
    names = [service.name for service in listed.list_services_response.service]
    assert names == sorted([*SERVICES, *REFLECTIONS])
    for name in names:
        found = await reflect(server, reflection, file_containing_symbol=name)
        files = [
            descriptor_pb2.FileDescriptorProto.FromString(data)
            for data in found.file_descriptor_response.file_descriptor_proto
        ]
        described = {f"{file.package}.{service.name}" for file in files for service in file.service}
        assert name in described, f"{name} is listed but not described"


async def test_probes_know_every_name(server: RunningServer) -> None:
    for name in ["", *SERVICES, "model/echo"]:
        assert await serving(server, name) == SERVING
    unknown = await failing(probes(server).Check(probe_pb2.HealthCheckRequest(service="no.such.Service")))
    assert unknown.code() is grpc.StatusCode.NOT_FOUND


async def test_a_model_that_cannot_be_loaded_leaves_the_server_up_and_says_why(tmp_path: Path) -> None:
    write_echo_model(tmp_path / "models", "broken", fail_load="the file is cut off; fetch it again")
    write_echo_model(tmp_path / "models", "echo")
    async with echo_server(tmp_path) as server:
        assert await serving(server, "model/broken") == NOT_SERVING
        assert await serving(server, "") == SERVING
        health = await images(server).Health(health_pb2.HealthRequest())
        assert health.status == "healthy"
        rows = {row.model: (row.state, row.reason) for row in health.instances}
        assert rows["echo"] == ("READY", "")
        assert rows["broken"][0] == "UNAVAILABLE"
        assert "the file is cut off; fetch it again" in rows["broken"][1]
        refused = await failing(images(server).Generate(request(model_name="broken")))
        assert refused.code() in (grpc.StatusCode.FAILED_PRECONDITION, grpc.StatusCode.UNAVAILABLE)
        assert "the file is cut off" in (refused.details() or "")


async def test_without_any_model_nothing_is_served_but_the_truth(tmp_path: Path) -> None:
    write_echo_model(tmp_path / "models", "broken", fail_load="no memory")
    async with echo_server(tmp_path) as server:
        assert await serving(server, "") == NOT_SERVING
        assert await serving(server, "atelier.v1.ImageGenerationService") == NOT_SERVING
        assert await serving(server, "atelier.v1.ModelService") == SERVING
        health = await images(server).Health(health_pb2.HealthRequest())
        assert (health.status, health.initialized) == ("unhealthy", True)
        assert health.reasons
        assert not health.models_available.stable_diffusion_xl
        refused = await failing(images(server).Generate(request()))
        assert refused.code() is grpc.StatusCode.UNAVAILABLE
        assert detail(refused, error_details_pb2.RetryInfo).retry_delay.seconds > 0


async def test_while_models_load_the_server_answers_but_asks_for_patience(tmp_path: Path) -> None:
    write_echo_model(tmp_path / "models", load_seconds=1)
    app = await build(server_config(tmp_path), in_process_executor)
    starting = asyncio.create_task(app.start())
    async with grpc.aio.insecure_channel(app.address) as channel:
        server = RunningServer(app, channel)
        watch = statuses(server, "")
        assert await anext(watch) == NOT_SERVING
        health = await images(server).Health(health_pb2.HealthRequest())
        assert (health.status, health.initialized) == ("unhealthy", False)
        assert "being loaded" in health.reasons[0]
        refused = await failing(images(server).Generate(request(model_name="echo")))
        assert refused.code() is grpc.StatusCode.UNAVAILABLE
        assert detail(refused, error_details_pb2.RetryInfo)
        await until_told(watch, SERVING)
        await starting
        await app.drain()
        health = await images(server).Health(health_pb2.HealthRequest())
        assert (health.status, list(health.reasons)) == ("unhealthy", ["the server is shutting down"])
    await app.stop()


async def test_health_flips_with_the_model_and_says_so_to_watchers(tmp_path: Path) -> None:
    write_echo_model(tmp_path / "models")
    async with echo_server(tmp_path, load_model=["echo"]) as server:
        whole, model = statuses(server, ""), statuses(server, "model/echo")
        await until_told(whole, SERVING)
        await until_told(model, SERVING)
        unloaded = await models(server).UnloadModel(model_pb2.UnloadModelRequest(name="echo"))
        assert unloaded.model.state == "UNAVAILABLE"
        await until_told(model, NOT_SERVING)
        await until_told(whole, NOT_SERVING)
        loaded = await models(server).LoadModel(model_pb2.LoadModelRequest(name="echo"))
        assert (loaded.model.state, loaded.model.version, len(loaded.model.instances)) == ("READY", "1", 1)
        await until_told(model, SERVING)
        await until_told(whole, SERVING)
        assert (await heard(server))[-1].HasField("completed")


async def test_a_lost_model_makes_health_critical_and_one_of_several_degraded(tmp_path: Path) -> None:
    write_echo_model(tmp_path / "models", "echo", fail_at_step=1, on_prompt="break")
    write_echo_model(tmp_path / "models", "other")
    async with echo_server(tmp_path) as server:
        await server.app.registry.get("other").stop()
        degraded = await images(server).Health(health_pb2.HealthRequest())
        assert degraded.status == "degraded"
        assert "other" in degraded.reasons[0]
        await server.app.registry.get("echo").stop()
        assert (await images(server).Health(health_pb2.HealthRequest())).status == "critical"
        await until_told(statuses(server, "model/other"), NOT_SERVING)
        await until_told(statuses(server, ""), NOT_SERVING)


async def test_models_are_listed_in_order(tmp_path: Path) -> None:
    for name in ("zebra", "echo", "ant"):
        write_echo_model(tmp_path / "models", name)
    async with echo_server(tmp_path) as server:
        listed = await models(server).ListModels(model_pb2.ListModelsRequest())
    assert [(model.name, model.state, model.backend) for model in listed.models] == [
        ("ant", "READY", "echo"),
        ("echo", "READY", "echo"),
        ("zebra", "READY", "echo"),
    ]


async def test_loading_by_request_needs_the_mode_for_it(server: RunningServer) -> None:
    error = await failing(models(server).LoadModel(model_pb2.LoadModelRequest(name="echo")))
    assert error.code() is grpc.StatusCode.FAILED_PRECONDITION
    assert detail(error, error_details_pb2.PreconditionFailure).violations[0].type == "MODEL_CONTROL_MODE"


async def test_unknown_models_are_not_found_by_the_requests_field(tmp_path: Path) -> None:
    async with echo_server(tmp_path, model_control_mode="explicit", load_model=["echo"]) as server:
        for call in (
            models(server).LoadModel(model_pb2.LoadModelRequest(name="../x")),
            models(server).UnloadModel(model_pb2.UnloadModelRequest(name="nothing")),
        ):
            error = await failing(call)
            assert error.code() is grpc.StatusCode.NOT_FOUND
            assert fields_at_fault(error) == ["name"]


async def test_a_polled_repository_is_followed(tmp_path: Path) -> None:
    write_echo_model(tmp_path / "models")
    async with echo_server(tmp_path, model_control_mode="poll", repository_poll_seconds=0.05) as server:
        write_echo_model(tmp_path / "models", "newcomer")
        await until_told(statuses(server, "model/newcomer"), SERVING)
        assert (await heard(server, model_name="newcomer"))[-1].completed.model_used == "newcomer"
        shutil.rmtree(tmp_path / "models" / "newcomer")
        await until_told(statuses(server, "model/newcomer"), NOT_SERVING)


def test_programs_without_an_event_loop_get_a_server_too(tmp_path: Path) -> None:
    with echo_server_in_thread(tmp_path) as address, grpc.insecure_channel(address) as channel:
        events = list(image_generation_pb2_grpc.ImageGenerationServiceStub(channel).Generate(request()))
    assert events[-1].HasField("completed")


async def test_an_unexpected_error_tells_its_number_but_not_its_text(
    server: RunningServer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken() -> None:
        raise RuntimeError("password=hunter2")

    monkeypatch.setattr(server.app.registry, "models", broken)
    with caplog.at_level(logging.INFO):
        error = await failing(models(server).ListModels(model_pb2.ListModelsRequest()))
    assert error.code() is grpc.StatusCode.INTERNAL
    assert "hunter2" not in str(error)
    request_id = detail(error, error_details_pb2.RequestInfo).request_id
    assert request_id in (error.details() or "")
    assert "hunter2" in caplog.text, "the log must have what the caller must not"


async def test_every_call_leaves_one_line_with_its_status_and_time(
    server: RunningServer, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "atelier_server.frontend"):
        await heard(server)
        await failing(images(server).Generate(request(prompt="")))
        await serving(server, "")
    lines = [record.getMessage() for record in caplog.records]
    assert [line.split(" in ")[0] for line in lines] == [
        "/atelier.v1.ImageGenerationService/Generate OK",
        "/atelier.v1.ImageGenerationService/Generate INVALID_ARGUMENT",
    ]
