"""Who may call, by token: every method, every way of being wrong, quotas, renewal, and the metrics over HTTP."""

import asyncio
import contextlib
import os
import urllib.error
import urllib.request
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from atelier.v1 import (
    brand_pb2,
    brand_pb2_grpc,
    image_generation_pb2,
    image_generation_pb2_grpc,
    model_pb2,
    model_pb2_grpc,
    scoring_pb2,
)
from atelier.v1 import (
    health_pb2 as atelier_health_pb2,
)
from atelier_server._generated.atelier.kserve import grpc_service_pb2, grpc_service_pb2_grpc
from atelier_server.frontend.access import is_local, peer_name
from atelier_server.security.scopes import OPEN_SERVICES, Scope, needed_scopes
from atelier_server.testing import RunningServer, echo_server, in_process_executor
from atelier_server.testing.echo_models import write_echo_model
from tests.integration.grpc_kit import detail, failing, images, request
from tests.integration.security_kit import Tokens, bearing, eventually

UNAUTHENTICATED, DENIED = grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED
EXHAUSTED = grpc.StatusCode.RESOURCE_EXHAUSTED


@pytest.fixture
def tokens(tmp_path: Path) -> Tokens:
    return Tokens(tmp_path / "secrets")


@contextlib.asynccontextmanager
async def guarded(folder: Path, tokens: Tokens, **config: Any) -> AsyncIterator[RunningServer]:
    async with echo_server(folder, tokens_file=tokens.path, **config) as server:
        yield server


def generate(server: RunningServer, token: str | None, **values: Any) -> Any:
    return images(server).Generate(request(**values), metadata=bearing(token))


async def pictures(server: RunningServer, token: str | None, **values: Any) -> list[Any]:
    return [event async for event in generate(server, token, **values)]


def reason(error: grpc.aio.AioRpcError) -> str:
    return detail(error, error_details_pb2.ErrorInfo).reason


async def test_wrong_missing_expired_and_underscoped_tokens(tmp_path: Path, tokens: Tokens) -> None:
    good = tokens.add("web-shop", "generate")
    weak = tokens.add("judge", "score")
    old = tokens.add("former", "generate", expires=datetime.now(UTC) - timedelta(hours=1))
    async with guarded(tmp_path, tokens) as server:
        bad = {
            "TOKEN_MISSING": (),
            "TOKEN_MALFORMED": (("authorization", f"Basic {good}"),),
            "TOKEN_UNKNOWN": bearing(good[:-1]),
            "TOKEN_EXPIRED": bearing(old),
        }
        for wanted, metadata in bad.items():
            error = await failing(images(server).Generate(request(), metadata=metadata))
            assert (error.code(), reason(error)) == (UNAUTHENTICATED, wanted)
        twice = (*bearing(weak), *bearing(good))
        assert (await failing(images(server).Generate(request(), metadata=twice))).code() is UNAUTHENTICATED
        error = await failing(generate(server, weak))
        assert (error.code(), reason(error)) == (DENIED, "SCOPE_MISSING")
        assert good not in str(error)
        assert (await pictures(server, good))[-1].HasField("completed")


def methods() -> list[str]:
    """Every method that a server offers beside the open ones and reflection."""
    modules = (image_generation_pb2, brand_pb2, model_pb2, grpc_service_pb2)
    services = [service for module in modules for service in module.DESCRIPTOR.services_by_name.values()]
    return [f"/{service.full_name}/{method.name}" for service in services for method in service.methods]


def test_every_method_has_its_scopes() -> None:
    operators = {method.rpartition("/")[2] for method in methods() if needed_scopes(method) == {Scope.MODELS}}
    assert operators == {
        *("LoadModel", "UnloadModel", "RepositoryModelLoad", "RepositoryModelUnload", "TraceSetting", "LogSettings")
    }
    assert needed_scopes("/some.New/Method") == {Scope.MODELS}, "what nobody thought of is the operator's"
    assert {"grpc.health.v1.Health"} == OPEN_SERVICES


async def test_no_method_answers_without_a_token(tmp_path: Path, tokens: Tokens) -> None:
    async with guarded(tmp_path, tokens) as server:
        for method in methods():
            call = server.channel.stream_stream(method, request_serializer=None, response_deserializer=None)
            assert (await failing(call(iter([b""])))).code() is UNAUTHENTICATED, method


