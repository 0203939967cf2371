"""How an AtelierError crosses from a runner to its executor: a gRPC status, and the error as JSON in a trailer."""

import json
from collections.abc import Iterable

import grpc

from atelier_server import errors
from atelier_server.errors import AtelierError

TRAILER = "atelier-error-bin"
_LONGEST_MESSAGE, _LONGEST_FIELD, _LONGEST_KEY, _LONGEST_FACT = 2000, 200, 60, 120
"""Bytes as JSON, where a letter outside of ASCII takes six or twelve: trailers are limited to 8 KiB."""
_MOST_FACTS = 16

_CODES: dict[type[AtelierError], grpc.StatusCode] = {
    errors.InvalidArgument: grpc.StatusCode.INVALID_ARGUMENT,
    errors.ModerationBlocked: grpc.StatusCode.INVALID_ARGUMENT,
    errors.Unauthenticated: grpc.StatusCode.UNAUTHENTICATED,
    errors.PermissionDenied: grpc.StatusCode.PERMISSION_DENIED,
    errors.NotFound: grpc.StatusCode.NOT_FOUND,
    errors.AlreadyExists: grpc.StatusCode.ALREADY_EXISTS,
    errors.FailedPrecondition: grpc.StatusCode.FAILED_PRECONDITION,
    errors.GateRefused: grpc.StatusCode.FAILED_PRECONDITION,
    errors.Unavailable: grpc.StatusCode.UNAVAILABLE,
    errors.ResourceExhausted: grpc.StatusCode.RESOURCE_EXHAUSTED,
    errors.DeadlineExceeded: grpc.StatusCode.DEADLINE_EXCEEDED,
    errors.Cancelled: grpc.StatusCode.CANCELLED,
    errors.NotImplementedYet: grpc.StatusCode.UNIMPLEMENTED,
    errors.Internal: grpc.StatusCode.INTERNAL,
}
_CLASSES = {kind.__name__: kind for kind in _CODES}


def status_code(error: AtelierError) -> grpc.StatusCode:
    """The status of the error's class, or of the nearest base that has one."""
    for kind in type(error).__mro__:
        if kind in _CODES:
            return _CODES[kind]
    return grpc.StatusCode.INTERNAL


def encode(error: AtelierError) -> bytes:
    """The trailer's value; long texts are cut so that it fits."""
    named = next((kind.__name__ for kind in type(error).__mro__ if kind in _CODES), errors.Internal.__name__)
    facts = dict(list(error.metadata.items())[:_MOST_FACTS])
    content = {
        "class": named,
        "message": _cut(error.message, _LONGEST_MESSAGE),
        "reason": error.reason,
        "field": _cut(error.field, _LONGEST_FIELD),
        "retry_after_seconds": error.retry_after_seconds,
        "metadata": {_cut(key, _LONGEST_KEY): _cut(value, _LONGEST_FACT) for key, value in facts.items()},
    }
    return json.dumps(content).encode()


def decode(trailers: Iterable[tuple[str, str | bytes]] | None) -> AtelierError | None:
    """The error that the other side encoded, or None when there is none."""
    for key, value in trailers or ():
        if key == TRAILER and isinstance(value, bytes):
            content = json.loads(value)
            return _CLASSES[content["class"]](
                content["message"],
                reason=content["reason"],
                field=content["field"],
                retry_after_seconds=content["retry_after_seconds"],
                metadata=content["metadata"],
            )
    return None


def _cut(text: str, most_bytes: int) -> str:
    """As much of the text as its JSON has room for."""
    text = text[:most_bytes]
    while text and len(json.dumps(text)) - len('""') > most_bytes:
        text = text[: len(text) * 7 // 8]
    return text
