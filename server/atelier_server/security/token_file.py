"""The file of tokens: TOML, with digests in place of tokens.

A token is 256 random bits, so that one SHA-256 is enough: there is nothing to guess, and checking costs a microsecond.
A slow hash, as passwords need, would protect no better and let strangers burn the server's time with wrong tokens.
Tokens that people choose are therefore not taken: only `atelier-server tokens new` makes them.
"""

import hashlib
import re
import secrets
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from atelier_server.errors import InvalidArgument
from atelier_server.security.quotas import Limits
from atelier_server.security.scopes import Scope

PREFIX = "atelier_"
"""Makes a token in a log or a repository recognisable."""
NAME = re.compile(r"[a-z0-9][a-z0-9_.-]{0,63}")
_DIGEST = re.compile(r"[0-9a-f]{64}")
_RANDOM_BYTES = 32
MOST_BYTES = 4 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Token:
    """What a token of the file allows; `expires` is seconds since the epoch, None never."""

    name: str
    digests: tuple[bytes, ...]
    scopes: frozenset[Scope]
    expires: float | None
    limits: Limits


class _Entry(BaseModel):
    """A table [tokens.NAME]."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    sha256: tuple[str, ...] = Field(min_length=1)
    scopes: frozenset[Scope] = Field(min_length=1)
    expires: datetime | None = None
    requests_per_minute: float | None = Field(None, gt=0)
    concurrent_calls: int | None = Field(None, ge=1)
    pixel_steps: float | None = Field(None, gt=0)
    window_seconds: float = Field(3600.0, gt=0)
    share: float = Field(1.0, ge=0.001, le=1000)

    @field_validator("sha256", mode="before")
    @classmethod
    def _several(cls, value: object) -> object:
        return (value,) if isinstance(value, str) else value

    @field_validator("sha256")
    @classmethod
    def _check_digests(cls, digests: tuple[str, ...]) -> tuple[str, ...]:
        if not all(_DIGEST.fullmatch(digest) for digest in digests):
            raise ValueError("a digest is 64 lower-case hexadecimal digits, as `atelier-server tokens new` prints it")
        return digests

    @field_validator("expires", mode="before")
    @classmethod
    def _check_expiry(cls, value: object) -> object:
        if isinstance(value, datetime) and value.tzinfo is not None:
            return value
        if isinstance(value, date) and not isinstance(value, datetime):
            return datetime(value.year, value.month, value.day, tzinfo=UTC)
        raise ValueError("expires is a date, or a time with its zone, such as 2027-01-31T12:00:00Z; without quotes")


def digest_of(token: str) -> bytes:
    """What the file holds of a token."""
    return hashlib.sha256(token.encode()).digest()


def new_token() -> str:
    """A fresh token: the prefix and 256 random bits."""
    return PREFIX + secrets.token_urlsafe(_RANDOM_BYTES)


def read_tokens(path: Path) -> tuple[Token, ...]:
    """Reads the file.

    Raises:
        InvalidArgument: It cannot be read or a table is wrong; the message names it, and never a digest.
    """
    try:
        data = path.read_bytes()
        if len(data) > MOST_BYTES:
            raise ValueError(f"it has more than {MOST_BYTES} bytes")
        document = tomllib.loads(data.decode())
    except OSError as error:
        raise _wrong(path, f"it cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise _wrong(path, str(error)) from None
    tables = document.pop("tokens", {})
    if document or not isinstance(tables, dict):
        raise _wrong(path, "it holds tables [tokens.NAME] and nothing else")
    return _checked(path, [_token(path, name, table) for name, table in tables.items()])


def _checked(path: Path, tokens: list[Token]) -> tuple[Token, ...]:
    owners: dict[bytes, str] = {}
    for token in tokens:
        for digest in token.digests:
            if digest in owners:
                raise _wrong(path, f"[tokens.{token.name}] and [tokens.{owners[digest]}] are of one token")
            owners[digest] = token.name
    return tuple(tokens)


def _token(path: Path, name: str, table: Mapping[str, Any]) -> Token:
    if not NAME.fullmatch(name):
        raise _wrong(path, f"{name[:70]!r} is no name: lower-case letters, digits, '-', '_' and '.', at most 64")
    try:
        entry = _Entry.model_validate(table)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"][:1])
        message = str(first["msg"]).removeprefix("Value error, ")
        raise _wrong(path, f"[tokens.{name}] {where}: {message}") from None
    return Token(
        name=name,
        digests=tuple(map(bytes.fromhex, entry.sha256)),
        scopes=entry.scopes,
        expires=entry.expires.timestamp() if entry.expires else None,
        limits=Limits(
            requests_per_minute=entry.requests_per_minute,
            concurrent_calls=entry.concurrent_calls,
            pixel_steps=entry.pixel_steps,
            window_seconds=entry.window_seconds,
            share=entry.share,
        ),
    )


def _wrong(path: Path, what: str) -> InvalidArgument:
    return InvalidArgument(f"the tokens file {path}: {what}", field="tokens_file")