async def test_probes_need_no_token_and_reflection_needs_any(tmp_path: Path, tokens: Tokens) -> None:
    some = tokens.add("some", "metrics")
    async with guarded(tmp_path, tokens) as server:
        answer = await health_pb2_grpc.HealthStub(server.channel).Check(health_pb2.HealthCheckRequest())
        assert answer.status == health_pb2.HealthCheckResponse.SERVING
        stub = reflection_pb2_grpc.ServerReflectionStub(server.channel)
        asked = [reflection_pb2.ServerReflectionRequest(list_services="")]
        assert (await failing(stub.ServerReflectionInfo(iter(asked)))).code() is UNAUTHENTICATED
        answers = [one async for one in stub.ServerReflectionInfo(iter(asked), metadata=bearing(some))]
        assert answers[0].list_services_response.service


async def test_each_scope_opens_its_own_and_nothing_else(tmp_path: Path, tokens: Tokens) -> None:
    held = {scope: tokens.add(f"only-{scope}", scope) for scope in Scope}
    async with guarded(tmp_path, tokens) as server:
        image = image_generation_pb2_grpc.ImageGenerationServiceStub(server.channel)
        brands = brand_pb2_grpc.BrandServiceStub(server.channel)
        models = model_pb2_grpc.ModelServiceStub(server.channel)
        kserve = grpc_service_pb2_grpc.GRPCInferenceServiceStub(server.channel)
        calls: dict[Scope, list[tuple[Any, Any]]] = {
            Scope.GENERATE: [(image.Generate, request())],
            Scope.SCORE: [(image.Score, scoring_pb2.ScoreRequest())],
            Scope.BRANDS: [(brands.ListBrands, brand_pb2.ListBrandsRequest())],
            Scope.METRICS: [
                (image.GetMetrics, atelier_health_pb2.GetMetricsRequest()),
                (kserve.ModelStatistics, grpc_service_pb2.ModelStatisticsRequest()),
            ],
            Scope.MODELS: [
                (models.LoadModel, model_pb2.LoadModelRequest(name="none")),
                (kserve.LogSettings, grpc_service_pb2.LogSettingsRequest()),
            ],
        }
        for scope, those in calls.items():
            for method, message in those:
                for holder, token in held.items():
                    code = await outcome(method(message, metadata=bearing(token)))
                    assert (code is not DENIED) == (holder is scope), (scope, holder)
        for token in held.values():
            await image.Health(atelier_health_pb2.HealthRequest(), metadata=bearing(token))
            await models.ListModels(model_pb2.ListModelsRequest(), metadata=bearing(token))


async def outcome(call: Any) -> grpc.StatusCode:
    with contextlib.suppress(grpc.aio.AioRpcError):
        if hasattr(call, "__aiter__") and not hasattr(call, "__await__"):
            async for _ in call:
                pass
        else:
            await call
    return await call.code()


async def test_inference_needs_the_scope_of_its_model(tmp_path: Path, tokens: Tokens) -> None:
    judge = tokens.add("judge", "score")
    maker = tokens.add("maker", "generate")
    async with guarded(tmp_path, tokens) as server:
        stub = grpc_service_pb2_grpc.GRPCInferenceServiceStub(server.channel)
        message = grpc_service_pb2.ModelInferRequest(model_name="echo")
        prompt = message.inputs.add(name="prompt", datatype="BYTES", shape=[1])
        prompt.contents.bytes_contents.append(b"a bag")
        assert (await failing(stub.ModelInfer(message, metadata=bearing(judge)))).code() is DENIED
        assert (await stub.ModelInfer(message, metadata=bearing(maker))).outputs


async def test_a_changed_file_counts_without_a_restart_and_a_broken_one_changes_nothing(
    tmp_path: Path, tokens: Tokens, caplog: pytest.LogCaptureFixture
) -> None:
    first = tokens.add("first", "metrics")
    async with guarded(tmp_path, tokens) as server:
        stub = images(server)

        async def asks(token: str) -> grpc.StatusCode:
            return await outcome(stub.Health(atelier_health_pb2.HealthRequest(), metadata=bearing(token)))

        async def until(token: str, code: grpc.StatusCode) -> None:
            async def reached() -> bool:
                return await asks(token) is code

            await eventually(reached)

        assert await asks(first) is grpc.StatusCode.OK
        second = tokens.add("second", "metrics")
        await until(second, grpc.StatusCode.OK)
        assert await asks(first) is grpc.StatusCode.OK
        good = tokens.path.read_text()
        tokens.path.write_text(good + "[tokens.third]\nscopes = 3\n")

        async def complained() -> bool:
            assert await asks(second) is grpc.StatusCode.OK
            return "tokens.third" in caplog.text

        await eventually(complained)
        os.unlink(tokens.path)
        assert await asks(second) is grpc.StatusCode.OK
        tokens.path.write_text("")
        await until(second, UNAUTHENTICATED)
        await until(first, UNAUTHENTICATED)


