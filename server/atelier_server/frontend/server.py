"""Makes the grpc.aio server: options, credentials and the port. Its services are the composition root's matter."""

import logging
import resource
from collections.abc import Sequence

import grpc

from atelier_server.config import ServerConfig, split_address
from atelier_server.errors import InvalidArgument
from atelier_server.frontend.access import Access
from atelier_server.frontend.interceptors import CallInterceptor
from atelier_server.frontend.tls import server_credentials
from atelier_server.telemetry.calls import CallMetrics

MAX_REQUEST_BYTES = 32 * 1024 * 1024
"""A picture to score or to learn from has at most 25 MB."""

_OWN_FILES = 2000
"""Files that the server needs beside its clients' connections."""

logger = logging.getLogger(__name__)

_OPTIONS: Sequence[tuple[str, int]] = (
    ("grpc.max_receive_message_length", MAX_REQUEST_BYTES),
    # Two servers on one port would share it silently; the second must fail instead.
    ("grpc.so_reuseport", 0),
    # Dead peers are noticed within a minute; clients may ping as often themselves.
    ("grpc.keepalive_time_ms", 40_000),
    ("grpc.keepalive_timeout_ms", 20_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
    # Who connects and then says nothing does not hold a place for long; nor does one connection hold all places.
    ("grpc.server_handshake_timeout_ms", 10_000),
    ("grpc.max_concurrent_streams", 1000),
    # All headers of a call together; beyond the first, calls are refused more and more often.
    ("grpc.max_metadata_size", 16 * 1024),
    ("grpc.absolute_max_metadata_size", 32 * 1024),
)


def make_server(config: ServerConfig, calls: CallMetrics, access: Access) -> grpc.aio.Server:
    """An empty server whose calls are counted and let in. Replies are never compressed: pictures are already."""
    interceptor = CallInterceptor(calls, access, config.unread_seconds)
    limits = (
        ("grpc.max_allowed_incoming_connections", config.max_connections),
        ("grpc.max_connection_idle_ms", round(1000 * config.idle_connection_seconds)),
    )
    return grpc.aio.server(interceptors=[interceptor], options=[*_OPTIONS, *limits])


def bind(server: grpc.aio.Server, config: ServerConfig) -> str:
    """Takes the configured port, with TLS where a certificate is configured.

    Returns:
        HOST:PORT as bound.

    Raises:
        InvalidArgument: The port is taken, or the certificate unusable.
    """
    host, port = split_address(config.listen)
    address = join_address(host, port)
    credentials = server_credentials(config)
    try:
        if credentials is None:
            bound = server.add_insecure_port(address)
        else:
            bound = server.add_secure_port(address, credentials)
    except RuntimeError:
        message = f"cannot listen on {config.listen}: the port is taken, or the address is not this machine's"
        raise InvalidArgument(message, field="listen") from None
    return join_address(host, bound)


def raise_open_files(connections: int) -> None:
    """Lets the process open as many files as its clients may need, where the system's hard limit allows it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = connections + _OWN_FILES
    if hard != resource.RLIM_INFINITY:
        wanted = min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    if wanted < connections + _OWN_FILES:
        logger.warning(
            "%d connections may be open, but only %d files; raise the limit of open files", connections, wanted
        )


def join_address(host: str, port: int) -> str:
    """HOST:PORT, an IPv6 host in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
