"""What strangers and bad clients do to the port: each is met as it should be, and the others do not notice."""

import asyncio
import contextlib
import resource
import socket
import ssl
import urllib.request
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc

from atelier_server.config import split_address
from atelier_server.errors import InvalidArgument
from atelier_server.frontend.tls import CertificateContext, CertificateFiles
from atelier_server.testing import RunningServer, echo_server
from atelier_server.testing.echo_models import write_echo_model
from tests.integration.grpc_kit import detail, failing, heard, images, request
from tests.integration.security_kit import Tokens, authority, eventually, needs_openssl, signed, trusting

SERVING = health_pb2.HealthCheckResponse.SERVING
HTTP2_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])
UNAVAILABLE = grpc.StatusCode.UNAVAILABLE
tls = pytest.mark.skipif(needs_openssl, reason="openssl makes the certificates")


async def probe(address: str, credentials: grpc.ChannelCredentials | None) -> int:
    """The server's health, over a connection of its own."""
    options = [("grpc.use_local_subchannel_pool", 1)]
    make = grpc.aio.insecure_channel(address, options)
    if credentials is not None:
        make = grpc.aio.secure_channel(address, credentials, options)
    async with make as channel:
        check = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=20)
        return int((await check).status)


@tls
async def test_certificates_of_another_authority_and_plaintext_are_turned_away(tmp_path: Path) -> None:
    ours, theirs = authority(tmp_path, "ours"), authority(tmp_path, "theirs")
    chain, key = signed(tmp_path, "server", "ours")
    friend, stranger = signed(tmp_path, "friend", "ours"), signed(tmp_path, "stranger", "theirs")
    async with echo_server(tmp_path, tls_cert=chain, tls_key=key, tls_client_ca=ours) as server:  # noqa: SIM117
        async with grpc.aio.secure_channel(server.address, trusting(ours, friend)) as channel:
            watch = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest())
            assert (await watch.read()).status == SERVING
            for credentials in (trusting(ours, stranger), trusting(ours), trusting(theirs, friend), None):
                assert (await failing(probe(server.address, credentials))).code() is UNAVAILABLE
            await asyncio.to_thread(_say, server.address, b"GET / HTTP/1.1\r\n\r\n" * 1000)
            assert not watch.done(), "a neighbour's connection is none of theirs"
            assert await probe(server.address, trusting(ours, friend)) == SERVING
            watch.cancel()


def _say(address: str, data: bytes) -> bytes:
    """Sends bytes as they are, and gives what comes back until the server hangs up."""
    with socket.create_connection(split_address(address), timeout=20) as connection, contextlib.suppress(OSError):
        connection.sendall(data)
        return b"".join(iter(lambda: connection.recv(65536), b""))
    return b""


@tls
async def test_certificate_and_authority_are_renewed_without_a_restart(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    old, new = authority(tmp_path, "old"), authority(tmp_path, "new")
    chain, key = signed(tmp_path, "server", "old")
    before, after = signed(tmp_path, "before", "old"), signed(tmp_path, "after", "new")
    client_ca = tmp_path / "clients.pem"
    client_ca.write_bytes(old.read_bytes())
    async with echo_server(tmp_path, tls_cert=chain, tls_key=key, tls_client_ca=client_ca) as server:  # noqa: SIM117
        async with grpc.aio.secure_channel(server.address, trusting(old, before)) as channel:
            watch = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest())
            assert (await watch.read()).status == SERVING
            good = key.read_bytes()
            key.write_bytes(b"half of a k")
            assert await probe(server.address, trusting(old, before)) == SERVING
            assert "was not renewed" in caplog.text
            key.write_bytes(good)
            signed(tmp_path, "server", "new")
            client_ca.write_bytes(new.read_bytes())
            assert await probe(server.address, trusting(new, after)) == SERVING
            assert (await failing(probe(server.address, trusting(old, before)))).code() is UNAVAILABLE
            assert not watch.done(), "connections that stand go on"
            watch.cancel()


@tls
async def test_metrics_speak_tls_where_others_can_reach_them(tmp_path: Path) -> None:
    ours = authority(tmp_path, "ours")
    chain, key = signed(tmp_path, "server", "ours")
    tokens = Tokens(tmp_path / "secrets")
    token = tokens.add("prometheus", "metrics")
    files = {"tls_cert": chain, "tls_key": key, "tokens_file": tokens.path}
    async with echo_server(tmp_path, metrics_listen="0.0.0.0:0", **files) as server:
        port = split_address(server.app.metrics_address)[1]
        asked = urllib.request.Request(
            f"https://127.0.0.1:{port}/metrics", headers={"Authorization": f"Bearer {token}"}
        )

        def ask(ca: Path) -> int:
            with urllib.request.urlopen(asked, timeout=20, context=ssl.create_default_context(cafile=ca)) as answer:
                return int(answer.status)

        assert await asyncio.to_thread(ask, ours) == 200
        assert await asyncio.to_thread(_say, f"127.0.0.1:{port}", b"GET /metrics HTTP/1.0\r\n\r\n") == b""
        newer = authority(tmp_path, "newer")
        signed(tmp_path, "server", "newer")
        assert await asyncio.to_thread(ask, newer) == 200


@tls
def test_files_that_are_no_certificates_are_named_at_start(tmp_path: Path) -> None:
    authority(tmp_path, "ours")
    chain, key = signed(tmp_path, "server", "ours")
    (tmp_path / "nothing").write_text("")
    encrypted = tmp_path / "encrypted.key"
    encrypted.write_text("-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n")
    for pair in ((chain, tmp_path / "nothing"), (tmp_path / "nothing", key), (chain, encrypted)):
        with pytest.raises(InvalidArgument, match="certificate and key"):
            CertificateFiles(*pair).changed()
        with pytest.raises(InvalidArgument, match="certificate and key"):
            CertificateContext(*pair)
    with pytest.raises(InvalidArgument, match="cannot be read"):
        CertificateFiles(chain, tmp_path / "absent").changed()


