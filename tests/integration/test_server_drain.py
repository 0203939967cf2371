"""How a server ends: callers inside are served, new ones sent elsewhere, and nothing is left behind."""

import asyncio
import json
import os
import signal
import sys
import threading
import urllib.request
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import psutil
import pytest
from google.rpc import error_details_pb2
from grpc_health.v1 import health_pb2 as probe_pb2
from grpc_health.v1 import health_pb2_grpc as probe_pb2_grpc

from atelier.v1 import image_generation_pb2_grpc, scoring_pb2
from atelier_server.core import FINISHING_THREADS
from atelier_server.errors import InvalidArgument
from atelier_server.frontend.app import build
from atelier_server.testing import echo_server, in_process_executor, server_config, write_echo_model
from tests.integration.grpc_kit import detail, failing, images, request
from tests.integration.scoring_kit import picture

NOT_SERVING = probe_pb2.HealthCheckResponse.NOT_SERVING


async def begun(call: Any) -> AsyncIterator[Any]:
    """The rest of a stream whose first message has come."""
    stream = aiter(call)
    await anext(stream)
    return stream


async def test_a_draining_server_finishes_what_it_has_and_refuses_the_rest(tmp_path: Path) -> None:
    write_echo_model(tmp_path / "models", step_seconds=0.02)
    async with echo_server(tmp_path) as server:
        inside = await begun(images(server).Generate(request(num_inference_steps=40)))
        draining = asyncio.create_task(server.app.drain())
        probe = probe_pb2_grpc.HealthStub(server.channel).Watch(probe_pb2.HealthCheckRequest())
        async for answer in probe:
            if answer.status == NOT_SERVING:
                break
        while True:  # the delay of the drain is 0, but the loop comes first
            refused = await failing(images(server).Generate(request()))
            if detail(refused, error_details_pb2.ErrorInfo).reason == "DRAINING":
                break
        assert refused.code() is grpc.StatusCode.UNAVAILABLE
        assert detail(refused, error_details_pb2.RetryInfo).retry_delay.ToMilliseconds() > 0
        assert not draining.done()
        events = [event async for event in inside]
        assert events[-1].HasField("completed")
        await asyncio.wait_for(draining, 20)


async def test_pictures_that_are_being_judged_are_waited_for(tmp_path: Path) -> None:
    go_on = threading.Event()
    async with echo_server(tmp_path) as server, asyncio.timeout(20):
        for _ in range(FINISHING_THREADS):
            server.app.core._judging_pool.submit(go_on.wait)
        try:
            score = scoring_pb2.ScoreRequest(images=[picture((1, 2, 3))])
            inside = images(server).Score(score)
            while not server.app.core.judging._held:  # noqa: ASYNC110 - it tells nobody
                await asyncio.sleep(0.01)
            draining = asyncio.create_task(server.app.drain())
            while not server.app._drain.closed:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
            refused = await failing(images(server).Score(score))
            assert detail(refused, error_details_pb2.ErrorInfo).reason == "DRAINING"
            assert not draining.done()
        finally:
            go_on.set()
        assert len((await inside).scores) == 1
        await draining


async def test_new_calls_are_served_during_the_drain_delay(tmp_path: Path) -> None:
    async with echo_server(tmp_path, drain_delay_seconds=3600) as server:
        draining = asyncio.create_task(server.app.drain())
        async for answer in probe_pb2_grpc.HealthStub(server.channel).Watch(probe_pb2.HealthCheckRequest()):
            if answer.status == NOT_SERVING:
                break
        events = [event async for event in images(server).Generate(request())]
        assert events[-1].HasField("completed")
        draining.cancel()


async def test_work_that_outlasts_the_drain_timeout_is_cancelled(tmp_path: Path) -> None:
    write_echo_model(tmp_path / "models", step_seconds=0.1)
    async with echo_server(tmp_path, drain_timeout_seconds=0.05) as server:
        inside = await begun(images(server).Generate(request(num_inference_steps=150)))
        await server.app.drain()
        executor = server.app.registry.get("echo")
        await server.app.stop()
        assert (await failing(inside)).code() in (grpc.StatusCode.CANCELLED, grpc.StatusCode.UNAVAILABLE)
        assert server.app.pipeline.running == 0
        assert executor.status().counters.get("pictures_total", 0) == 0


async def test_two_servers_cannot_share_a_port(tmp_path: Path) -> None:
    async with echo_server(tmp_path) as server:
        for field, address in (("listen", server.address), ("metrics_listen", server.app.metrics_address)):
            config = server_config(tmp_path, **{field: address})
            with pytest.raises(InvalidArgument) as caught:
                await build(config, in_process_executor)
            assert caught.value.field == field
            assert address in caught.value.message


async def test_the_http_pages(tmp_path: Path) -> None:
    async with echo_server(tmp_path) as server:
        assert [event async for event in images(server).Generate(request())]
        text = await asyncio.to_thread(fetch, f"{server.metrics_url}/metrics")
        assert 'atelier_generations_total{outcome="succeeded"} 1.0' in text
        assert 'atelier_generation_seconds_bucket{le="30.0",model="echo"} 1.0' in text
        assert "atelier_first_event_seconds_count 1.0" in text
        assert "atelier_generations_in_flight 0.0" in text
        assert await asyncio.to_thread(fetch, f"{server.metrics_url}/healthz") == "ok\n"
        assert await asyncio.to_thread(fetch, f"{server.metrics_url}/readyz") == "ready\n"
        assert await asyncio.to_thread(fetch, f"{server.metrics_url}/elsewhere") == "404"
        await server.app.drain()
        assert await asyncio.to_thread(fetch, f"{server.metrics_url}/readyz") == "503"
        assert await asyncio.to_thread(fetch, f"{server.metrics_url}/healthz") == "ok\n"


