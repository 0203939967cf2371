"""Everything that a call can end with, as one small tree. It imports nothing heavy.

AtelierError
├── InvalidArgument          a field is wrong; `field` names it
│   └── ModerationBlocked    the prompt or the picture is refused
├── NotFound                 no such model, brand …
├── AlreadyExists            the name is taken
├── FailedPrecondition       right request, wrong state: the message says what to do first
│   └── GateRefused          no picture reached its thresholds
├── Unavailable              the server cannot be reached, or asks to come back later
├── ResourceExhausted        a queue, quota or memory is full
├── DeadlineExceeded         the timeout is over, or would be
├── Cancelled                the call was given up
├── Unauthenticated          the token is missing or wrong
├── PermissionDenied         the token does not allow this
├── Unimplemented            this server does not offer it
├── DataLoss                 what arrived is not what was sent
└── Internal                 the server's fault; its log has the details
"""

from collections.abc import Mapping


class AtelierError(Exception):
    """Base of all errors of this client.

    Attributes:
        code: The gRPC status name, such as INVALID_ARGUMENT.
        message: One sentence that says what to do.
        field: The request's field at fault; empty where there is none.
        reason: A constant for programs, such as QUEUE_FULL; empty when the server gave none.
        retry_after: Seconds until a retry makes sense; None when the server named none.
        metadata: Further facts for programs.
    """

    code = "UNKNOWN"

    def __init__(
        self,
        message: str,
        *,
        field: str = "",
        reason: str = "",
        retry_after: float | None = None,
        metadata: Mapping[str, str] | None = None,
        code: str | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.field = field
        self.reason = reason
        self.retry_after = retry_after
        self.metadata = dict(metadata or {})
        self.code = code or type(self).code


class InvalidArgument(AtelierError):
    """A field of the request is wrong; `field` names it. Found by the server or already by this client."""

    code = "INVALID_ARGUMENT"


class ModerationBlocked(InvalidArgument):
    """The prompt or the picture is refused by a safety rule."""


class NotFound(AtelierError):
    """There is no such thing."""

    code = "NOT_FOUND"


class AlreadyExists(AtelierError):
    """The name is taken by something else."""

    code = "ALREADY_EXISTS"


class FailedPrecondition(AtelierError):
    """Something must be done first, such as fetching a model; the message says what."""

    code = "FAILED_PRECONDITION"


class GateRefused(FailedPrecondition):
    """No picture reached its thresholds; `metadata` has the best scores."""


class Unavailable(AtelierError):
    """The server cannot be reached, or asks to come back later."""

    code = "UNAVAILABLE"


class ResourceExhausted(AtelierError):
    """A queue, a quota or a memory is full."""

    code = "RESOURCE_EXHAUSTED"


class DeadlineExceeded(AtelierError):
    """The timeout is over, or would be before the work ends."""

    code = "DEADLINE_EXCEEDED"


class Cancelled(AtelierError):
    """The call was given up."""

    code = "CANCELLED"


class Unauthenticated(AtelierError):
    """The token is missing or wrong."""

    code = "UNAUTHENTICATED"


class PermissionDenied(AtelierError):
    """The token does not allow this."""

    code = "PERMISSION_DENIED"


class Unimplemented(AtelierError):
    """This server does not offer it."""

    code = "UNIMPLEMENTED"


class DataLoss(AtelierError):
    """What arrived is not what was sent: a gap, a wrong checksum or an early end."""

    code = "DATA_LOSS"


class Internal(AtelierError):
    """The server's fault; its log has the details."""

    code = "INTERNAL"


_BY_CODE: dict[str, type[AtelierError]] = {
    kind.code: kind
    for kind in (
        InvalidArgument,
        NotFound,
        AlreadyExists,
        FailedPrecondition,
        Unavailable,
        ResourceExhausted,
        DeadlineExceeded,
        Cancelled,
        Unauthenticated,
        PermissionDenied,
        Unimplemented,
        DataLoss,
        Internal,
    )
}
_BY_REASON: dict[str, type[AtelierError]] = {"MODERATION_BLOCKED": ModerationBlocked, "GATE_REFUSED": GateRefused}


def kind_of(code: str, reason: str) -> type[AtelierError]:
    """The class for a gRPC status name and a reason; AtelierError itself for codes without a class."""
    special = _BY_REASON.get(reason)
    if special is not None and special.code == code:
        return special
    return _BY_CODE.get(code, AtelierError)