@contextlib.asynccontextmanager
async def working_neighbour(server: RunningServer) -> AsyncIterator[None]:
    """Somebody whose calls must all succeed meanwhile."""
    done = 0

    async def work() -> None:
        nonlocal done
        async with grpc.aio.insecure_channel(server.address) as channel:
            neighbour = RunningServer(server.app, channel)
            while True:
                assert (await heard(neighbour, seed=1000 + done))[-1].HasField("completed")
                done += 1

    task = asyncio.create_task(work())
    try:
        yield
        before = done

        async def once_more() -> bool:
            return done > before or task.done()

        await eventually(once_more)
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


@pytest.mark.parametrize("method", ["Generate", "Score"])
async def test_a_message_of_200_megabytes_is_refused(server: RunningServer, method: str) -> None:
    path = f"/atelier.v1.ImageGenerationService/{method}"
    async with working_neighbour(server), grpc.aio.insecure_channel(server.address) as channel:
        call = channel.unary_stream(path, request_serializer=None, response_deserializer=None)(bytes(200_000_000))
        assert (await failing(call)).code() is grpc.StatusCode.RESOURCE_EXHAUSTED


async def test_of_a_caller_without_a_token_nothing_is_read(tmp_path: Path) -> None:
    """It would be refused as undecodable if it were read."""
    tokens = Tokens(tmp_path / "secrets")
    async with echo_server(tmp_path, tokens_file=tokens.path) as server:
        path = "/atelier.v1.ImageGenerationService/Score"
        call = server.channel.unary_unary(path, request_serializer=None, response_deserializer=None)
        error = await failing(call(bytes(200_000_000)))
        assert error.code() is grpc.StatusCode.UNAUTHENTICATED


async def test_a_thousand_idle_connections_disturb_nobody(server: RunningServer) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, max(soft, 4096)), hard))
    address = split_address(server.address)
    idle: list[socket.socket] = []
    try:
        async with working_neighbour(server):
            for number in range(1000):
                idle.append(await asyncio.to_thread(socket.create_connection, address, 20))
                if number % 2:  # half of them speak HTTP/2 and then say nothing, half say nothing at all
                    idle[-1].sendall(HTTP2_PREFACE)
            assert (await heard(server, seed=1))[-1].HasField("completed")
    finally:
        for connection in idle:
            connection.close()
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


async def test_connections_beyond_the_limit_are_closed_and_idle_ones_make_room(tmp_path: Path) -> None:
    async with echo_server(tmp_path, max_connections=20, idle_connection_seconds=2) as server:
        assert (await heard(server, seed=1))[-1].HasField("completed")
        streams = [await asyncio.open_connection(*split_address(server.address)) for _ in range(60)]
        for _, writer in streams:
            writer.write(HTTP2_PREFACE)
        async with working_neighbour(server):  # its connection stood before, or waits until there is room
            ends = [asyncio.create_task(_hung_up(reader)) for reader, _ in streams]
            async with asyncio.timeout(60):
                await asyncio.gather(*ends)
        for _, writer in streams:
            writer.close()


async def _hung_up(reader: asyncio.StreamReader) -> None:
    with contextlib.suppress(ConnectionError):
        while await reader.read(65536):
            pass


async def _rest(call: Any) -> None:
    while await call.read() is not grpc.aio.EOF:
        pass


SMALL_WINDOW = [("grpc.http2.bdp_probe", 0), ("grpc.http2.lookahead_bytes", 4096)]


async def test_slow_readers_are_ended_and_hold_nobody_up(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_echo_model(tmp_path / "models", default_steps=8)
    caplog.set_level("INFO", "atelier_server")
    async with echo_server(tmp_path, unread_seconds=1.0, heartbeat_seconds=0.2) as server:  # noqa: SIM117
        async with grpc.aio.insecure_channel(server.address, SMALL_WINDOW) as channel:
            slow = RunningServer(server.app, channel)
            large = {"width": 1024, "height": 1024, "num_images": 4, "num_inference_steps": 2}
            calls = [images(slow).Generate(request(seed=seed, **large)) for seed in (10, 20, 30)]
            for call in calls:
                assert (await call.read()).HasField("queued")
            async with working_neighbour(server):

                async def all_ended() -> bool:
                    return caplog.text.count("Generate CANCELLED") == len(calls)

                await eventually(all_ended)
            for call in calls:  # who reads on after all finds out why
                error = await failing(_rest(call))
                assert error.code() is grpc.StatusCode.CANCELLED
                assert detail(error, error_details_pb2.ErrorInfo).reason == "SLOW_READER"


async def test_more_calls_than_there_is_room_for_are_refused(tmp_path: Path) -> None:
    write_echo_model(tmp_path / "models", step_seconds=0.05)
    async with echo_server(tmp_path, max_concurrent_calls=2) as server:
        running: list[Any] = [images(server).Generate(request(seed=seed, num_inference_steps=150)) for seed in (1, 2)]
        for call in running:
            await call.read()
        error = await failing(images(server).Generate(request(seed=3)))
        assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert detail(error, error_details_pb2.ErrorInfo).reason == "TOO_MANY_CALLS"
        assert await probe(server.address, None) == SERVING, "probes have room of their own"
        for call in running:
            call.cancel()


async def test_headers_beyond_all_measure_are_refused(server: RunningServer) -> None:
    metadata = tuple((f"x-header-{number}", "x" * 1000) for number in range(100))
    error = await failing(images(server).Generate(request(), metadata=metadata))
    assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert (await heard(server, seed=1))[-1].HasField("completed")
