"""Python values into atelier.v1 messages, led by the messages' own descriptors."""

import dataclasses
from collections.abc import Mapping
from typing import Any, cast

from google.protobuf.descriptor import EnumDescriptor, EnumValueDescriptor, FieldDescriptor
from google.protobuf.message import Message

from atelier_client._errors import InvalidArgument


def word_of(value: EnumValueDescriptor) -> str:
    """The lower-case word of an enum's value: STYLE_LUXURY of Style is `luxury`."""
    prefix = value.type.values[0].name.removesuffix("UNSPECIFIED")
    return value.name.removeprefix(prefix).lower()


def words(enum: EnumDescriptor) -> dict[str, int]:
    """The words of an enum and their numbers, without UNSPECIFIED."""
    return {word_of(value): value.number for value in enum.values[1:]}


def fill(message: Message, values: Mapping[str, Any]) -> None:
    """Sets the fields of a message from keyword arguments; None leaves a field out.

    Raises:
        InvalidArgument: An unknown field or word, or a value of a wrong type or range; `field` names it.
    """
    for name, value in values.items():
        field = cast("FieldDescriptor | None", message.DESCRIPTOR.fields_by_name.get(name))
        if field is None:
            allowed = ", ".join(sorted(message.DESCRIPTOR.fields_by_name))
            raise InvalidArgument(f"There is no field {name!r}; the fields are {allowed}.", field=name)
        if value is not None:
            _set(message, field, value)


def _set(message: Message, field: FieldDescriptor, value: Any) -> None:
    try:
        if field.enum_type is not None:
            setattr(message, field.name, _number(field, value))
        elif field.message_type is not None and field.message_type.GetOptions().map_entry:
            getattr(message, field.name).update(value)
        elif field.message_type is not None:
            part = getattr(message, field.name)
            part.SetInParent()
            fill(part, dataclasses.asdict(value) if dataclasses.is_dataclass(value) else value)  # type: ignore[arg-type]
        else:
            setattr(message, field.name, value)
    except (TypeError, ValueError, AttributeError) as error:
        raise InvalidArgument(f"{field.name} cannot be {value!r:.80}: {error}", field=field.name) from error


def _number(field: FieldDescriptor, word: object) -> int:
    assert field.enum_type is not None
    allowed = words(field.enum_type)
    if not isinstance(word, str) or word not in allowed:
        message = f"{field.name} cannot be {word!r:.80}; it is one of {', '.join(allowed)}."
        raise InvalidArgument(message, field=field.name)
    return allowed[word]
