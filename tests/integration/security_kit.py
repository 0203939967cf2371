"""Tokens, certificates and callers for the tests of who may call."""

import asyncio
import shutil
import subprocess
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import grpc

from atelier_server.security.token_file import digest_of, new_token

needs_openssl = shutil.which("openssl") is None
EC_KEY = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"]


class Tokens:
    """A tokens file that a test writes to; `add` gives the token itself."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.path = folder / "tokens.toml"
        self.path.write_text("")

    def add(self, name: str, *scopes: str, expires: datetime | None = None, **quotas: Any) -> str:
        token = new_token()
        lines = [
            f"[tokens.{name}]",
            f'sha256 = "{digest_of(token).hex()}"',
            f"scopes = {[str(scope) for scope in scopes]}",
        ]
        lines += [f"expires = {expires.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"] if expires else []
        lines += [f"{quota} = {value}" for quota, value in quotas.items()]
        self.path.write_text(self.path.read_text() + "\n".join(lines) + "\n")
        return token


async def eventually(condition: Callable[[], Awaitable[object]]) -> None:
    """Waits until it holds."""
    async with asyncio.timeout(30):
        while not await condition():  # noqa: ASYNC110 - what is waited for tells nobody
            await asyncio.sleep(0.05)


def bearing(token: str | None) -> Any:
    """Call metadata with a token; None: without."""
    return () if token is None else (("authorization", f"Bearer {token}"),)


def authority(folder: Path, name: str) -> Path:
    """A certificate authority's certificate; its key lies beside it."""
    files = ["-keyout", f"{name}.key", "-out", f"{name}.pem", "-subj", f"/CN={name}"]
    subprocess.run(["openssl", "req", "-x509", *EC_KEY, *files], cwd=folder, check=True, capture_output=True)
    return folder / f"{name}.pem"


def signed(folder: Path, name: str, ca: str) -> tuple[Path, Path]:
    """A certificate for this machine by an authority of the folder, and its key."""
    command = ["openssl", "req", "-x509", *EC_KEY, "-keyout", f"{name}.key", "-out", f"{name}.pem"]
    command += ["-subj", f"/CN={name}", "-CA", f"{ca}.pem", "-CAkey", f"{ca}.key"]
    command += ["-addext", "subjectAltName=IP:127.0.0.1", "-addext", "basicConstraints=critical,CA:FALSE"]
    subprocess.run(command, cwd=folder, check=True, capture_output=True)
    return folder / f"{name}.pem", folder / f"{name}.key"


def trusting(ca: Path, client: tuple[Path, Path] | None = None) -> grpc.ChannelCredentials:
    """Credentials that trust an authority, with a client's certificate and key where given."""
    chain, key = client or (None, None)
    return grpc.ssl_channel_credentials(
        ca.read_bytes(), key.read_bytes() if key else None, chain.read_bytes() if chain else None
    )
