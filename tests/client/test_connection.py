"""Addresses, TLS and tokens."""

from pathlib import Path

import pytest

import atelier_client as api
from atelier_client._connection import Connection
from tests.client import scripted
from tests.client.scripted import ScriptedServer

QUICK = api.Retry(attempts=1)


def test_mutual_tls(mutual: ScriptedServer, certificates: Path) -> None:
    files = {"cert_file": certificates / "client.pem", "key_file": str(certificates / "client.key")}
    with api.Atelier(mutual.target, ca_file=certificates / "ca.pem", retry=QUICK, **files) as atelier:
        assert atelier.health().status == "healthy"


async def test_mutual_tls_async(mutual: ScriptedServer, certificates: Path) -> None:
    files = {"cert_file": certificates / "client.pem", "key_file": str(certificates / "client.key")}
    async with api.AsyncAtelier(mutual.target, ca_file=certificates / "ca.pem", retry=QUICK, **files) as atelier:
        assert (await atelier.health()).status == "healthy"


def test_a_server_that_the_ca_did_not_sign_is_not_spoken_to(mutual: ScriptedServer, certificates: Path) -> None:
    for trust in ({"ca_file": certificates / "other.pem"}, {"tls": True}, {}, {"ca_file": certificates / "ca.pem"}):
        with (
            api.Atelier(mutual.target, retry=QUICK, token="secret", **trust) as atelier,  # type: ignore[arg-type]
            pytest.raises(api.Unavailable, match="TLS"),
        ):
            atelier.health()
    assert not mutual.requests


def test_tokens(server: ScriptedServer, tmp_path: Path) -> None:
    server.scripts["Health"] = lambda request, context: scripted.health()
    path = tmp_path / "token"
    path.write_text("first\n")
    with api.Atelier(server.target, token_file=path) as from_file, api.Atelier(server.target, token="own") as own:
        from_file.health()
        path.write_text("second\n")
        from_file.health()
        own.health()
    with api.Atelier(server.target, token="") as without:
        without.health()
    sent = [headers.get("authorization") for headers in server.headers]
    assert sent == ["Bearer first", "Bearer second", "Bearer own", None]


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"cert_file": "client.pem"}, "cert_file"),
        ({"key_file": "client.key"}, "cert_file"),
        ({"ca_file": "/no/ca.pem"}, "ca_file"),
        ({"token": "a", "token_file": "b"}, "token"),
        ({"token_file": "/no/token"}, "token_file"),
        ({"token": "a\nb"}, "token"),
        ({"target": "http://127.0.0.1:8001"}, "server"),
        ({"target": ""}, "server"),
        ({"token": "schlüssel"}, "token"),
    ],
)
def test_bad_options_are_named(options: dict[str, str], field: str) -> None:
    with pytest.raises(api.InvalidArgument) as caught, api.Atelier(**options) as atelier:  # type: ignore[arg-type]
        atelier.health()
    assert caught.value.field == field


@pytest.mark.parametrize(
    "target", ["localhost:8001", "127.9.9.9:1", "[::1]:8001", "dns:///localhost:1", "unix:/x", "::1"]
)
def test_a_token_goes_to_this_machine_without_tls(target: str) -> None:
    assert Connection(target, False, None, None, None, "secret", None).headers()


@pytest.mark.parametrize(
    "target", ["10.0.0.1:8001", "images.example:8001", "dns:///images.example:1", "[2001:db8::1]:1"]
)
def test_a_token_does_not_cross_the_network_in_the_clear(target: str, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = Connection(target, False, None, None, None, "secret", None)
    with pytest.raises(api.InvalidArgument, match="in the clear") as caught:
        plain.headers()
    assert caught.value.field == "token"
    assert "secret" not in str(caught.value)
    assert Connection(target, True, None, None, None, "secret", None).headers()
    assert Connection(target, False, None, None, None, None, None).headers() == ()
    monkeypatch.setenv("ATELIER_PLAINTEXT_TOKEN", "1")
    assert plain.headers()
