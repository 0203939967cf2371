"""Statuses and their details become errors; some are tried again."""

import threading
from collections.abc import Iterator
from typing import Any

import grpc
import pytest

import atelier_client as api
from atelier.v1.image_generation_pb2 import GenerateRequest
from tests.client.scripted import GenerateResponse, Refusal, ScriptedServer, generation, health, png, refusal


def refuse(error: Refusal) -> Any:
    def script(request: Any, context: grpc.ServicerContext) -> Any:
        raise error

    return script


@pytest.mark.parametrize(
    ("code", "reason", "kind"),
    [
        ("INVALID_ARGUMENT", "INVALID_ARGUMENT", api.InvalidArgument),
        ("INVALID_ARGUMENT", "MODERATION_BLOCKED", api.ModerationBlocked),
        ("NOT_FOUND", "MODEL_NOT_FOUND", api.NotFound),
        ("ALREADY_EXISTS", "ALREADY_EXISTS", api.AlreadyExists),
        ("FAILED_PRECONDITION", "WEIGHTS_MISSING", api.FailedPrecondition),
        ("FAILED_PRECONDITION", "GATE_REFUSED", api.GateRefused),
        ("RESOURCE_EXHAUSTED", "QUEUE_FULL", api.ResourceExhausted),
        ("DEADLINE_EXCEEDED", "DEADLINE_EXCEEDED", api.DeadlineExceeded),
        ("CANCELLED", "CANCELLED", api.Cancelled),
        ("UNAUTHENTICATED", "TOKEN_UNKNOWN", api.Unauthenticated),
        ("PERMISSION_DENIED", "SCOPE_MISSING", api.PermissionDenied),
        ("UNIMPLEMENTED", "NOT_IMPLEMENTED", api.Unimplemented),
        ("INTERNAL", "INTERNAL", api.Internal),
        ("INTERNAL", "GATE_REFUSED", api.Internal),
        ("OUT_OF_RANGE", "SOMETHING_NEW", api.AtelierError),
    ],
)
def test_each_status_is_an_error(server: ScriptedServer, client: Any, code: str, reason: str, kind: type) -> None:
    server.scripts["Generate"] = refuse(refusal(code, "Do this.", reason, field="prompt", retry_after=1.5))
    with pytest.raises(api.AtelierError) as caught:
        client.generate("a bag")
    error = caught.value
    assert type(error) is kind
    assert (error.code, error.reason, error.message, error.field) == (code, reason, "Do this.", "prompt")
    assert (error.retry_after, error.metadata) == (1.5, {"fact": "1"})
    assert str(error) == "Do this."
    assert len(server.requests) == 1


def test_a_status_without_details_says_what_to_do(server: ScriptedServer, client: Any) -> None:
    with pytest.raises(api.Unimplemented, match=f"{server.target} does not offer this") as caught:
        client.metrics()
    assert (caught.value.field, caught.value.reason, caught.value.retry_after) == ("", "", None)


def test_details_that_cannot_be_read_are_left_out(server: ScriptedServer, client: Any) -> None:
    def script(request: Any, context: grpc.ServicerContext) -> Any:
        context.set_trailing_metadata((("grpc-status-details-bin", b"\xff\xff\xff"),))
        context.abort(grpc.StatusCode.NOT_FOUND, "no such brand")

    server.scripts["GetBrand"] = script
    with pytest.raises(api.NotFound, match="no such brand"):
        client.brands.get("acme")


def test_a_server_that_is_not_there(server: ScriptedServer, client: Any) -> None:
    server.stop()
    with pytest.raises(api.Unavailable, match=f"No answer from {server.target}"):
        client.health()
    with pytest.raises(api.Unavailable, match="No answer"):
        client.generate("a bag")


