"""The id of the gRPC call that a handler serves; the log's lines carry it, and so does every error."""

import re
import uuid
from collections.abc import Iterable
from contextvars import ContextVar

from atelier_server.telemetry.logging import request_id

REQUEST_ID_KEY = "x-request-id"
_USABLE = re.compile(r"[\x21-\x7e]{1,128}")
_made: ContextVar[str] = ContextVar("made_request_id")


def begin_call(metadata: Iterable[tuple[str, str | bytes]]) -> None:
    """Gives this task's call an id: the caller's x-request-id, or a new one."""
    _made.set(uuid.uuid4().hex)
    request_id.set(_made.get())
    for key, value in metadata:
        if key == REQUEST_ID_KEY and isinstance(value, str):
            adopt_request_id(value)


def adopt_request_id(text: str) -> None:
    """Takes the id that the caller chose. One that could garble the log is left alone; validation will name it."""
    if _USABLE.fullmatch(text):
        request_id.set(text)


def made_request_id() -> str:
    """The new id of this call. A header may repeat, so a generation that the caller did not name goes by this one."""
    return _made.get()