def fetch(url: str) -> str:
    """The page, or the status of an error."""
    try:
        with urllib.request.urlopen(url, timeout=20) as response:
            return str(response.read().decode())
    except urllib.error.HTTPError as error:
        error.close()
        return str(error.code)


@dataclass
class Process:
    """A server in a process of its own, ready."""

    process: asyncio.subprocess.Process
    grpc_address: str
    metrics_address: str

    @property
    def runners(self) -> list[psutil.Process]:
        """The processes of its models."""
        return psutil.Process(self.process.pid).children(recursive=True)

    async def rest(self) -> tuple[int, str]:
        """Waits for its end: exit status, and what else it printed."""
        assert self.process.stdout is not None
        async with asyncio.timeout(30):
            return await self.process.wait(), (await self.process.stdout.read()).decode()


def command_line(folder: Path) -> list[str]:
    """Starts a server with the models of a folder on free ports."""
    command = [sys.executable, "-m", "atelier_server", "serve", "--model-repository", str(folder / "models")]
    return [*command, "--listen", "127.0.0.1:0", "--metrics-listen", "127.0.0.1:0", "--state-dir", str(folder)]


@asynccontextmanager
async def server_process(folder: Path, *flags: str) -> AsyncIterator[Process]:
    command = [sys.executable, "-m", "atelier_server", "serve", "--model-repository", str(folder / "models")]
    command += [
        "--listen",
        "127.0.0.1:0",
        "--metrics-listen",
        "127.0.0.1:0",
        "--state-dir",
        str(folder / "state"),
        *flags,
    ]
    with (folder / "stderr.txt").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            *command, stdout=asyncio.subprocess.PIPE, stderr=log, cwd=folder, start_new_session=True
        )
    try:
        assert process.stdout is not None
        async with asyncio.timeout(60):
            line = (await process.stdout.readline()).decode()
        words = line.split()
        assert [word.partition("=")[0] for word in words] == ["READY", "grpc", "metrics"], (
            folder / "stderr.txt"
        ).read_text()
        yield Process(process, words[1].removeprefix("grpc="), words[2].removeprefix("metrics="))
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def test_a_server_process_says_ready_once_drains_and_leaves_nothing_behind(tmp_path: Path) -> None:
    write_echo_model(tmp_path / "models", step_seconds=0.05)
    write_echo_model(tmp_path / "models", "broken", fail_load="no memory")
    async with server_process(tmp_path, "--drain-delay-seconds", "0", "--log-format", "json") as server:
        runners = server.runners
        assert len(runners) == 1
        assert await asyncio.to_thread(fetch, f"http://{server.metrics_address}/readyz") == "ready\n"
        async with grpc.aio.insecure_channel(server.grpc_address) as channel:
            stub = image_generation_pb2_grpc.ImageGenerationServiceStub(channel)
            inside = await begun(stub.Generate(request(num_inference_steps=20)))
            os.killpg(server.process.pid, signal.SIGTERM)  # as a terminal or `timeout` does; runners must not mind
            events = [event async for event in inside]
        assert events[-1].HasField("completed"), "the call inside must be finished"
        status, printed = await server.rest()
    assert (status, printed) == (0, "")
    assert not psutil.wait_procs(runners, timeout=20)[1]
    for line in (tmp_path / "stderr.txt").read_text().splitlines():
        assert json.loads(line)["message"]


async def test_a_second_signal_cuts_the_drain_short(tmp_path: Path) -> None:
    write_echo_model(tmp_path / "models", step_seconds=1)
    async with server_process(tmp_path, "--drain-delay-seconds", "3600") as server:
        runners = server.runners
        async with grpc.aio.insecure_channel(server.grpc_address) as channel:
            stub = image_generation_pb2_grpc.ImageGenerationServiceStub(channel)
            inside = await begun(stub.Generate(request(num_inference_steps=150)))
            server.process.send_signal(signal.SIGTERM)
            watch = probe_pb2_grpc.HealthStub(channel).Watch(probe_pb2.HealthCheckRequest())
            async for answer in watch:
                if answer.status == NOT_SERVING:
                    break
            server.process.send_signal(signal.SIGTERM)
            await failing(inside)
        assert await server.rest() == (0, "")
    assert not psutil.wait_procs(runners, timeout=20)[1]


async def test_a_signal_while_models_load_ends_the_process(tmp_path: Path) -> None:
    write_echo_model(tmp_path / "models", load_seconds=3600)
    process = await asyncio.create_subprocess_exec(
        *command_line(tmp_path), stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE, cwd=tmp_path
    )
    assert process.stdout is not None
    assert process.stderr is not None
    try:
        async with asyncio.timeout(60):
            async for line in process.stderr:
                if b"LOADING" in line:
                    break
            else:
                pytest.fail("it ended before it loaded anything")
            while not psutil.Process(process.pid).children():  # noqa: ASYNC110 - the runner is being started
                await asyncio.sleep(0.01)
            runners = psutil.Process(process.pid).children(recursive=True)
            process.send_signal(signal.SIGTERM)
            printed, _ = await process.communicate()
        assert (process.returncode, printed) == (0, b"")
        assert not psutil.wait_procs(runners, timeout=20)[1]
    finally:
        if process.returncode is None:
            os.kill(process.pid, signal.SIGKILL)
            await process.wait()
