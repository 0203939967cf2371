"""`atelier-server tokens`: makes tokens."""

import argparse
import os
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from atelier_server.errors import AlreadyExists, InvalidArgument
from atelier_server.security.scopes import Scope
from atelier_server.security.token_file import NAME, digest_of, new_token, read_tokens

_QUOTAS = {
    "requests_per_minute": "requests that it may make in a minute",
    "concurrent_calls": "calls that it may have under way at once",
    "pixel_steps": "width × height × steps of all its pictures in a window",
    "window_seconds": "length of that window; default: 3600",
    "share": "its part of a model that others want too, against their 1",
}


def add_token_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `tokens new`."""
    parser.add_argument("name", metavar="NAME", help="whose it is")
    parser.add_argument("--scopes", required=True, metavar="LIST", help=f"some of {','.join(Scope)}")
    parser.add_argument(
        "--file", type=Path, metavar="FILE", help="add its table to this tokens file instead of printing it"
    )
    parser.add_argument("--expires-days", type=float, metavar="N", help="default: never")
    for name, text in _QUOTAS.items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=float, metavar="N", help=text)


def new_token_command(options: dict[str, Any]) -> int:
    """Prints a fresh token, the only time that it is seen, and its table for the tokens file or adds it there.

    Returns:
        The exit code.

    Raises:
        InvalidArgument: Name or a scope is none, or the file is wrong.
        AlreadyExists: The file has a token of this name.
    """
    name, file = options["name"], options["file"]
    if not NAME.fullmatch(name):
        raise InvalidArgument(
            f"{name[:70]!r} is no name: use lower-case letters, digits, '-', '_' and '.', at most 64", field="name"
        )
    token = new_token()
    table = _table(name, token, options)
    if file is not None:
        _append(file, name, table)
    print(token)
    if file is None:
        print(f"\n{table}", end="")
    print("The token is shown only now; the tokens file holds its digest.", file=sys.stderr)
    return 0


def _table(name: str, token: str, options: dict[str, Any]) -> str:
    quoted = f'"{name}"' if "." in name else name
    lines = [f"[tokens.{quoted}]", f'sha256 = "{digest_of(token).hex()}"']
    lines.append("scopes = [" + ", ".join(f'"{scope}"' for scope in _scopes(options["scopes"])) + "]")
    if options["expires_days"] is not None:
        expires = datetime.now(UTC) + timedelta(days=options["expires_days"])
        lines.append(f"expires = {expires:%Y-%m-%dT%H:%M:%SZ}")
    for quota in _QUOTAS:
        value = options[quota]
        if value is not None:
            lines.append(f"{quota} = {int(value) if value.is_integer() else value}")
    return "\n".join(lines) + "\n"


def _scopes(text: str) -> list[Scope]:
    words = {word.strip() for word in text.split(",")} - {""}
    if not words or words - set(Scope):
        raise InvalidArgument(f"--scopes takes some of {', '.join(Scope)}, separated by commas", field="scopes")
    return sorted(map(Scope, words))


def _append(file: Path, name: str, table: str) -> None:
    """Adds a table and puts the whole file in place at once, so that no server reads half of it."""
    before, mode = "", 0o600
    if file.exists():
        if name in {token.name for token in read_tokens(file)}:
            raise AlreadyExists(f"{file} has a token named {name} already; take another name", field="name")
        mode = file.stat().st_mode & 0o777
        before = file.read_text().rstrip("\n") + "\n\n"
    fresh = file.with_name(f".{file.name}.{os.getpid()}")
    try:
        with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "w") as out:
            out.write((before if before.strip() else "") + table)
        read_tokens(fresh)
        os.replace(fresh, file)
    except OSError as error:
        raise InvalidArgument(f"{file} cannot be written: {error.strerror}", field="file") from None
    finally:
        fresh.unlink(missing_ok=True)
