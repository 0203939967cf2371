"""Mutated messages: valid ones of which fields are set to what lies at and beyond their edges, or bytes are damaged.

Every message comes from a seed and a number, so that any of them can be made again: `message_of(seed, number)`.
"""

import asyncio
import io
import math
import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import numpy as np
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from PIL import Image

from atelier.v1 import brand_pb2, brand_pb2_grpc, common_pb2, image_generation_pb2, scoring_pb2
from atelier_server._generated.atelier.kserve import grpc_service_pb2 as kserve_pb2
from atelier_server.testing import write_echo_model
from tests.integration.kserve_kit import write_double
from tests.integration.scoring_kit import write_brand_model, write_clip

GENERATE = "/atelier.v1.ImageGenerationService/Generate"
SCORE = "/atelier.v1.ImageGenerationService/Score"
ADD = "/atelier.v1.BrandService/AddReferenceImages"
INFER = "/inference.GRPCInferenceService/ModelInfer"
METHODS = (GENERATE, SCORE, ADD, INFER)
PATIENCE_SECONDS = 120.0
"""A call that takes longer hangs."""
BRANDS = tuple(f"brand-{number}" for number in range(8))
KEPT_REFERENCES = 24
FAULTS = frozenset({"INTERNAL", "UNKNOWN", "UNAVAILABLE", "DEADLINE_EXCEEDED", "CANCELLED", "DATA_LOSS", "ABORTED"})
"""What no message, however damaged, may be answered with; a hang ends as DEADLINE_EXCEEDED."""

TEXTS = (
    "",
    " ",
    "a bag",
    "x" * 4001,
    "\x00\x01",
    "\u202e\u0301é",
    "\U0001f45c" * 50,
    "../../etc/passwd",
    "a\nb",
    "\ufffd",
)
NUMBERS = (0, 1, -1, 2, 31, 32, 64, 150, 151, 4095, 4096, 2**31 - 1, -(2**31), 2**32 - 1, 2**63 - 1, 2**64 - 1)
REALS = (0.0, -0.0, 1.0, -1.0, 0.5, 7.5, 30.0, 31.0, 1e-320, 1e308, math.inf, -math.inf, math.nan)
_RANGES = {
    FieldDescriptor.CPPTYPE_INT32: (-(2**31), 2**31 - 1),
    FieldDescriptor.CPPTYPE_UINT32: (0, 2**32 - 1),
    FieldDescriptor.CPPTYPE_INT64: (-(2**63), 2**63 - 1),
    FieldDescriptor.CPPTYPE_UINT64: (0, 2**64 - 1),
    FieldDescriptor.CPPTYPE_ENUM: (-(2**31), 2**31 - 1),
}


def write_fuzz_models(models: Path) -> Path:
    """A repository in which every kind of message can do work, quickly."""
    write_echo_model(models, max_side=512, native_width=64, native_height=64, default_steps=2)
    write_clip(models)
    write_brand_model(models)
    write_double(models)
    return models


@dataclass(frozen=True)
class Case:
    """One call: the method and the bytes of its messages."""

    method: str
    messages: tuple[bytes, ...]


def message_of(seed: int, number: int) -> Case:
    """The case of this number. Of every ten about four are left whole."""
    chance = random.Random(f"{seed}/{number}")
    method = METHODS[number % len(METHODS)]
    messages = _VALID[method](chance)
    for _ in range(chance.choice((0, 0, 0, 0, 1, 1, 1, 2, 3, 5))):
        mutate(chance.choice(messages), chance)
    encoded = [message.SerializeToString() for message in messages]
    if chance.random() < 0.15:
        place = chance.randrange(len(encoded))
        encoded[place] = damaged(encoded[place], chance)
    return Case(method, tuple(encoded))


def mutate(message: Message, chance: random.Random) -> None:
    """Changes one field, at any depth."""
    descriptor = chance.choice(message.DESCRIPTOR.fields)
    name, value = descriptor.name, getattr(message, descriptor.name)
    if chance.random() < 0.1:
        message.ClearField(name)
    elif _is_map(descriptor):
        _mutate_map(value, descriptor, chance)
    elif descriptor.is_repeated:
        _mutate_list(value, descriptor, chance)
    elif descriptor.message_type is not None:
        value.SetInParent()
        mutate(value, chance)
    else:
        setattr(message, name, odd_value(descriptor, chance, value))


def _is_map(descriptor: FieldDescriptor) -> bool:
    return descriptor.message_type is not None and descriptor.message_type.GetOptions().map_entry