async def test_a_spent_quota_says_which_and_when_to_come_back(tmp_path: Path, tokens: Tokens) -> None:
    few = tokens.add("few", "generate", requests_per_minute=3)
    small = tokens.add("small", "generate", pixel_steps=128 * 128 * 7, window_seconds=3600)
    async with guarded(tmp_path, tokens) as server:
        for seed in range(3):
            await pictures(server, few, seed=seed)
        error = await failing(generate(server, few))
        assert (error.code(), reason(error)) == (EXHAUSTED, "QUOTA_EXCEEDED")
        info = detail(error, error_details_pb2.ErrorInfo).metadata
        assert (info["quota"], info["client"]) == ("requests_per_minute", "few")
        assert 0 < detail(error, error_details_pb2.RetryInfo).retry_delay.ToTimedelta().total_seconds() <= 20
        violation = detail(error, error_details_pb2.QuotaFailure).violations[0]
        assert "3 requests a minute" in violation.description

        assert (await pictures(server, small, seed=100, num_inference_steps=3))[-1].HasField("completed")
        assert (await pictures(server, small, seed=101, num_inference_steps=3))[-1].HasField("completed")
        error = await failing(generate(server, small, seed=102, num_inference_steps=3))
        assert detail(error, error_details_pb2.ErrorInfo).metadata["quota"] == "pixel_steps"
        again = await pictures(server, small, seed=100, num_inference_steps=3)
        assert again[-1].completed.cached, "what is not computed costs nothing"


async def test_calls_at_once_are_counted_and_given_back(tmp_path: Path, tokens: Tokens) -> None:
    two = tokens.add("two", "generate", concurrent_calls=2)
    write_echo_model(tmp_path / "models", step_seconds=0.05)
    async with guarded(tmp_path, tokens) as server:
        running = [generate(server, two, seed=seed, num_inference_steps=150) for seed in (1, 2)]
        for call in running:
            await call.read()
        error = await failing(generate(server, two, seed=3))
        assert detail(error, error_details_pb2.ErrorInfo).metadata["quota"] == "concurrent_calls"
        running[0].cancel()

        async def let_in() -> bool:
            return await outcome(generate(server, two, seed=4, num_inference_steps=1)) is not EXHAUSTED

        await eventually(let_in)
        running[1].cancel()


async def test_a_cancelled_picture_costs_only_what_was_computed(tmp_path: Path, tokens: Tokens) -> None:
    cost = 128 * 128 * 100
    token = tokens.add("saver", "generate", pixel_steps=cost * 1.5, window_seconds=1e9)
    write_echo_model(tmp_path / "models", step_seconds=0.05)
    async with guarded(tmp_path, tokens) as server:
        call = generate(server, token, seed=1, num_inference_steps=100)
        async for event in call:
            if event.HasField("progress"):
                break
        error = await failing(generate(server, token, seed=2, num_inference_steps=100))
        assert error.code() is EXHAUSTED
        call.cancel()
        await eventually(lambda: begins(generate(server, token, seed=3, num_inference_steps=100)))


async def begins(call: Any) -> bool:
    """Whether a call comes to be computed; it is dropped then."""
    with contextlib.suppress(grpc.aio.AioRpcError):
        async for event in call:
            if event.HasField("progress"):
                call.cancel()
                return True
    return False


async def test_a_request_id_belongs_to_its_token(tmp_path: Path, tokens: Tokens) -> None:
    one, other = tokens.add("one", "generate"), tokens.add("other", "generate")
    async with guarded(tmp_path, tokens) as server:
        await pictures(server, one, request_id="same", prompt="a red bag")
        error = await failing(generate(server, one, request_id="same", prompt="a blue bag"))
        assert error.code() is grpc.StatusCode.ALREADY_EXISTS
        assert (await pictures(server, other, request_id="same", prompt="a blue bag"))[-1].HasField("completed")


