"""Messages into values."""

import dataclasses
from datetime import UTC, datetime
from typing import Any

import pytest
from google.protobuf import message_factory

from atelier.v1 import brand_pb2, health_pb2, image_generation_pb2, scoring_pb2
from atelier_client import _types
from atelier_client._read import _CLASSES, read, read_event
from tests.client import scripted

POOLS = [image_generation_pb2, scoring_pb2, health_pb2, brand_pb2]


def _descriptor(name: str) -> Any:
    modules = [
        *POOLS,
        __import__("atelier.v1.model_pb2", fromlist=["x"]),
        __import__("atelier.v1.common_pb2", fromlist=["x"]),
    ]
    return next(m.DESCRIPTOR.message_types_by_name[name] for m in modules if name in m.DESCRIPTOR.message_types_by_name)


NAMED_ELSEWHERE = {
    "Health": "HealthResponse",
    "Metrics": "GetMetricsResponse",
    "AddedReferences": "AddReferenceImagesResponse",
}


@pytest.mark.parametrize("kind", [*_CLASSES.values(), _types.Health, _types.Metrics], ids=lambda kind: kind.__name__)
def test_each_class_has_the_fields_of_its_message(kind: type[Any]) -> None:
    descriptor = _descriptor(NAMED_ELSEWHERE.get(kind.__name__, kind.__name__))
    ours = {field.name.removesuffix("_seconds") for field in dataclasses.fields(kind)} - {"sequence", "request_id"}
    assert ours == {name.removesuffix("_seconds") for name in descriptor.fields_by_name}


@pytest.mark.parametrize("kind", [*_CLASSES.values(), _types.Health, _types.Metrics], ids=lambda kind: kind.__name__)
def test_an_empty_message_can_be_read(kind: type[Any]) -> None:
    message = message_factory.GetMessageClass(_descriptor(NAMED_ELSEWHERE.get(kind.__name__, kind.__name__)))()
    known = {"sequence": 1, "request_id": "r"} if "sequence" in {f.name for f in dataclasses.fields(kind)} else {}
    value = read(kind, message, **known)
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(value, dataclasses.fields(kind)[0].name, 1)


def test_unset_is_none_and_zero_is_zero() -> None:
    scores = read(_types.Scores, scoring_pb2.Scores(aesthetic_score=0.0, brand_passed=False))
    assert scores.aesthetic_score == 0.0
    assert scores.brand_passed is False
    assert scores.prompt_alignment is None
    assert scores.aesthetic_passed is None


def test_times() -> None:
    queued = image_generation_pb2.Queued(position=2)
    queued.estimated_wait.FromMilliseconds(1500)
    event = read_event(image_generation_pb2.GenerateResponse(sequence=3, request_id="r", queued=queued))
    assert event is not None
    assert (event.sequence, event.request_id) == (3, "r")
    assert event.position == 2  # type: ignore[union-attr]
    assert event.estimated_wait_seconds == 1.5  # type: ignore[union-attr]
    assert read(_types.Brand, scripted.brand("acme")).created_at == datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    assert read(_types.Brand, brand_pb2.Brand()).created_at is None


def test_words_of_enums_and_numbers_of_newer_servers() -> None:
    for number, word in ((2, "exact"), (0, ""), (99, "")):
        completed = image_generation_pb2.Completed(reproducibility=number)  # type: ignore[arg-type]
        event = read_event(image_generation_pb2.GenerateResponse(completed=completed))
        assert event is not None
        assert event.reproducibility == word  # type: ignore[union-attr]


def test_an_event_of_a_newer_server_is_left_out() -> None:
    # Field 99 is none that this client knows.
    message = image_generation_pb2.GenerateResponse.FromString(b"\x08\x01\x9a\x06\x00")
    assert message.sequence == 1
    assert read_event(message) is None
