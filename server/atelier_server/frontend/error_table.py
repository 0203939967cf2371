"""The one table from the domain's errors to gRPC: a status code, and google.rpc details for programs.

Details travel in the trailing metadata, which HTTP/2 peers bound to 8 KiB by default, so texts are cut to fit.
"""

from google.protobuf import any_pb2, duration_pb2
from google.protobuf.message import Message
from google.rpc import error_details_pb2 as details
from google.rpc import status_pb2
from grpc import StatusCode

from atelier_server import errors

DOMAIN = "atelier"
DETAILS_KEY = "grpc-status-details-bin"

_CODES: dict[type[errors.AtelierError], StatusCode] = {
    errors.InvalidArgument: StatusCode.INVALID_ARGUMENT,
    errors.Unauthenticated: StatusCode.UNAUTHENTICATED,
    errors.PermissionDenied: StatusCode.PERMISSION_DENIED,
    errors.NotFound: StatusCode.NOT_FOUND,
    errors.AlreadyExists: StatusCode.ALREADY_EXISTS,
    errors.FailedPrecondition: StatusCode.FAILED_PRECONDITION,
    errors.Unavailable: StatusCode.UNAVAILABLE,
    errors.ResourceExhausted: StatusCode.RESOURCE_EXHAUSTED,
    errors.DeadlineExceeded: StatusCode.DEADLINE_EXCEEDED,
    errors.Cancelled: StatusCode.CANCELLED,
    errors.NotImplementedYet: StatusCode.UNIMPLEMENTED,
    errors.AtelierError: StatusCode.INTERNAL,
}
_MESSAGE_BYTES = 500
_FIELD_BYTES = 200
_METADATA_BYTES = 100
_METADATA_ENTRIES = 12
"""The message is in there up to four times, and once more in three times its bytes, where it is not ASCII."""
_LONGEST_DELAY_SECONDS = 365 * 86_400.0
"""A Duration has an end, and whoever else decides on the time may name any."""


def status_code(error: errors.AtelierError) -> StatusCode:
    """The status of the nearest class in the table, so that a new subclass needs no entry of its own."""
    return next(_CODES[kind] for kind in type(error).__mro__ if kind in _CODES)


def rpc_status(error: errors.AtelierError, request_id: str) -> status_pb2.Status:
    """Makes the google.rpc.Status of an error: ErrorInfo and RequestInfo always, the rest where it applies."""
    message, field = _cut(error.message, _MESSAGE_BYTES), _cut(error.field, _FIELD_BYTES)
    parts: list[Message] = [
        details.ErrorInfo(reason=error.reason, domain=DOMAIN, metadata=_metadata(error)),
        details.RequestInfo(request_id=request_id),
    ]
    if error.field:
        violation = details.BadRequest.FieldViolation(field=field, description=message, reason=error.reason)
        parts.append(details.BadRequest(field_violations=[violation]))
    if isinstance(error, errors.FailedPrecondition):
        broken = details.PreconditionFailure.Violation(type=error.reason, subject=_subject(error), description=message)
        parts.append(details.PreconditionFailure(violations=[broken]))
    if isinstance(error, errors.ResourceExhausted):
        quota = details.QuotaFailure.Violation(subject=_subject(error), description=message)
        parts.append(details.QuotaFailure(violations=[quota]))
    if error.retry_after_seconds is not None:
        delay = duration_pb2.Duration()
        delay.FromNanoseconds(round(min(max(0.0, error.retry_after_seconds), _LONGEST_DELAY_SECONDS) * 1e9))
        parts.append(details.RetryInfo(retry_delay=delay))
    return status_pb2.Status(code=_number(status_code(error)), message=message, details=[_pack(part) for part in parts])


def _metadata(error: errors.AtelierError) -> dict[str, str]:
    kept = list(error.metadata.items())[:_METADATA_ENTRIES]
    return {_cut(key, _METADATA_BYTES): _cut(value, _METADATA_BYTES) for key, value in kept}


def _cut(text: str, most_bytes: int) -> str:
    return text.encode(errors="replace")[:most_bytes].decode(errors="ignore")


def _subject(error: errors.AtelierError) -> str:
    return _cut(error.metadata.get("model") or error.field or "server", _FIELD_BYTES)


def _number(code: StatusCode) -> int:
    number: int = code.value[0]
    return number


def _pack(message: Message) -> any_pb2.Any:
    packed = any_pb2.Any()
    packed.Pack(message)
    return packed
