"""One scripted server a test, and both clients of it, so that they are held to the same behaviour."""

import asyncio
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from atelier_client import AsyncAtelier, Atelier, Retry
from atelier_client.cli import main
from tests.client import scripted
from tests.client.cli_kit import Run
from tests.client.scripted import ScriptedServer, generation

QUICK = Retry(attempts=3, first_seconds=0.001)


class Awaited:
    """AsyncAtelier behind Atelier's methods: each call runs on one event loop until it is done."""

    def __init__(self, runner: asyncio.Runner, thing: Any) -> None:
        self._runner, self._thing = runner, thing

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._thing, name)
        if name in {"brands", "models"}:
            return Awaited(self._runner, found)
        if name == "generate_events":
            return lambda *words, **fields: self._events(found(*words, **fields))
        return lambda *words, **fields: self._runner.run(_awaited(found, words, fields))

    def _events(self, events: Any) -> Iterator[Any]:
        try:
            while True:
                try:
                    yield self._runner.run(anext(events))
                except StopAsyncIteration:
                    return
        finally:
            self._runner.run(events.aclose())


async def _awaited(method: Any, words: Any, fields: Any) -> Any:
    return await method(*words, **fields)


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    running = ScriptedServer()
    yield running
    running.stop()


@pytest.fixture(params=["sync", "async"])
def client(request: pytest.FixtureRequest, server: ScriptedServer) -> Iterator[Any]:
    if request.param == "sync":
        with Atelier(server.target, retry=QUICK) as atelier:
            yield atelier
        return
    with asyncio.Runner() as runner:

        async def make() -> AsyncAtelier:
            return AsyncAtelier(server.target, retry=QUICK)

        atelier = Awaited(runner, runner.run(make()))
        yield atelier
        atelier.close()


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """ca, server and client certificates with their keys, and a ca that signed none of them."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("needs the command openssl")
    folder = tmp_path_factory.mktemp("certificates")
    key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"]
    for name in ("ca", "other"):
        files = ["-keyout", f"{name}.key", "-out", f"{name}.pem", "-subj", f"/CN={name}"]
        subprocess.run([openssl, "req", "-x509", *key, *files], cwd=folder, check=True, capture_output=True)
    for name in ("server", "client"):
        files = ["-keyout", f"{name}.key", "-out", f"{name}.pem", "-subj", f"/CN={name}"]
        signed = ["-CA", "ca.pem", "-CAkey", "ca.key", "-addext", "subjectAltName=IP:127.0.0.1"]
        command = [openssl, "req", "-x509", *key, *files, *signed, "-addext", "basicConstraints=critical,CA:FALSE"]
        subprocess.run(command, cwd=folder, check=True, capture_output=True)
    return folder


@pytest.fixture
def mutual(certificates: Path) -> Iterator[ScriptedServer]:
    """A server that speaks TLS and asks its clients for certificates."""
    pairs = [((certificates / "server.key").read_bytes(), (certificates / "server.pem").read_bytes())]
    roots = (certificates / "ca.pem").read_bytes()
    running = ScriptedServer(grpc.ssl_server_credentials(pairs, roots, require_client_auth=True))
    running.scripts["Health"] = lambda request, context: scripted.health()
    yield running
    running.stop()


@pytest.fixture
def run(
    server: ScriptedServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Run:
    """Runs the command in an empty folder against the scripted server; exit code, stdout, stderr."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ATELIER_SERVER", server.target)
    monkeypatch.delenv("ATELIER_TOKEN", raising=False)

    def command(*words: str) -> tuple[int, str, str]:
        code = main(words)
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    server.scripts["Generate"] = lambda request, context: generation(request)
    return command