def test_unavailable_is_tried_again_under_the_same_request_id(server: ScriptedServer, client: Any) -> None:
    def script(request: GenerateRequest, _: grpc.ServicerContext) -> Iterator[GenerateResponse]:
        if len(server.requests) < 3:
            yield from generation(request)[:3]
            raise refusal("UNAVAILABLE", "The runner was lost.", "RUNNER_LOST", retry_after=0.001)
        yield from generation(request)

    server.scripts["Generate"] = script
    seen: list[int] = []
    result = client.generate("a bag", on_event=lambda event: seen.append(event.sequence))
    assert result.images
    assert seen == [1, 2, 3, 1, 2, 3, 1, 2, 3, 4, 5, 6, 7, 8, 9]
    first, *others = server.asked("Generate")
    assert first.request_id
    assert others == [first, first]


def test_three_attempts_and_no_more(server: ScriptedServer, client: Any) -> None:
    server.scripts["Health"] = refuse(refusal("UNAVAILABLE", "Draining.", "DRAINING"))
    with pytest.raises(api.Unavailable, match="Draining"):
        client.health()
    assert len(server.requests) == 3


def test_no_second_attempt_once_picture_bytes_came(server: ScriptedServer, client: Any) -> None:
    def script(request: GenerateRequest, _: grpc.ServicerContext) -> Iterator[GenerateResponse]:
        yield from generation(request)[:6]
        raise refusal("UNAVAILABLE", "The runner was lost.", "RUNNER_LOST")

    server.scripts["Generate"] = script
    with pytest.raises(api.Unavailable, match="runner was lost"):
        client.generate("a bag")
    assert len(server.requests) == 1


def test_kept_work_is_resumed_in_the_middle_of_a_picture(server: ScriptedServer, client: Any) -> None:
    def script(request: GenerateRequest, _: grpc.ServicerContext) -> Iterator[GenerateResponse]:
        if len(server.requests) == 1:
            yield from generation(request)[:6]
            raise refusal("UNAVAILABLE", "The connection was lost.", "")
        yield from generation(request)[request.resume_after_sequence :]

    server.scripts["Generate"] = script
    events = list(client.generate_events("a bag", on_disconnect="continue"))
    assert [event.sequence for event in events] == list(range(1, 10))
    assert [request.resume_after_sequence for request in server.asked("Generate")] == [0, 6]
    assert len({request.request_id for request in server.asked("Generate")}) == 1
    server.requests.clear()
    assert client.generate("a bag", on_disconnect="continue").images[0].data == png(7)


def test_what_changes_something_is_not_repeated(server: ScriptedServer, client: Any) -> None:
    for method in (
        "CreateBrand",
        "DeleteBrand",
        "AddReferenceImages",
        "RemoveReferenceImage",
        "LoadModel",
        "UnloadModel",
    ):
        server.scripts[method] = refuse(refusal("UNAVAILABLE", "Draining.", "DRAINING"))
    calls = [
        lambda: client.brands.create("acme"),
        lambda: client.brands.delete("acme"),
        lambda: client.brands.add("acme", [b"png"]),
        lambda: client.brands.remove("acme", "ff"),
        lambda: client.models.load("sdxl"),
        lambda: client.models.unload("sdxl"),
    ]
    for call in calls:
        with pytest.raises(api.Unavailable):
            call()
    assert len(server.requests) == 6


def test_a_second_attempt_may_succeed_where_the_first_was_refused(server: ScriptedServer, client: Any) -> None:
    def script(request: Any, _: grpc.ServicerContext) -> Any:
        if len(server.requests) == 1:
            raise refusal("UNAVAILABLE", "Starting.", "MODEL_LOADING")
        return health()

    server.scripts["Health"] = script
    assert client.health().status == "healthy"


def test_closing_ends_what_runs(server: ScriptedServer) -> None:
    gone = threading.Event()

    def endless(request: GenerateRequest, context: grpc.ServicerContext) -> Iterator[GenerateResponse]:
        context.add_callback(gone.set)
        yield generation(request)[0]
        gone.wait(30)

    server.scripts["Generate"] = endless
    atelier = api.Atelier(server.target)
    events = atelier.generate_events("a bag")
    next(events)
    atelier.close()
    with pytest.raises(api.Cancelled):
        next(events)
    assert gone.wait(10)