def _mutate_map(value: Any, descriptor: FieldDescriptor, chance: random.Random) -> None:
    key_field, value_field = descriptor.message_type.fields
    key = odd_value(key_field, chance, "key")
    if value_field.message_type is not None:
        mutate(value[key], chance)
    else:
        value[key] = odd_value(value_field, chance, "value")


def _mutate_list(value: Any, descriptor: FieldDescriptor, chance: random.Random) -> None:
    if descriptor.message_type is not None:
        if len(value) and chance.random() < 0.7:
            mutate(chance.choice(value), chance)
        else:
            mutate(value.add(), chance)
        return
    if len(value) and chance.random() < 0.3:
        del value[chance.randrange(len(value))]
    example = value[0] if len(value) else None
    value.extend(odd_value(descriptor, chance, example) for _ in range(chance.choice((1, 1, 2, 70))))


def odd_value(descriptor: FieldDescriptor, chance: random.Random, present: Any) -> Any:
    """A value of the field's type, at or beyond the edge of what makes sense."""
    kind = descriptor.cpp_type
    if kind == FieldDescriptor.CPPTYPE_BOOL:
        return chance.random() < 0.5
    if kind in (FieldDescriptor.CPPTYPE_DOUBLE, FieldDescriptor.CPPTYPE_FLOAT):
        value = chance.choice((*REALS, chance.uniform(-10, 40)))
        return value if kind == FieldDescriptor.CPPTYPE_DOUBLE or not math.isfinite(value) else value % 3e38
    if kind == FieldDescriptor.CPPTYPE_STRING:
        if descriptor.type == FieldDescriptor.TYPE_BYTES:
            return damaged(bytes(present or b""), chance)
        return chance.choice((*TEXTS, "".join(chr(chance.randrange(1, 0xD7FF)) for _ in range(20))))
    low, high = _RANGES[kind]
    if kind == FieldDescriptor.CPPTYPE_ENUM:
        return chance.choice((*range(-1, 12), low, high))
    return min(max(chance.choice((*NUMBERS, chance.randrange(0, 200))), low), high)


def damaged(data: bytes, chance: random.Random) -> bytes:
    """Bits flipped, a piece lost, doubled or put in."""
    if not data:
        return chance.randbytes(chance.randrange(1, 40))
    at, length = chance.randrange(len(data)), chance.choice((1, 2, 10, 100))
    kind = chance.randrange(5)
    if kind == 0:
        return data[:at]
    if kind == 1:
        return data[:at] + data[at + length :]
    if kind == 2:
        return data[:at] + data[at : at + length] * 2 + data[at + length :]
    if kind == 3:
        return data[:at] + chance.randbytes(length) + data[at:]
    changed = bytearray(data)
    for _ in range(chance.choice((1, 4, 32))):
        changed[chance.randrange(len(changed))] ^= 1 << chance.randrange(8)
    return bytes(changed)


def picture(chance: random.Random) -> bytes:
    """A small picture of any kind that is taken, and sometimes of one that is not."""
    mode = chance.choice(("RGB", "RGB", "RGB", "L", "RGBA", "P", "LA", "1"))
    size = (chance.randrange(1, 80), chance.randrange(1, 80))
    pixels = Image.frombytes("RGB", size, chance.randbytes(3 * size[0] * size[1])).convert(mode)
    kind = chance.choice(("PNG", "PNG", "JPEG", "WEBP", "GIF" if chance.random() < 0.1 else "PNG"))
    out = io.BytesIO()
    pixels.convert("RGB" if kind in ("JPEG", "WEBP") else mode).save(out, kind)
    return out.getvalue()


def _generate(chance: random.Random) -> list[Message]:
    message = image_generation_pb2.GenerateRequest(
        prompt=chance.choice(("a red bag", "ein roter Schuh", "一个红色的包")),
        width=chance.choice((64, 96, 128)),
        height=chance.choice((64, 96, 128)),
        num_inference_steps=chance.randrange(1, 4),
        style=chance.choice((0, common_pb2.STYLE_NONE, common_pb2.STYLE_BOLD)),
        output_format=chance.randrange(4),
        gate=chance.choice((0, 0, 1, 2)),
        max_attempts=2,
        cache=chance.randrange(4),
    )
    if chance.random() < 0.5:
        message.seed = chance.randrange(2**64)
    if chance.random() < 0.3:
        message.brand_id = chance.choice(BRANDS)
    if chance.random() < 0.3:
        message.preview.every_n_steps = 1
    if chance.random() < 0.2:
        message.metadata["order"] = "17"
        message.num_images = 2
    return [message]