@pytest.mark.parametrize("asked", [False, True])
async def test_the_log_has_prompts_only_when_asked_and_tokens_never(
    tmp_path: Path, tokens: Tokens, caplog: pytest.LogCaptureFixture, asked: bool
) -> None:
    token, wrong = tokens.add("web-shop", "generate"), "atelier_wrong"
    caplog.set_level("DEBUG", "atelier_server")
    async with guarded(tmp_path, tokens, log_prompts=asked) as server:
        await pictures(server, token, prompt="a very private bag", negative_prompt="my secret")
        await failing(generate(server, wrong))
    assert ("a very private bag" in caplog.text, "my secret" in caplog.text) == (asked, asked)
    assert token not in caplog.text
    assert wrong not in caplog.text
    assert "Generate UNAUTHENTICATED" in caplog.text


async def test_metrics_over_http_need_the_scope(tmp_path: Path, tokens: Tokens) -> None:
    good, weak = tokens.add("prometheus", "metrics"), tokens.add("maker", "generate")
    async with guarded(tmp_path, tokens) as server:
        assert await http_status(server, "/healthz") == 200
        assert await http_status(server, "/readyz") == 200
        assert await http_status(server, "/metrics") == 401
        assert await http_status(server, "/metrics?x=1") == 401
        assert await http_status(server, "/metrics", weak) == 403
        assert await http_status(server, "/metrics", good) == 200


async def http_status(server: RunningServer, path: str, token: str = "") -> int:
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    asked = urllib.request.Request(server.metrics_url + path, headers=headers)

    def ask() -> int:
        try:
            with urllib.request.urlopen(asked, timeout=20) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as error:
            error.close()
            return error.code

    return await asyncio.to_thread(ask)


async def test_the_runner_learns_whose_work_it_is(tmp_path: Path, tokens: Tokens) -> None:
    """The client's name and share reach the task that a runner gets."""
    token = tokens.add("web-shop", "generate", share=2.5)
    seen: list[tuple[str, float]] = []

    def spying(spec: Any) -> Any:
        executor = in_process_executor(spec)
        diffuse = executor.diffuse

        def spied(task: Any) -> Any:
            seen.append((task.client, task.client_share))
            return diffuse(task)

        executor.diffuse = spied  # type: ignore[method-assign]
        return executor

    async with echo_server(tmp_path, executor_factory=spying, tokens_file=tokens.path) as server:
        await pictures(server, token)
    async with echo_server(tmp_path, executor_factory=spying, state_dir=tmp_path / "other") as server:
        await pictures(server, None)
    assert seen == [("web-shop", 2.5), ("127.0.0.1", 1.0)]


async def test_shared_memory_belongs_to_its_token(tmp_path: Path, tokens: Tokens) -> None:
    one, other = tokens.add("one", "score"), tokens.add("other", "score")
    key = f"/atelier-test-{os.getpid()}"
    Path("/dev/shm" + key).write_bytes(bytes(64))
    try:
        async with guarded(tmp_path, tokens) as server:
            stub = grpc_service_pb2_grpc.GRPCInferenceServiceStub(server.channel)
            register = grpc_service_pb2.SystemSharedMemoryRegisterRequest(name="mine", key=key, byte_size=64)
            await stub.SystemSharedMemoryRegister(register, metadata=bearing(one))
            ask = grpc_service_pb2.SystemSharedMemoryStatusRequest()
            for token, regions in ((one, ["mine"]), (other, [])):
                status = await stub.SystemSharedMemoryStatus(ask, metadata=bearing(token))
                assert list(status.regions) == regions
            drop = grpc_service_pb2.SystemSharedMemoryUnregisterRequest()
            await stub.SystemSharedMemoryUnregister(drop, metadata=bearing(other))
            assert (await stub.SystemSharedMemoryStatus(ask, metadata=bearing(one))).regions
    finally:
        os.unlink("/dev/shm" + key)


@pytest.mark.parametrize(
    ("peer", "local", "name"),
    [
        ("ipv4:127.0.0.1:55", True, "127.0.0.1"),
        ("ipv6:%5B::1%5D:55", True, "[::1]"),
        ("unix:", True, "unix"),
        ("ipv4:10.1.2.3:55", False, "10.1.2.3"),
        ("ipv6:%5B2001:db8::1%5D:55", False, "[2001:db8::1]"),
    ],
)
def test_where_a_caller_is(peer: str, local: bool, name: str) -> None:
    context: Any = SimpleNamespace(peer=lambda: peer, auth_context=dict)
    assert (is_local(context), peer_name(context)) == (local, name)
    certified: Any = SimpleNamespace(peer=lambda: peer, auth_context=lambda: {"x509_common_name": [b"press"]})
    assert peer_name(certified) == "certificate press"
