"""Tensors of the protocol survive both ways of writing them, and what contradicts itself is refused by its name."""

import struct
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from atelier_server._generated.atelier.kserve import grpc_service_pb2 as pb
from atelier_server._generated.atelier.kserve.model_config_pb2 import DataType
from atelier_server.errors import InvalidArgument
from atelier_server.frontend.kserve.tensors import (
    DTYPES,
    bytes_array,
    datatype_of,
    datatype_of_config,
    from_contents,
    from_raw,
    to_raw,
)


@pytest.mark.parametrize("kind", DTYPES)
@pytest.mark.parametrize("shape", [(), (0, 2), (2, 3)])
def test_numbers_survive(kind: str, shape: tuple[int, ...]) -> None:
    array = (np.arange(np.prod(shape, dtype=int)) % 2).reshape(shape).astype(DTYPES[kind])
    back = from_raw("x", kind, shape, to_raw(array, kind))
    np.testing.assert_array_equal(back, array, strict=True)
    assert datatype_of(back) == kind


def test_a_bool_is_0_or_1_whatever_byte_it_came_as() -> None:
    assert from_raw("x", "BOOL", [3], b"\x00\x02\xff").view(np.uint8).tolist() == [0, 1, 1]


@settings(deadline=None, max_examples=50)
@given(st.lists(st.binary(max_size=20), max_size=6))
def test_bytes_survive(elements: list[bytes]) -> None:
    raw = to_raw(bytes_array(elements), "BYTES")
    assert from_raw("x", "BYTES", [len(elements)], raw).tolist() == elements


@settings(deadline=None, max_examples=50)
@given(st.binary(max_size=40), st.integers(0, 6))
def test_any_bytes_are_elements_or_refused(data: bytes, count: int) -> None:
    try:
        elements = from_raw("x", "BYTES", [count], data)
    except InvalidArgument:
        return
    assert to_raw(elements, "BYTES") == data


@settings(deadline=None, max_examples=50)
@given(st.floats(width=32, allow_nan=False))
def test_brain_floats_are_the_nearest(value: float) -> None:
    raw = to_raw(np.array([value], np.float32), "BF16")
    (back,) = from_raw("x", "BF16", [1], raw)
    assert to_raw(np.array([back], np.float32), "BF16") == raw
    if np.isfinite(back):
        assert abs(back - np.float32(value)) <= max(abs(value) * 2.0**-8, 1e-40)


def test_what_is_no_number_stays_none_in_brain_floats() -> None:
    assert np.isnan(from_raw("x", "BF16", [1], to_raw(np.array([np.nan], np.float32), "BF16"))[0])


@pytest.mark.parametrize(
    ("kind", "field", "values"),
    [
        ("BOOL", "bool_contents", [True, False]),
        ("INT8", "int_contents", [-128, 127]),
        ("UINT16", "uint_contents", [0, 65535]),
        ("INT64", "int64_contents", [-(2**63), 1]),
        ("UINT64", "uint64_contents", [2**64 - 1, 0]),
        ("FP32", "fp32_contents", [0.5, -1.0]),
        ("FP64", "fp64_contents", [0.1, 2.0]),
        ("BYTES", "bytes_contents", [b"a", b""]),
    ],
)
def test_typed_fields_are_read(kind: str, field: str, values: list[Any]) -> None:
    contents = pb.InferTensorContents(**{field: values})
    assert from_contents("x", kind, [2], contents).tolist() == values
    for shape in ([3], [1, 1], [2**40]):
        with pytest.raises(InvalidArgument) as caught:
            from_contents("x", kind, shape, contents)
        assert caught.value.field == "x"


@pytest.mark.parametrize(
    ("kind", "contents"),
    [
        ("INT8", pb.InferTensorContents(int_contents=[128])),
        ("UINT8", pb.InferTensorContents(uint_contents=[256])),
        ("FP32", pb.InferTensorContents(fp64_contents=[1.0])),
        ("FP32", pb.InferTensorContents(fp32_contents=[1.0], int_contents=[1])),
        ("FP16", pb.InferTensorContents(fp32_contents=[1.0])),
        ("BF16", pb.InferTensorContents(fp32_contents=[1.0])),
    ],
)
def test_typed_fields_that_do_not_fit_are_refused(kind: str, contents: pb.InferTensorContents) -> None:
    with pytest.raises(InvalidArgument) as caught:
        from_contents("x", kind, [1], contents)
    assert caught.value.field == "x"


@pytest.mark.parametrize(
    ("kind", "shape", "size"),
    [("FP32", [2**62, 4], 4), ("FP32", [-1], 4), ("FP32", [1] * 17, 4), ("FP64", [2**27], 4), ("FP32", [1], 5)],
)
def test_impossible_shapes_are_refused(kind: str, shape: list[int], size: int) -> None:
    with pytest.raises(InvalidArgument) as caught:
        from_raw("x", kind, shape, bytes(size))
    assert caught.value.field == "x"


def test_an_element_longer_than_its_data_is_refused() -> None:
    with pytest.raises(InvalidArgument, match="element 1"):
        from_raw("x", "BYTES", [2], struct.pack("<I", 1) + b"a" + struct.pack("<I", 2**31) + b"b")


def test_no_more_elements_are_read_than_the_shape_has() -> None:
    raw = struct.pack("<I", 0) * 2 + struct.pack("<I", 2**31)  # the third one would be refused by its length
    with pytest.raises(InvalidArgument, match="more than the 2 of its shape"):
        from_raw("x", "BYTES", [2], raw)


def test_the_configurations_words_are_the_protocols() -> None:
    words = {datatype_of_config(number) for name, number in DataType.items() if name != "TYPE_INVALID"}
    assert words == {*DTYPES, "BYTES", "BF16"}
