"""Pairs of enums: a number on the wire, a word in the domain."""

from enum import StrEnum
from typing import TypeVar

from google.protobuf.descriptor import EnumDescriptor

from atelier.v1 import common_pb2
from atelier_server import types
from atelier_server.errors import InvalidArgument

E = TypeVar("E", bound=StrEnum)


def words_by_number(descriptor: EnumDescriptor, kind: type[E]) -> dict[int, E]:
    """Pairs an enum of the wire with one of the domain: STYLE_LUXURY is Style("luxury"). Zero stays out."""
    prefix = descriptor.values_by_number[0].name.removesuffix("UNSPECIFIED")
    known = {value.number: kind(value.name.removeprefix(prefix).lower()) for value in descriptor.values if value.number}
    if set(known.values()) != set(kind):
        raise TypeError(f"{descriptor.full_name} and {kind.__name__} have different members")
    return known


FORMATS = words_by_number(common_pb2.ImageFormat.DESCRIPTOR, types.ImageFormat)
REPRODUCIBILITY = words_by_number(common_pb2.Reproducibility.DESCRIPTOR, types.Reproducibility)


def known_word(known: dict[int, E], number: int, field: str) -> E:
    if number not in known:
        highest = max(known)
        raise InvalidArgument(f"{field} {number} is not known; give a number from 1 to {highest}, or none", field=field)
    return known[number]
