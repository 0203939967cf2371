"""Where a server is and how it is spoken to: address, TLS, token."""

import ipaddress
import os
from dataclasses import dataclass
from os import PathLike
from pathlib import Path

import grpc
import grpc.aio

from atelier_client._errors import InvalidArgument

FilePath = str | PathLike[str]

PLAINTEXT_VARIABLE = "ATELIER_PLAINTEXT_TOKEN"
"""Set, it lets tokens travel without TLS to other machines, as in a service mesh that encrypts by itself."""
_OPTIONS = (
    ("grpc.lb_policy_name", "round_robin"),
    ("grpc.initial_reconnect_backoff_ms", 200),
    ("grpc.max_reconnect_backoff_ms", 2000),
)
"""Where a name has several addresses, calls take turns among them, so a retry reaches another server; one that comes
back is found soon."""


@dataclass(frozen=True, slots=True)
class Connection:
    """Address and credentials of a server; the meaning of each is that of Atelier's arguments."""

    target: str
    tls: bool
    ca_file: FilePath | None
    cert_file: FilePath | None
    key_file: FilePath | None
    token: str | None
    token_file: FilePath | None

    def __post_init__(self) -> None:
        if self.target.startswith(("http://", "https://")) or not self.target:
            raise InvalidArgument(f"{self.target!r} is no HOST:PORT, such as 127.0.0.1:8001.", field="server")
        if (self.cert_file is None) != (self.key_file is None):
            raise InvalidArgument("Give cert_file and key_file together.", field="cert_file")
        if self.token and self.token_file is not None:
            raise InvalidArgument("Give token or token_file, not both.", field="token")

    def open(self) -> grpc.Channel:
        """A channel for threads."""
        credentials = self._credentials()
        return (
            grpc.insecure_channel(self.target, options=_OPTIONS)
            if credentials is None
            else grpc.secure_channel(self.target, credentials, options=_OPTIONS)
        )

    def open_aio(self) -> grpc.aio.Channel:
        """A channel for asyncio."""
        credentials = self._credentials()
        if credentials is None:
            return grpc.aio.insecure_channel(self.target, options=_OPTIONS)
        return grpc.aio.secure_channel(self.target, credentials, options=_OPTIONS)

    def headers(self) -> tuple[tuple[str, str], ...]:
        """Metadata of a call. The token file is read each time, so a renewed token needs no new client."""
        token = (
            self.token if self.token_file is None else _read(self.token_file, "token_file").decode("utf-8", "replace")
        )
        token = (token or "").strip()
        if not token.isascii() or not token.isprintable():
            raise InvalidArgument("The token holds characters that no token has; check it.", field="token")
        if token and self._plain and not os.environ.get(PLAINTEXT_VARIABLE):
            raise InvalidArgument(
                f"The token would cross the network to {self.target} in the clear: use TLS (--ca, --tls), or set "
                f"{PLAINTEXT_VARIABLE}=1 where something else encrypts.",
                field="token",
            )
        return (("authorization", f"Bearer {token}"),) if token else ()

    @property
    def _plain(self) -> bool:
        """Whether others on the way could read what is sent."""
        return not (self.tls or self.ca_file or self.cert_file or _is_local(self.target))

    def _credentials(self) -> grpc.ChannelCredentials | None:
        if not (self.tls or self.ca_file or self.cert_file):
            return None
        return grpc.ssl_channel_credentials(
            root_certificates=None if self.ca_file is None else _read(self.ca_file, "ca_file"),
            private_key=None if self.key_file is None else _read(self.key_file, "key_file"),
            certificate_chain=None if self.cert_file is None else _read(self.cert_file, "cert_file"),
        )


def _read(path: FilePath, field: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise InvalidArgument(f"{path} cannot be read: {error.strerror}.", field=field) from error


def _is_local(target: str) -> bool:
    """Whether an address in any of gRPC's forms is this machine's own."""
    if target.startswith(("unix:", "unix-abstract:")):
        return True
    address = target.rpartition("/")[2]
    for scheme in ("ipv4:", "ipv6:", "dns:"):
        address = address.removeprefix(scheme)
    for host in (address, address.rpartition(":")[0]):
        if host == "localhost":
            return True
        try:
            return ipaddress.ip_address(host.strip("[]")).is_loopback
        except ValueError:
            continue
    return False
