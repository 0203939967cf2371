"""Where work comes from: the id of the call that caused it and that call's place in a trace.

It travels with the work: to the log's lines, over the private protocol into runner processes, and to services that are
asked on behalf of the call. Texts only, so that nothing here needs a library for traces.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from types import MappingProxyType

TRACEPARENT, TRACESTATE = "traceparent", "tracestate"
"""The headers of W3C Trace Context, level 1."""

_VALID = re.compile(r"(?!ff)[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}(-.*)?")
_MOST_STATE = 512


@dataclass(frozen=True, slots=True)
class Origin:
    """A call's id and trace context; everything is empty where nothing is known."""

    request_id: str = ""
    traceparent: str = ""
    tracestate: str = ""

    @property
    def trace_id(self) -> str:
        """32 hexadecimal digits, or empty."""
        match = _VALID.fullmatch(self.traceparent)
        return match[1] if match else ""

    def headers(self) -> dict[str, str]:
        """The trace context as headers for the next hop."""
        named = {TRACEPARENT: self.traceparent, TRACESTATE: self.tracestate}
        return {name: value for name, value in named.items() if value}


NO_ORIGIN = Origin()

request_id: ContextVar[str] = ContextVar("request_id", default="")
"""The id of the call that runs in this context; interceptors set it."""

trace_headers: ContextVar[Mapping[str, str]] = ContextVar("trace_headers", default=MappingProxyType({}))
"""The trace context that came in from outside, as headers."""


def read_headers(metadata: Iterable[tuple[str, str | bytes]]) -> dict[str, str]:
    """The W3C trace context of a call's metadata; empty where it is missing or wrong, as the standard wants it."""
    found = {key: value for key, value in metadata if key in (TRACEPARENT, TRACESTATE) and isinstance(value, str)}
    if not _VALID.fullmatch(found.get(TRACEPARENT, "")):
        return {}
    if not 0 < len(found.get(TRACESTATE, "")) <= _MOST_STATE:
        found.pop(TRACESTATE, None)
    return found


@contextmanager
def working_for(origin: Origin) -> Iterator[None]:
    """Lets the log's lines of a block name the call that the work is done for."""
    tokens = request_id.set(origin.request_id), trace_headers.set(origin.headers())
    try:
        yield
    finally:
        request_id.reset(tokens[0])
        trace_headers.reset(tokens[1])
