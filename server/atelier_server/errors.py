"""Everything that can go wrong, as one small tree. It knows no transport: frontend/error_table.py maps it to gRPC.

AtelierError
├── InvalidArgument          the caller's field is wrong
│   └── ModerationBlocked    the prompt or the picture is refused
├── Unauthenticated          no token, or a wrong one
├── PermissionDenied         the token does not allow it
├── NotFound                 no such model, brand …
├── AlreadyExists            the name is taken
├── FailedPrecondition       right request, wrong state: something must be done first
│   └── GateRefused          no picture reached its thresholds
├── Unavailable              try again later
├── ResourceExhausted        a queue, quota or memory is full
├── DeadlineExceeded         the caller's time is over, or would be
├── Cancelled                the caller left
├── NotImplementedYet        declared, not built
└── Internal                 our fault; the details stay in the log
"""

from collections.abc import Mapping


class AtelierError(Exception):
    """Base of all errors that callers may see.

    Args:
        message: One sentence for the caller that says what to do; it never holds internals.
        reason: A constant for programs, in upper case, such as QUEUE_FULL.
        field: The request's field at fault, where there is one.
        retry_after_seconds: When a retry makes sense, where it does.
        metadata: Further facts for programs.
    """

    reason = "INTERNAL"

    def __init__(
        self,
        message: str,
        *,
        reason: str | None = None,
        field: str = "",
        retry_after_seconds: float | None = None,
        metadata: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.reason = reason or type(self).reason
        self.field = field
        self.retry_after_seconds = retry_after_seconds
        self.metadata = dict(metadata or {})


class InvalidArgument(AtelierError):
    """The caller's field is wrong; `field` names it."""

    reason = "INVALID_ARGUMENT"


class ModerationBlocked(InvalidArgument):
    """The prompt or the picture is refused by a safety rule."""

    reason = "MODERATION_BLOCKED"


class Unauthenticated(AtelierError):
    """There is no token, or it is wrong or expired."""

    reason = "TOKEN_UNKNOWN"


class PermissionDenied(AtelierError):
    """The token is known and does not allow this."""

    reason = "SCOPE_MISSING"


class NotFound(AtelierError):
    """There is no such thing."""

    reason = "NOT_FOUND"


class AlreadyExists(AtelierError):
    """The name is taken by something else."""

    reason = "ALREADY_EXISTS"


class FailedPrecondition(AtelierError):
    """Something must be done first; the message says what."""

    reason = "FAILED_PRECONDITION"


class GateRefused(FailedPrecondition):
    """No picture reached its thresholds."""

    reason = "GATE_REFUSED"


class Unavailable(AtelierError):
    """Try again later."""

    reason = "UNAVAILABLE"


class ResourceExhausted(AtelierError):
    """A queue, a quota or a memory is full."""

    reason = "RESOURCE_EXHAUSTED"


class DeadlineExceeded(AtelierError):
    """The caller's time is over, or would be before the work ends."""

    reason = "DEADLINE_EXCEEDED"


class Cancelled(AtelierError):
    """The caller left."""

    reason = "CANCELLED"


class NotImplementedYet(AtelierError):
    """Declared in the contract, not built in this release."""

    reason = "NOT_IMPLEMENTED"


class Internal(AtelierError):
    """Our fault; the log has the details."""
