"""The client library and the command line, with tokens and TLS, against a real server."""

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from atelier_client import Atelier, PermissionDenied, ResourceExhausted, Unauthenticated
from atelier_client.cli import main
from atelier_server.testing import echo_server_in_thread
from tests.integration.security_kit import Tokens, authority, needs_openssl, signed

pytestmark = pytest.mark.skipif(needs_openssl, reason="openssl makes the certificates")


@contextlib.contextmanager
def secured(folder: Path, tokens: Tokens) -> Iterator[tuple[str, Path]]:
    """A server's address and the authority of its certificate."""
    ca = authority(folder, "ca")
    chain, key = signed(folder, "server", "ca")
    with echo_server_in_thread(folder, tls_cert=chain, tls_key=key, tokens_file=tokens.path) as address:
        yield address, ca


def test_the_library_with_a_token(tmp_path: Path) -> None:
    tokens = Tokens(tmp_path / "secrets")
    maker = tokens.add("maker", "generate")
    once = tokens.add("once", "generate", requests_per_minute=1)
    fields = {"width": 64, "height": 64, "num_inference_steps": 1}
    with secured(tmp_path, tokens) as (address, ca):
        with Atelier(address, ca_file=ca, token=maker) as atelier:
            assert atelier.generate("a bag", **fields).images
            with pytest.raises(PermissionDenied) as denied:
                atelier.metrics()
            assert denied.value.reason == "SCOPE_MISSING"
        for token in (None, "atelier_wrong"):
            with Atelier(address, ca_file=ca, token=token) as atelier, pytest.raises(Unauthenticated):
                atelier.health()
        with Atelier(address, ca_file=ca, token=once) as atelier:
            atelier.health()
            with pytest.raises(ResourceExhausted) as spent:
                atelier.health()
            assert 0 < (spent.value.retry_after or 0) <= 60


def test_the_command_with_a_token(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    tokens = Tokens(tmp_path / "secrets")
    file = tmp_path / "token"
    file.write_text(tokens.add("maker", "generate") + "\n")
    monkeypatch.delenv("ATELIER_TOKEN", raising=False)
    with secured(tmp_path, tokens) as (address, ca):
        words = ["--server", address, "--ca", str(ca)]
        assert main([*words, "--token-file", str(file), "health", "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["status"] == "healthy"
        assert main([*words, "health", "--json"]) == 1
        assert json.loads(capsys.readouterr().out)["error"]["code"] == "UNAUTHENTICATED"
        monkeypatch.setenv("ATELIER_TOKEN", file.read_text().strip())
        assert main([*words, "metrics", "--json"]) == 1
        assert json.loads(capsys.readouterr().out)["error"]["code"] == "PERMISSION_DENIED"
