import inspect
from typing import TypeVar

import pytest
from google.protobuf.message import Message
from google.rpc import error_details_pb2 as details
from google.rpc import status_pb2
from grpc import StatusCode

from atelier_server import errors
from atelier_server.frontend.error_table import rpc_status, status_code

M = TypeVar("M", bound=Message)
KINDS = [kind for _, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, errors.AtelierError)]


def detail(status: status_pb2.Status, kind: type[M]) -> M | None:
    for packed in status.details:
        message = kind()
        if packed.Unpack(message):
            return message
    return None


@pytest.mark.parametrize("kind", KINDS)
def test_every_error_has_a_code_of_its_own_and_tells_programs_why(kind: type[errors.AtelierError]) -> None:
    status = rpc_status(kind("do this", metadata={"model": "starter"}), "call-1")
    assert status.code == status_code(kind("x")).value[0]
    assert status_code(kind("x")) is not StatusCode.UNKNOWN
    if kind not in (errors.AtelierError, errors.Internal):
        assert status_code(kind("x")) is not StatusCode.INTERNAL
    info = detail(status, details.ErrorInfo)
    assert info is not None
    assert (info.reason, info.domain, dict(info.metadata)) == (kind.reason, "atelier", {"model": "starter"})
    request = detail(status, details.RequestInfo)
    assert request is not None
    assert request.request_id == "call-1"


def test_a_new_subclass_takes_its_parents_code() -> None:
    class Fresh(errors.GateRefused):
        pass

    assert status_code(Fresh("x")) is StatusCode.FAILED_PRECONDITION


def test_the_field_at_fault_is_named() -> None:
    bad = detail(rpc_status(errors.InvalidArgument("too long", field="prompt"), ""), details.BadRequest)
    assert bad is not None
    assert [(entry.field, entry.description) for entry in bad.field_violations] == [("prompt", "too long")]
    assert detail(rpc_status(errors.InvalidArgument("too long"), ""), details.BadRequest) is None


def test_retry_delay_is_told_where_a_retry_makes_sense() -> None:
    retry = detail(rpc_status(errors.Unavailable("later", retry_after_seconds=1.5), ""), details.RetryInfo)
    assert retry is not None
    assert retry.retry_delay.ToMilliseconds() == 1500
    assert detail(rpc_status(errors.Unavailable("never"), ""), details.RetryInfo) is None


@pytest.mark.parametrize("seconds", [float("inf"), 1e300, 1e12])
def test_a_delay_that_no_message_can_hold_is_cut(seconds: float) -> None:
    retry = detail(rpc_status(errors.Unavailable("later", retry_after_seconds=seconds), ""), details.RetryInfo)
    assert retry is not None
    assert retry.retry_delay.ToSeconds() == 365 * 86_400


def test_preconditions_and_quotas_have_their_own_details() -> None:
    broken = detail(rpc_status(errors.GateRefused("no picture passed"), ""), details.PreconditionFailure)
    assert broken is not None
    assert broken.violations[0].type == "GATE_REFUSED"
    full = rpc_status(errors.ResourceExhausted("queue full", metadata={"model": "sdxl"}), "")
    quota = detail(full, details.QuotaFailure)
    assert quota is not None
    assert quota.violations[0].subject == "sdxl"


@pytest.mark.parametrize("letter", ["m", "字", "🖼", "\udc80"])
def test_no_error_outgrows_the_trailing_metadata(letter: str) -> None:
    metadata = {f"key{number}" + letter * 100: letter * 10_000 for number in range(100)}
    error = errors.FailedPrecondition(letter * 100_000, field=letter * 10_000, metadata=metadata, retry_after_seconds=1)
    status = rpc_status(error, "r" * 128)
    in_three_letters_a_byte = 3 * len(status.message.encode())
    assert status.ByteSize() * 4 / 3 + in_three_letters_a_byte < 8192
