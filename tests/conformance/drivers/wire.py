"""A protocol as plain data: what of it decides the bytes on the wire."""

from typing import Any


def described(*files: Any) -> dict[str, dict[str, list[Any]]]:
    """Messages, enums and services of file descriptors by their full names."""
    found: dict[str, dict[str, list[Any]]] = {}
    for file in files:
        for message in file.message_types_by_name.values():
            _message(message, found)
        for enum in file.enum_types_by_name.values():
            _enum(enum, found)
        for service in file.services_by_name.values():
            found[service.full_name] = {
                method.name: [
                    method.input_type.full_name,
                    method.output_type.full_name,
                    method.client_streaming,
                    method.server_streaming,
                ]
                for method in service.methods
            }
    return found


def _message(message: Any, found: dict[str, dict[str, list[Any]]]) -> None:
    found[message.full_name] = {field.name: _field(field) for field in message.fields}
    for nested in message.nested_types:
        _message(nested, found)
    for enum in message.enum_types:
        _enum(enum, found)


def _field(field: Any) -> list[Any]:
    kind = field.message_type or field.enum_type
    oneof = field.containing_oneof.name if field.containing_oneof else None
    repeated = field.is_repeated if hasattr(field, "is_repeated") else field.label == field.LABEL_REPEATED
    return [field.number, field.type, repeated, kind.full_name if kind else None, oneof]


def _enum(enum: Any, found: dict[str, dict[str, list[Any]]]) -> None:
    found[enum.full_name] = {value.name: [value.number] for value in enum.values}
