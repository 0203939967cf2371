"""How an AtelierError crosses from a runner to its executor: as JSON."""

import json

from atelier_server import errors
from atelier_server.errors import AtelierError

_CLASSES = {
    kind.__name__: kind
    for kind in (
        errors.InvalidArgument,
        errors.ModerationBlocked,
        errors.Unauthenticated,
        errors.PermissionDenied,
        errors.NotFound,
        errors.AlreadyExists,
        errors.FailedPrecondition,
        errors.GateRefused,
        errors.Unavailable,
        errors.ResourceExhausted,
        errors.DeadlineExceeded,
        errors.Cancelled,
        errors.NotImplementedYet,
        errors.Internal,
    )
}


def encode(error: AtelierError) -> bytes:
    """To the wire, as the nearest class that both sides know."""
    bases = (kind.__name__ for kind in type(error).__mro__)
    content = {
        "class": next((name for name in bases if name in _CLASSES), errors.Internal.__name__),
        "message": error.message,
        "reason": error.reason,
        "field": error.field,
        "retry_after_seconds": error.retry_after_seconds,
        "metadata": dict(error.metadata),
    }
    return json.dumps(content).encode()


def decode(value: bytes) -> AtelierError:
    """From the wire."""
    content = json.loads(value)
    kind = _CLASSES[content.pop("class")]
    return kind(content.pop("message"), **content)
