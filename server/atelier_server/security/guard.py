"""The guard: who holds a token, and whether it opens a method. The file is read again when it changes."""

import hmac
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from threading import Lock

from atelier_server.errors import InvalidArgument, PermissionDenied, Unauthenticated
from atelier_server.security.quotas import Account
from atelier_server.security.scopes import Scope, needed_scopes
from atelier_server.security.token_file import Token, digest_of, read_tokens

LOOK_SECONDS = 1.0
"""How long a change of the file may go unnoticed."""
_LONGEST = 512
_SCHEME = "bearer "

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Client:
    """Who calls: what its token allows, and what it used. `name` owns request ids; it is empty without tokens."""

    name: str
    scopes: frozenset[Scope]
    account: Account

    def require(self, *scopes: Scope) -> None:
        """Lets through who has one of these scopes.

        Raises:
            PermissionDenied: It has none of them.
        """
        if scopes and self.scopes.isdisjoint(scopes):
            needed = " or ".join(sorted(scopes))
            raise PermissionDenied(
                f"the token of {self.name} does not allow this: it needs the scope {needed}",
                metadata={"needed_scope": needed, "client": self.name},
            )


class Guard:
    """Checks tokens. Its methods may be called from any thread.

    Args:
        path: The tokens file.
        clock: Seconds that never go back, for looking at the file.
        now: Seconds since the epoch, for expiry.

    Raises:
        InvalidArgument: The file is wrong.
    """

    def __init__(
        self, path: Path, clock: Callable[[], float] = time.monotonic, now: Callable[[], float] = time.time
    ) -> None:
        self._path, self._clock, self._now = path, clock, now
        self._lock = Lock()
        self._seen = _mark(path)
        self._tokens = read_tokens(path)
        self._accounts = {token.name: Account(token.name, token.limits) for token in self._tokens}
        self._looked = clock()

    def admit(self, authorization: str | None, method: str) -> Client:
        """Who may call a method.

        Args:
            authorization: The header's value, `Bearer TOKEN`.
            method: /package.Service/Method.

        Raises:
            Unauthenticated: There is no token, or it is wrong or expired.
            PermissionDenied: It lacks the method's scope.
        """
        client = self.authenticate(authorization)
        client.require(*needed_scopes(method))
        return client

    def authenticate(self, authorization: str | None) -> Client:
        """Whose token it is.

        Raises:
            Unauthenticated: There is none, or it is wrong or expired.
        """
        if not authorization:
            raise Unauthenticated(
                "this server wants a token: send the header `authorization: Bearer TOKEN`", reason="TOKEN_MISSING"
            )
        if authorization[: len(_SCHEME)].lower() != _SCHEME or len(authorization) > _LONGEST:
            raise Unauthenticated("the header authorization is not `Bearer TOKEN`", reason="TOKEN_MALFORMED")
        with self._lock:
            self._look()
            token = self._find(digest_of(authorization[len(_SCHEME) :].strip()))
            if token is None:
                raise Unauthenticated("this server does not know the token; it may have been revoked")
            if token.expires is not None and token.expires <= self._now():
                raise Unauthenticated(
                    f"the token of {token.name} has expired; ask for a new one", reason="TOKEN_EXPIRED"
                )
            return Client(token.name, token.scopes, self._accounts[token.name])

    def _find(self, digest: bytes) -> Token | None:
        """Compares with every digest in constant time, so that time tells nothing, not even that one begins alike."""
        found: Token | None = None
        for token in self._tokens:
            for known in token.digests:
                if hmac.compare_digest(known, digest):
                    found = token
        return found

    def _look(self) -> None:
        """Reads the file again if it has changed; a wrong one changes nothing, and the log says so."""
        now = self._clock()
        if now - self._looked < LOOK_SECONDS:
            return
        self._looked = now
        mark = _mark(self._path)
        if mark == self._seen:
            return
        self._seen = mark
        try:
            self._take(read_tokens(self._path))
        except InvalidArgument as error:
            logger.error("%s; the tokens that were known before go on", error.message)
        else:
            logger.info("the tokens file was read again: %d tokens", len(self._tokens))

    def _take(self, tokens: tuple[Token, ...]) -> None:
        accounts: dict[str, Account] = {}
        for token in tokens:
            account = self._accounts.get(token.name) or Account(token.name)
            account.change(token.limits)
            accounts[token.name] = account
        self._tokens, self._accounts = tokens, accounts


def _mark(path: Path) -> tuple[int, ...]:
    """What changes when the file does; empty when it is not there."""
    try:
        status = path.stat()
    except OSError:
        return ()
    return status.st_mtime_ns, status.st_size, status.st_ino, status.st_ctime_ns
