"""TLS for the gRPC port and, beyond loopback, for metrics: certificates that may be renewed while the server runs."""

import logging
import ssl
from collections.abc import Callable
from pathlib import Path
from threading import Lock
from typing import cast

import grpc

from atelier_server.config import ServerConfig
from atelier_server.errors import InvalidArgument

logger = logging.getLogger(__name__)


def server_credentials(config: ServerConfig) -> grpc.ServerCredentials | None:
    """Credentials that follow the configured files; None without a certificate.

    Raises:
        InvalidArgument: A file cannot be read, key and certificate do not fit together, or the authority is none.
    """
    if config.tls_cert is None or config.tls_key is None:
        return None
    files = CertificateFiles(config.tls_cert, config.tls_key, config.tls_client_ca)
    first = files.changed()  # gRPC itself would take anything now and fail at every handshake
    fetch = cast(Callable[[], grpc.ServerCertificateConfiguration], files.changed)  # its stubs forget that None is fine
    assert first is not None
    return grpc.dynamic_ssl_server_credentials(first, fetch, config.tls_client_ca is not None)


class CertificateFiles:
    """Reads certificate, key and client authority again when one of the files changed.

    gRPC asks before every handshake, on threads of its own. Files that do not fit together, as in the midst of being
    replaced, change nothing: the last good ones go on, and are looked at again at the next connection.
    """

    def __init__(self, certificate: Path, key: Path, client_ca: Path | None = None) -> None:
        self._certificate, self._key, self._client_ca = certificate, key, client_ca
        self._lock = Lock()
        self._seen: tuple[bytes, ...] | None = None

    def changed(self) -> grpc.ServerCertificateConfiguration | None:
        """What handshakes are to use from now on, or None for no change.

        Raises:
            InvalidArgument: The first time, when the files are no good.
        """
        with self._lock:
            try:
                contents = self._read()
                if contents == self._seen:
                    return None
                check_pair(self._certificate, self._key)
                if self._client_ca is not None:
                    check_authority(contents[2], self._client_ca)
                if self._seen is not None and self._read() != contents:  # they are being replaced just now
                    return None
            except InvalidArgument as error:
                if self._seen is None:
                    raise
                logger.error("the certificate was not renewed: %s", error.message)
                return None
            if self._seen is not None:
                logger.info("the certificate was renewed from %s", self._certificate)
            self._seen = contents
            key, chain, *roots = contents
            return grpc.ssl_server_certificate_configuration([(key, chain)], roots[0] if roots else None)

    def _read(self) -> tuple[bytes, ...]:
        named = [("tls_key", self._key), ("tls_cert", self._certificate)]
        if self._client_ca is not None:
            named.append(("tls_client_ca", self._client_ca))
        contents = []
        for field, path in named:
            try:
                contents.append(path.read_bytes())
            except OSError as error:
                raise InvalidArgument(f"{field} {path} cannot be read: {error.strerror}", field=field) from None
        return tuple(contents)


class CertificateContext:
    """A context for Python's own servers that follows the files in the same way.

    Raises:
        InvalidArgument: The files are no good.
    """

    def __init__(self, certificate: Path, key: Path) -> None:
        self._certificate, self._key = certificate, key
        self._seen = self._mark()
        self._context = check_pair(certificate, key)

    def __call__(self) -> ssl.SSLContext:
        """What the next connection is to use."""
        mark = self._mark()
        if mark != self._seen:
            try:
                self._context = check_pair(self._certificate, self._key)
                self._seen = mark
            except InvalidArgument as error:
                logger.error("the certificate was not renewed: %s", error.message)
        return self._context

    def _mark(self) -> tuple[int, ...]:
        try:
            return tuple(path.stat().st_mtime_ns for path in (self._certificate, self._key))
        except OSError:
            return ()


def check_pair(certificate: Path, key: Path) -> ssl.SSLContext:
    """A context for Python's own servers.

    Raises:
        InvalidArgument: Certificate and key are damaged or do not fit together.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_cert_chain(certificate, key, password=_no_password)
    except (ssl.SSLError, OSError, ValueError) as error:
        reason = getattr(error, "reason", None) or getattr(error, "strerror", None) or str(error)
        message = f"the certificate and key in {certificate} and {key} cannot be used together: {reason}"
        raise InvalidArgument(message, field="tls_cert") from None
    return context


def check_authority(data: bytes, path: Path) -> None:
    """Checks what clients' certificates are to be judged by; gRPC would take anything, and then let nobody in.

    Raises:
        InvalidArgument: It holds no certificate.
    """
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_verify_locations(cadata=data.decode("ascii"))
    except (ssl.SSLError, ValueError):
        raise InvalidArgument(f"tls_client_ca {path} holds no certificate in PEM", field="tls_client_ca") from None


def _no_password() -> str:
    raise ValueError("the key is encrypted; the server needs one without a password")
