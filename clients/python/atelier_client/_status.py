"""A gRPC status with its google.rpc details into an error of this client."""

from typing import Any

import grpc
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2, status_pb2

from atelier_client._errors import AtelierError, kind_of

_DETAILS = "grpc-status-details-bin"


def error_of(call: Any, target: str, *, closed: bool = False) -> AtelierError:
    """The error that a failed call ended with.

    Args:
        call: What grpc raised: grpc.RpcError of a call, or grpc.aio.AioRpcError.
        target: The server's address, for errors that come from no server at all.
        closed: Whether this side ended the connection.
    """
    code: grpc.StatusCode = call.code() or grpc.StatusCode.UNKNOWN
    facts = _facts(call.trailing_metadata() or ())
    if code is grpc.StatusCode.CANCELLED and not facts and not closed:
        code = grpc.StatusCode.UNAVAILABLE  # a server that ends cuts the calls that come in that very moment
    from_server = bool(facts)
    message = (call.details() or "") if from_server else _own_words(code, call.details() or "", target)
    kind = kind_of(code.name, facts.get("reason", ""))
    return kind(message or code.name, code=code.name, **facts)


def _facts(trailers: Any) -> dict[str, Any]:
    """Field, reason, retry_after and metadata out of the details; empty when there are none that can be read."""
    packed = next((value for key, value in trailers if key == _DETAILS), None)
    if packed is None:
        return {}
    facts: dict[str, Any] = {}
    try:
        for detail in status_pb2.Status.FromString(packed).details:
            facts |= _fact(detail)
    except DecodeError:
        return {}
    return facts


def _fact(detail: Any) -> dict[str, Any]:
    info, bad, retry = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest(), error_details_pb2.RetryInfo()
    if detail.Unpack(info):
        return {"reason": info.reason, "metadata": dict(info.metadata)}
    if detail.Unpack(bad) and bad.field_violations:
        return {"field": bad.field_violations[0].field}
    if detail.Unpack(retry) and retry.HasField("retry_delay"):
        return {"retry_after": retry.retry_delay.ToNanoseconds() / 1e9}
    return {}


def _own_words(code: grpc.StatusCode, details: str, target: str) -> str:
    """What to do about a status that no Atelier server wrote."""
    match code:
        case grpc.StatusCode.UNAVAILABLE:
            return f"No answer from {target}: start the server there, or check address, TLS and network ({details})."
        case grpc.StatusCode.UNIMPLEMENTED:
            return f"The server at {target} does not offer this; a newer one may ({details})."
        case grpc.StatusCode.DEADLINE_EXCEEDED:
            return f"{target} did not finish within the timeout; give more time ({details})."
        case _:
            return f"{target}: {details}"
