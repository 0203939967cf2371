"""A small HTTP server for what is no gRPC: /metrics, /healthz and /readyz. It has its own threads, so that a slow
scraper never waits for the event loop, nor the loop for it."""

import logging
import ssl
import threading
from collections.abc import Callable, Mapping
from functools import partial
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import MappingProxyType
from typing import Any

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest

from atelier_server.errors import AtelierError, PermissionDenied
from atelier_server.security.guard import Guard
from atelier_server.security.scopes import Scope

logger = logging.getLogger(__name__)

_TIMEOUT_SECONDS = 10.0
_STOP_SECONDS = 0.1
_MOST_CONNECTIONS = 64
_TEXT = "text/plain; charset=utf-8"


class MetricsServer:
    """Serves until `stop`.

    Args:
        host: Address to listen on.
        port: Port to listen on; 0 takes a free one.
        registry: What /metrics shows.
        ready: Whether /readyz answers 200 rather than 503; called on other threads.
        guard: Asks for a token with the scope metrics at /metrics; None: everybody may read it. Probes need no token.
        tls: The context of the next connection; None: plain HTTP.

    Raises:
        OSError: The port is taken.
    """

    def __init__(
        self,
        host: str,
        port: int,
        registry: CollectorRegistry,
        ready: Callable[[], bool],
        guard: Guard | None = None,
        tls: Callable[[], ssl.SSLContext] | None = None,
    ) -> None:
        pages: dict[str, Callable[[], Page]] = {
            "/metrics": lambda: (HTTPStatus.OK, CONTENT_TYPE_LATEST, generate_latest(registry)),
            "/healthz": lambda: (HTTPStatus.OK, _TEXT, b"ok\n"),
            "/readyz": lambda: _readiness(ready()),
        }

        handler = type("Handler", (_Handler,), {"pages": pages, "guard": guard})
        self._server = _Server((host, port), handler, tls)
        self.port = int(self._server.server_address[1])
        serve = partial(self._server.serve_forever, poll_interval=_STOP_SECONDS)
        self._thread = threading.Thread(target=serve, name="metrics-http", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stops listening. Blocks for a moment; call it in a thread."""
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


Page = tuple[HTTPStatus, str, bytes]


def _readiness(ready: bool) -> Page:
    return (HTTPStatus.OK, _TEXT, b"ready\n") if ready else (HTTPStatus.SERVICE_UNAVAILABLE, _TEXT, b"not ready\n")


def _made(page: Callable[[], Page]) -> Page:
    try:
        return page()
    except Exception:  # a page that cannot be made is told; what strangers do to a connection is not worth a line
        logger.exception("a page of the metrics port could not be made")
        return HTTPStatus.INTERNAL_SERVER_ERROR, _TEXT, b"the server failed; its log has the reason\n"


class _Server(ThreadingHTTPServer):
    """A thread a connection, within bounds; the handshake is done on that thread too."""

    daemon_threads = True
    block_on_close = False

    def __init__(
        self, address: tuple[str, int], handler: type["_Handler"], tls: Callable[[], ssl.SSLContext] | None
    ) -> None:
        super().__init__(address, handler)
        self._tls = tls
        self._places = threading.Semaphore(_MOST_CONNECTIONS)

    def process_request(self, request: Any, client_address: Any) -> None:
        if self._places.acquire(blocking=False):
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._places.release()

    def finish_request(self, request: Any, client_address: Any) -> None:
        if self._tls is None:
            super().finish_request(request, client_address)
            return
        request.settimeout(_TIMEOUT_SECONDS)
        with self._tls().wrap_socket(request, server_side=True) as secure:
            super().finish_request(secure, client_address)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Strangers who break off or speak no TLS are not worth a traceback."""


class _Handler(BaseHTTPRequestHandler):
    timeout = _TIMEOUT_SECONDS
    server_version = "atelier"
    sys_version = ""
    pages: Mapping[str, Callable[[], Page]] = MappingProxyType({})
    guard: Guard | None = None

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        page = self.pages.get(path)
        refusal = self._refusal() if path == "/metrics" else None
        status, content_type, body = refusal or (_made(page) if page else (HTTPStatus.NOT_FOUND, _TEXT, b"not found\n"))
        self.send_response(status)
        if status is HTTPStatus.UNAUTHORIZED:
            self.send_header("WWW-Authenticate", "Bearer")
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    do_HEAD = do_GET

    def _refusal(self) -> Page | None:
        if self.guard is None:
            return None
        try:
            self.guard.authenticate(self.headers.get("Authorization")).require(Scope.METRICS)
        except AtelierError as error:
            denied = isinstance(error, PermissionDenied)
            status = HTTPStatus.FORBIDDEN if denied else HTTPStatus.UNAUTHORIZED
            return status, _TEXT, f"{error.message}\n".encode()
        return None

    def log_message(self, format: str, *args: object) -> None:
        """Scrapes come every few seconds and say nothing worth a line."""