def _score(chance: random.Random) -> list[Message]:
    message = scoring_pb2.ScoreRequest(images=[picture(chance) for _ in range(chance.randrange(1, 4))])
    if chance.random() < 0.5:
        message.prompt = "a red bag"
    if chance.random() < 0.3:
        message.brand_id = chance.choice(BRANDS)
    return [message]


def _add(chance: random.Random) -> list[Message]:
    messages: list[Message] = []
    brand = chance.choice(BRANDS)
    for _ in range(chance.randrange(1, 3)):
        data = picture(chance)
        middle = chance.randrange(len(data) + 1)
        messages.append(brand_pb2.AddReferenceImagesRequest(brand_id=brand, data=data[:middle]))
        messages.append(brand_pb2.AddReferenceImagesRequest(data=data[middle:], last=True))
    return messages


def _infer(chance: random.Random) -> list[Message]:
    if chance.random() < 0.5:
        message = kserve_pb2.ModelInferRequest(model_name="double")
        rows, columns = chance.randrange(1, 5), chance.randrange(1, 9)
        tensor = message.inputs.add(name="x", datatype="FP32", shape=[rows, columns])
        values = np.array([chance.uniform(-5, 5) for _ in range(rows * columns)], np.float32)
        if chance.random() < 0.5:
            message.raw_input_contents.append(values.tobytes())
        else:
            tensor.contents.fp32_contents.extend(values.tolist())
        return [message]
    message = kserve_pb2.ModelInferRequest(model_name="echo", id=f"call-{chance.randrange(100)}")
    prompt = message.inputs.add(name="prompt", datatype="BYTES", shape=[1])
    prompt.contents.bytes_contents.append(b"a red bag")
    steps = message.inputs.add(name="num_inference_steps", datatype="INT32", shape=[1])
    steps.contents.int_contents.append(chance.randrange(1, 4))
    if chance.random() < 0.5:
        message.outputs.add(name="IMAGE")
        message.outputs.add(name="SEED")
    return [message]


_VALID = {GENERATE: _generate, SCORE: _score, ADD: _add, INFER: _infer}


@dataclass
class Findings:
    """Statuses by method, and the numbers of the cases that must not be."""

    statuses: Counter[tuple[str, str]] = field(default_factory=Counter)
    faults: list[tuple[int, str, str]] = field(default_factory=list)

    @property
    def worked(self) -> float:
        """The share of the messages that passed validation and did their work."""
        done = sum(count for (_, status), count in self.statuses.items() if status == "OK")
        return done / max(1, self.statuses.total())


class Fuzzer:
    """Sends cases to a server, several at once."""

    def __init__(self, channel: grpc.aio.Channel, seed: int, at_once: int = 8) -> None:
        self._channel = channel
        self._brands = brand_pb2_grpc.BrandServiceStub(channel)
        self._seed = seed
        self._at_once = at_once

    async def prepare(self) -> None:
        """Makes the brands that messages name."""
        for brand in BRANDS:
            await self._brands.CreateBrand(brand_pb2.CreateBrandRequest(brand_id=brand))

    async def run(self, numbers: Sequence[int]) -> Findings:
        """Sends the cases of these numbers."""
        findings = Findings()
        waiting = iter(numbers)

        async def work() -> None:
            for number in waiting:
                case = message_of(self._seed, number)
                status, text = await self._send(case)
                findings.statuses[case.method.rpartition("/")[2], status] += 1
                if status in FAULTS:
                    findings.faults.append((number, status, text))
                await self._forget_references(number)

        await asyncio.gather(*(work() for _ in range(self._at_once)))
        return findings

    async def _send(self, case: Case) -> tuple[str, str]:
        call = self._channel.stream_stream(case.method, request_serializer=None, response_deserializer=None)(
            iter(case.messages), timeout=PATIENCE_SECONDS
        )
        try:
            async for _ in call:
                pass
        except grpc.aio.AioRpcError as error:
            return error.code().name, error.details() or ""
        return "OK", ""

    async def _forget_references(self, number: int) -> None:
        """Brands that only grow would make the later messages ever slower."""
        if number % (len(METHODS) * KEPT_REFERENCES) == 0:
            brand = BRANDS[number // (len(METHODS) * KEPT_REFERENCES) % len(BRANDS)]
            await self._brands.DeleteBrand(brand_pb2.DeleteBrandRequest(brand_id=brand))
            await self._brands.CreateBrand(brand_pb2.CreateBrandRequest(brand_id=brand))
