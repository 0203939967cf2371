"""atelier.v1 messages into this client's values: each dataclass field comes from the message field of its name."""

import dataclasses
from datetime import UTC
from functools import cache
from typing import Any, TypeVar, cast

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message

from atelier.v1 import image_generation_pb2
from atelier_client import _events, _types
from atelier_client._write import word_of

T = TypeVar("T")

_CLASSES: dict[str, type[Any]] = {
    kind.__name__: kind
    for kind in (
        _types.Dimensions,
        _types.NearestReference,
        _types.Scores,
        _types.ModelsAvailable,
        _types.ModelInstance,
        _types.ModelInfo,
        _types.ReferenceImage,
        _types.Brand,
        _types.AddedReferences,
        _events.Queued,
        _events.TruncatedTokens,
        _events.Started,
        _events.Preview,
        _events.Progress,
        _events.ImageChunk,
        _events.ImageCompleted,
        _events.Usage,
        _events.Completed,
    )
}


def read(kind: type[T], message: Message, **known: object) -> T:
    """The value of class `kind` that a message holds; `known` are values that lie outside of it."""
    plan: list[tuple[str, FieldDescriptor]] = _plan(cast("Any", kind), message.DESCRIPTOR)
    values = {name: _value(message, field) for name, field in plan}
    return kind(**values, **known)


def read_event(message: image_generation_pb2.GenerateResponse) -> _events.Event | None:
    """The event of a message; None when a newer server sends a kind that this client does not know."""
    name = message.WhichOneof("event")
    if name is None:
        return None
    part: Message = getattr(message, name)
    kind: type[_events.Event] = _CLASSES[part.DESCRIPTOR.name]
    return read(kind, part, sequence=message.sequence, request_id=message.request_id)


@cache
def _plan(kind: type[Any], descriptor: Descriptor) -> list[tuple[str, FieldDescriptor]]:
    """Names of the class with the message fields they come from; durations end in _seconds here only."""
    fields = descriptor.fields_by_name
    names = [field.name for field in dataclasses.fields(kind)]
    pairs = [(name, fields.get(name) or fields.get(name.removesuffix("_seconds"))) for name in names]
    return [(name, field) for name, field in pairs if field is not None]


def _value(message: Message, field: FieldDescriptor) -> Any:
    value = getattr(message, field.name)
    if not isinstance(value, (str, bytes, int, float, Message)):
        if field.message_type is None:
            return tuple(value)
        if field.message_type.GetOptions().map_entry:
            return dict(value)
        return tuple(_part(item) for item in value)
    if _may_be_missing(field) and not message.HasField(field.name):
        return None
    if field.enum_type is not None:
        word = field.enum_type.values_by_number.get(cast("int", value))
        return "" if word is None or word.number == 0 else word_of(word)
    return value if field.message_type is None else _part(value)


def _may_be_missing(field: FieldDescriptor) -> bool:
    # `optional` fields have a oneof of their own, which protoc names after them.
    optional = field.containing_oneof is not None and field.containing_oneof.name == f"_{field.name}"
    return optional or (field.message_type is not None and field.message_type.file.package == "google.protobuf")


def _part(message: Any) -> Any:
    match message.DESCRIPTOR.full_name:
        case "google.protobuf.Duration":
            return message.ToNanoseconds() / 1e9
        case "google.protobuf.Timestamp":
            return message.ToDatetime(tzinfo=UTC)
        case _:
            return read(_CLASSES[message.DESCRIPTOR.name], message)
