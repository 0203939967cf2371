"""Who calls: decided before anything of a request is read, and known to everything that the call does."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import replace
from typing import Any
from urllib.parse import unquote

import grpc

from atelier_server.config import is_loopback
from atelier_server.errors import ResourceExhausted, Unauthenticated
from atelier_server.pipeline.caller import Caller
from atelier_server.security.guard import Client, Guard
from atelier_server.security.quotas import Account
from atelier_server.security.scopes import Scope, is_open

AUTHORIZATION = "authorization"
MOST_PROBES = 1000
"""Calls without a token that are under way at once, such as Health.Watch."""
LONGEST_NAME = 128

ANYBODY = Client("", frozenset(Scope), Account(""))
"""Who calls where no tokens are asked for: everything is allowed."""

Context = grpc.aio.ServicerContext[Any, Any]
_calling: ContextVar[Client] = ContextVar("calling", default=ANYBODY)


def calling() -> Client:
    """The client of the call that runs in this context."""
    return _calling.get()


def caller_of(context: Context) -> Caller:
    """The pipeline's view of a call."""
    client = calling()
    return Caller(client=client.name, deadline_seconds=context.time_remaining(), account=client.account)


class Access:
    """Lets calls in.

    Args:
        guard: Checks tokens; None: nobody needs one.
        most_calls: Calls under way at once, of all clients together.
    """

    def __init__(self, guard: Guard | None = None, most_calls: int = 2000) -> None:
        self._guard = guard
        self._room = {True: MOST_PROBES, False: most_calls}

    def check(self, method: str, metadata: Iterable[tuple[str, str | bytes]]) -> Client:
        """Who calls a method, by its headers alone.

        Raises:
            Unauthenticated: There is no token, or it is wrong or expired.
            PermissionDenied: It lacks the method's scope.
        """
        if self._guard is None or is_open(method):
            return ANYBODY
        values = [value for key, value in metadata if key == AUTHORIZATION]
        if len(values) > 1:
            raise Unauthenticated("there are several headers authorization; send one", reason="TOKEN_MALFORMED")
        value = values[0] if values and isinstance(values[0], str) else None
        return self._guard.admit(value, method)

    @contextmanager
    def inside(self, method: str, client: Client, context: Context) -> Iterator[None]:
        """Counts a call of a client for the time of the block, and tells its work whose it is.

        Raises:
            ResourceExhausted: Too many calls are under way, or one of the client's quotas is used up.
        """
        probe = is_open(method)
        if not self._room[probe]:
            raise ResourceExhausted(
                "too many calls are under way; try again later", reason="TOO_MANY_CALLS", retry_after_seconds=1.0
            )
        if client is ANYBODY:
            client = replace(ANYBODY, account=Account(peer_name(context)))
        token = _calling.set(client)
        self._room[probe] -= 1
        try:
            with client.account.call():
                client.account.request()
                yield
        finally:
            self._room[probe] += 1
            _calling.reset(token)


def is_local(context: Context) -> bool:
    """Whether the caller is on this machine, or looks so behind a proxy on it."""
    kind, _, address = unquote(context.peer() or "").partition(":")
    return kind == "unix" or (kind in ("ipv4", "ipv6") and is_loopback(address))


def peer_name(context: Context) -> str:
    """What stands for a caller without a token, so that it shares fairly: its certificate's name, or its address."""
    names = (context.auth_context() or {}).get("x509_common_name") or ()
    for name in names:
        return f"certificate {name.decode(errors='replace')}"[:LONGEST_NAME]
    kind, _, address = unquote(context.peer() or "").partition(":")
    return (address.rpartition(":")[0] if kind in ("ipv4", "ipv6") else kind)[:LONGEST_NAME]
