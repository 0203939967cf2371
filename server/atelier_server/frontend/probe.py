"""Asks a running server for its health, for container health checks and scripts: `atelier-server health`."""

from dataclasses import dataclass
from pathlib import Path

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from atelier_server.config import split_address
from atelier_server.errors import InvalidArgument
from atelier_server.frontend.server import join_address

_ANYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}
"""Addresses to listen on that are none to call."""


@dataclass(frozen=True, slots=True)
class Transport:
    """How to reach a server with TLS; without `ca` it is reached in plain text.

    `server_name` is the name in its certificate where the address is another; `cert` and `key` are the client's own.
    """

    ca: Path | None = None
    server_name: str = ""
    cert: Path | None = None
    key: Path | None = None


def probe(listen: str, service: str, timeout_seconds: float, transport: Transport) -> int:
    """Prints the health of a service and returns an exit status: 0 SERVING, 1 anything else.

    Args:
        listen: HOST:PORT as the server listens.
        service: "", the name of a gRPC service, or model/NAME.
        timeout_seconds: For the answer.
        transport: How to reach it.

    Raises:
        InvalidArgument: A file of the transport cannot be read.
    """
    host, port = split_address(listen)
    with _channel(join_address(_ANYWHERE.get(host, host), port), transport) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        try:
            answer = stub.Check(health_pb2.HealthCheckRequest(service=service), timeout=timeout_seconds)
        except grpc.RpcError as error:
            print(": ".join(filter(None, (listen, error.code().name, error.details()))))
            return 1
    name = health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status)
    print(name)
    return 0 if name == "SERVING" else 1


def _channel(address: str, transport: Transport) -> grpc.Channel:
    if transport.ca is None:
        return grpc.insecure_channel(address)
    key, chain = (_read(path) if path else None for path in (transport.key, transport.cert))
    credentials = grpc.ssl_channel_credentials(_read(transport.ca), key, chain)
    named = [("grpc.ssl_target_name_override", transport.server_name)] if transport.server_name else []
    return grpc.secure_channel(address, credentials, named)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise InvalidArgument(f"{path} cannot be read: {error.strerror}") from None
