"""TLS: who may listen in, and who may call."""

import shutil
import subprocess
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from atelier_server.errors import InvalidArgument
from atelier_server.frontend.app import build
from atelier_server.testing import echo_server, in_process_executor, server_config
from tests.integration.grpc_kit import failing

pytestmark = pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl makes the certificates")


def certificate(folder: Path, name: str) -> tuple[Path, Path]:
    """A self-signed certificate for this machine, and its key."""
    chain, key = folder / f"{name}.pem", folder / f"{name}.key"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    command += ["-days", "2", "-subj", f"/CN={name}", "-addext", "subjectAltName=IP:127.0.0.1"]
    subprocess.run([*command, "-keyout", key, "-out", chain], check=True, capture_output=True)
    return chain, key


async def probe(address: str, credentials: grpc.ChannelCredentials | None) -> int:
    make = grpc.aio.insecure_channel(address) if credentials is None else grpc.aio.secure_channel(address, credentials)
    async with make as channel:
        check = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=20)
        return (await check).status


async def test_only_those_who_trust_the_certificate_can_talk(tmp_path: Path) -> None:
    chain, key = certificate(tmp_path, "server")
    other, _ = certificate(tmp_path, "other")
    async with echo_server(tmp_path, tls_cert=chain, tls_key=key) as server:
        trusting = grpc.ssl_channel_credentials(chain.read_bytes())
        assert await probe(server.address, trusting) == health_pb2.HealthCheckResponse.SERVING
        for credentials in (None, grpc.ssl_channel_credentials(other.read_bytes())):
            assert (await failing(probe(server.address, credentials))).code() is grpc.StatusCode.UNAVAILABLE


async def test_a_client_authority_lets_in_only_its_clients(tmp_path: Path) -> None:
    chain, key = certificate(tmp_path, "server")
    client, client_key = certificate(tmp_path, "client")
    async with echo_server(tmp_path, tls_cert=chain, tls_key=key, tls_client_ca=client) as server:
        roots = chain.read_bytes()
        known = grpc.ssl_channel_credentials(roots, client_key.read_bytes(), client.read_bytes())
        assert await probe(server.address, known) == health_pb2.HealthCheckResponse.SERVING
        unknown = grpc.ssl_channel_credentials(roots)
        assert (await failing(probe(server.address, unknown))).code() is grpc.StatusCode.UNAVAILABLE


@pytest.mark.parametrize(
    "content", ["", "no certificate", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"]
)
async def test_an_authority_that_is_none_is_refused_at_start(tmp_path: Path, content: str) -> None:
    chain, key = certificate(tmp_path, "server")
    (tmp_path / "ca.pem").write_text(content)
    config = server_config(tmp_path, tls_cert=chain, tls_key=key, tls_client_ca=tmp_path / "ca.pem")
    with pytest.raises(InvalidArgument, match=r"ca\.pem holds no certificate"):
        await build(config, in_process_executor)


async def test_a_key_of_another_certificate_is_refused_at_start(tmp_path: Path) -> None:
    chain, _ = certificate(tmp_path, "server")
    _, wrong_key = certificate(tmp_path, "other")
    config = server_config(tmp_path, tls_cert=chain, tls_key=wrong_key)
    with pytest.raises(InvalidArgument, match="certificate and key"):
        await build(config, in_process_executor)
