"""Between the protocol's tensors and numpy's: datatypes, and elements as raw bytes or in typed fields.

BYTES is an array of Python bytes. BF16, which numpy lacks, is float32 here: widening is exact, and results are rounded
to the nearest.
"""

import math
import struct
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from atelier_server._generated.atelier.kserve import grpc_service_pb2 as pb
from atelier_server._generated.atelier.kserve.model_config_pb2 import DataType
from atelier_server.errors import InvalidArgument

Array = NDArray[Any]
BYTES, BF16 = "BYTES", "BF16"
MAX_RANK = 16
MAX_TENSOR_BYTES = 128 * 2**20
"""Of one tensor; two of them pass to a runner in one message."""

DTYPES: dict[str, np.dtype[Any]] = {
    "BOOL": np.dtype(np.bool_),
    "UINT8": np.dtype("<u1"),
    "UINT16": np.dtype("<u2"),
    "UINT32": np.dtype("<u4"),
    "UINT64": np.dtype("<u8"),
    "INT8": np.dtype("<i1"),
    "INT16": np.dtype("<i2"),
    "INT32": np.dtype("<i4"),
    "INT64": np.dtype("<i8"),
    "FP16": np.dtype("<f2"),
    "FP32": np.dtype("<f4"),
    "FP64": np.dtype("<f8"),
}
_NAMES = {dtype: name for name, dtype in DTYPES.items()}
_CONTENTS = {
    "BOOL": "bool_contents",
    **dict.fromkeys(("INT8", "INT16", "INT32"), "int_contents"),
    "INT64": "int64_contents",
    **dict.fromkeys(("UINT8", "UINT16", "UINT32"), "uint_contents"),
    "UINT64": "uint64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    BYTES: "bytes_contents",
}
_LENGTH = struct.Struct("<I")


def datatype_of_config(data_type: int) -> str:
    """TYPE_STRING is BYTES; the others lose their prefix."""
    name = DataType.Name(data_type).removeprefix("TYPE_")
    return BYTES if name == "STRING" else name


def datatype_of(array: Array) -> str:
    """The protocol's name of an array's elements."""
    return BYTES if array.dtype == object else _NAMES[array.dtype.newbyteorder("<")]


def count_elements(name: str, shape: Sequence[int]) -> int:
    """The product of the sizes, whatever they are.

    Raises:
        InvalidArgument: No tensor of this shape can be.
    """
    if len(shape) > MAX_RANK:
        raise InvalidArgument(f"input '{name}' has {len(shape)} dimensions; at most {MAX_RANK}", field=name)
    if any(size < 0 for size in shape):
        raise InvalidArgument(f"input '{name}' has a negative size in its shape {list(shape)}", field=name)
    count = math.prod(shape)
    if count > MAX_TENSOR_BYTES:
        raise InvalidArgument(f"input '{name}' would have {count} elements; at most {MAX_TENSOR_BYTES}", field=name)
    return count


def byte_size(name: str, datatype: str, shape: Sequence[int]) -> int | None:
    """Bytes of a raw tensor; None for BYTES, whose elements tell their own length.

    Raises:
        InvalidArgument: The shape is impossible or the tensor too large.
    """
    count = count_elements(name, shape)
    if datatype == BYTES:
        return None
    size = count * (2 if datatype == BF16 else DTYPES[datatype].itemsize)
    if size > MAX_TENSOR_BYTES:
        raise InvalidArgument(f"input '{name}' would have {size} bytes; at most {MAX_TENSOR_BYTES}", field=name)
    return size


def from_raw(name: str, datatype: str, shape: Sequence[int], data: bytes) -> Array:
    """Reads row-major little-endian bytes.

    Raises:
        InvalidArgument: They are not as many as datatype and shape say.
    """
    expected = byte_size(name, datatype, shape)
    if expected is None:
        return _from_elements(name, shape, _split_bytes(name, data, count_elements(name, shape)))
    if len(data) != expected:
        raise InvalidArgument(
            f"input byte size mismatch for input '{name}'. Expected {expected}, got {len(data)}", field=name
        )
    if datatype == BF16:
        return (np.frombuffer(data, "<u2").astype(np.uint32) << 16).view(np.float32).reshape(shape)
    if datatype == "BOOL":  # one of another byte than 0 and 1 would be neither
        return np.frombuffer(data, np.uint8).astype(np.bool_).reshape(shape)
    return np.frombuffer(data, DTYPES[datatype]).reshape(shape)


def from_contents(name: str, datatype: str, shape: Sequence[int], contents: pb.InferTensorContents) -> Array:
    """Reads typed fields.

    Raises:
        InvalidArgument: The field is not the datatype's, or its elements do not fit.
    """
    field = _CONTENTS.get(datatype)
    if field is None:
        raise InvalidArgument(f"input '{name}' is {datatype}, which travels in raw_input_contents only", field=name)
    for other, _ in contents.ListFields():
        if other.name != field:
            raise InvalidArgument(f"input '{name}' is {datatype}; give {field}, not {other.name}", field=name)
    elements = getattr(contents, field)
    if datatype == BYTES:
        return _from_elements(name, shape, elements)
    expected = count_elements(name, shape)
    if len(elements) != expected:
        raise InvalidArgument(
            f"unexpected number of elements {len(elements)} for input '{name}', expecting {expected}", field=name
        )
    wide = np.array(elements)  # numpy wraps a container's numbers silently when it is given the narrow type
    narrow = wide.astype(DTYPES[datatype])
    if narrow.dtype.kind in "iu" and not np.array_equal(narrow, wide):
        raise InvalidArgument(f"input '{name}' has a value that {datatype} cannot hold", field=name)
    return narrow.reshape(shape)


def to_raw(array: Array, datatype: str) -> bytes:
    """Writes row-major little-endian bytes."""
    if datatype == BYTES:
        elements = array.reshape(-1)
        return b"".join(part for element in elements for part in (_LENGTH.pack(len(element)), element))
    if datatype == BF16:
        bits = array.astype(np.float32).view(np.uint32)
        nearest_even = bits + 0x7FFF + ((bits >> 16) & 1)
        return (np.where(np.isnan(array), 0x7FC0_0000, nearest_even) >> 16).astype("<u2").tobytes()
    return array.astype(DTYPES[datatype], copy=False).tobytes()


def bytes_array(elements: Sequence[bytes]) -> Array:
    """A BYTES tensor [n]."""
    array = np.empty(len(elements), object)
    array[:] = elements
    return array


def _from_elements(name: str, shape: Sequence[int], elements: Sequence[bytes]) -> Array:
    expected = count_elements(name, shape)
    if len(elements) != expected:
        raise InvalidArgument(
            f"unexpected number of string elements {len(elements)} for input '{name}', expecting {expected}", field=name
        )
    return bytes_array(list(elements)).reshape(shape)


def _split_bytes(name: str, data: bytes, expected: int) -> list[bytes]:
    elements: list[bytes] = []
    offset = 0
    while offset < len(data):
        if len(elements) == expected:  # millions of empty ones must not keep the event loop busy
            raise InvalidArgument(
                f"unexpected number of string elements for input '{name}': more than the {expected} of its shape",
                field=name,
            )
        end = offset + _LENGTH.size
        if end > len(data) or end + _LENGTH.unpack_from(data, offset)[0] > len(data):
            raise InvalidArgument(
                f"input '{name}': each BYTES element is a 4-byte little-endian length, then its bytes; element "
                f"{len(elements)} ends after the data",
                field=name,
            )
        offset = end + _LENGTH.unpack_from(data, end - _LENGTH.size)[0]
        elements.append(data[end:offset])
    return elements
