"""The tokens file: what it takes, what it refuses, what `tokens new` writes."""

import os
import stat
from pathlib import Path

import pytest

from atelier_server.cli import main
from atelier_server.errors import InvalidArgument, PermissionDenied, Unauthenticated
from atelier_server.security.guard import LOOK_SECONDS, Guard
from atelier_server.security.quotas import Limits
from atelier_server.security.scopes import Scope
from atelier_server.security.token_file import PREFIX, digest_of, new_token, read_tokens

DIGEST = digest_of("x").hex()
TABLE = f'[tokens.a]\nsha256 = "{DIGEST}"\nscopes = ["generate"]\n'


def written(folder: Path, text: str) -> Path:
    path = folder / "tokens.toml"
    path.write_text(text)
    return path


def test_a_token_has_256_random_bits_and_a_name_that_scanners_find() -> None:
    made = {new_token() for _ in range(100)}
    assert len(made) == 100
    assert all(token.startswith(PREFIX) and len(token) == len(PREFIX) + 43 for token in made)


def test_everything_that_a_table_may_hold(tmp_path: Path) -> None:
    text = f"""
    [tokens."shop.1"]
    sha256 = ["{DIGEST}", "{digest_of("y").hex()}"]
    scopes = ["score", "generate"]
    expires = 2030-01-01
    requests_per_minute = 60
    concurrent_calls = 2
    pixel_steps = 1e9
    window_seconds = 60
    share = 0.5
    """
    token = read_tokens(written(tmp_path, text))[0]
    assert token.name == "shop.1"
    assert token.digests == (digest_of("x"), digest_of("y"))
    assert token.scopes == {Scope.GENERATE, Scope.SCORE}
    assert token.expires == 1893456000
    assert token.limits == Limits(60, 2, 1e9, 60, 0.5)
    assert read_tokens(written(tmp_path, "")) == ()


WRONG = {
    "tokens.a": ('[tokens.a]\nscopes = ["generate"]', "sha256"),
    "short digest": (TABLE.replace(DIGEST, "ab"), "64 lower-case"),
    "unknown scope": (TABLE.replace("generate", "everything"), "scopes"),
    "no scope": (TABLE.replace('"generate"', ""), "scopes"),
    "unknown key": (TABLE + "quota = 3\n", "quota"),
    "quoted date": (TABLE + 'expires = "2030-01-01"\n', "expires"),
    "time without a zone": (TABLE + "expires = 2030-01-01T00:00:00\n", "zone"),
    "negative quota": (TABLE + "pixel_steps = -1\n", "pixel_steps"),
    "infinite share": (TABLE + "share = inf\n", "share"),
    "bad name": (TABLE.replace("[tokens.a]", '[tokens."A b"]'), "no name"),
    "one token twice": (TABLE + TABLE.replace("[tokens.a]", "[tokens.b]"), "one token"),
    "other tables": ("[other]\n", "nothing else"),
    "no TOML": ("tokens = ", "Invalid"),
    "no UTF-8": ("\udcff", "utf-8"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_fault_is_named_and_no_digest_is_told(tmp_path: Path, case: str) -> None:
    text, said = WRONG[case]
    path = tmp_path / "tokens.toml"
    path.write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(InvalidArgument) as caught:
        read_tokens(path)
    assert said in caught.value.message
    assert caught.value.field == "tokens_file"
    assert DIGEST not in caught.value.message


def test_the_command_makes_a_token_that_the_server_takes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "tokens.toml"
    words = ["tokens", "new", "web-shop", "--scopes", "generate, score", "--file", str(file)]
    assert main([*words, "--expires-days", "1", "--pixel-steps", "1e9", "--share", "1.5"]) == 0
    token = capsys.readouterr().out.strip()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert token not in file.read_text()
    client = Guard(file).authenticate(f"bearer {token}")
    assert (client.name, client.scopes) == ("web-shop", {Scope.GENERATE, Scope.SCORE})
    assert client.account.limits == Limits(pixel_steps=1e9, share=1.5)
    os.chmod(file, 0o640)
    assert main([*words[:2], "other", *words[3:]]) == 0
    assert stat.S_IMODE(file.stat().st_mode) == 0o640
    assert len(read_tokens(file)) == 2
    assert os.listdir(tmp_path) == ["tokens.toml"]


@pytest.mark.parametrize(
    "words",
    [
        ["x", "--scopes", "all"],
        ["x", "--scopes", ","],
        ["A B", "--scopes", "score"],
        ["taken", "--scopes", "score"],
        ["x", "--scopes", "score", "--share", "-1"],
    ],
)
def test_the_command_refuses_and_leaves_the_file_alone(tmp_path: Path, words: list[str]) -> None:
    file = tmp_path / "tokens.toml"
    file.write_text(TABLE.replace("tokens.a", "tokens.taken"))
    assert main(["tokens", "new", *words, "--file", str(file)]) == 2
    assert file.read_text() == TABLE.replace("tokens.a", "tokens.taken")
    assert os.listdir(tmp_path) == ["tokens.toml"]


def test_without_a_file_the_table_is_printed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tokens", "new", "printed", "--scopes", "metrics"]) == 0
    token, _, table = capsys.readouterr().out.partition("\n")
    assert Guard(written(tmp_path, table)).authenticate(f"Bearer {token}").name == "printed"


def test_the_guard_on_a_clock_of_its_own(tmp_path: Path) -> None:
    first, second = new_token(), new_token()
    tables = [
        f'[tokens.{name}]\nsha256 = "{digest_of(token).hex()}"\nscopes = ["generate"]\nexpires = 2030-01-01\n'
        for name, token in (("first", first), ("second", second))
    ]
    now, today = [0.0], [1893456000.0 - 1]
    guard = Guard(written(tmp_path, tables[0]), lambda: now[0], lambda: today[0])
    account = guard.authenticate(f"Bearer {first}").account
    written(tmp_path, "".join(tables))
    with pytest.raises(Unauthenticated):
        guard.authenticate(f"Bearer {second}")  # not looked at yet
    now[0] += LOOK_SECONDS
    assert guard.authenticate(f"Bearer {second}").name == "second"
    assert guard.authenticate(f"Bearer {first}").account is account, "what was used stays used"
    with pytest.raises(PermissionDenied, match="scope score"):
        guard.admit(f"Bearer {first}", "/atelier.v1.ImageGenerationService/Score")
    today[0] += 1
    with pytest.raises(Unauthenticated) as caught:
        guard.authenticate(f"Bearer {first}")
    assert caught.value.reason == "TOKEN_EXPIRED"


@pytest.mark.parametrize(
    "header", [None, "", "Bearer", "Bearer ", "Basic abc", "token", "Bearer " + "x" * 10_000, "Bearer é"]
)
def test_headers_that_are_no_token(tmp_path: Path, header: str | None) -> None:
    with pytest.raises(Unauthenticated):
        Guard(written(tmp_path, TABLE)).authenticate(header)
