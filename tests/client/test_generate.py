"""Generating against a real server, by both clients."""

import base64
import hashlib
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any

import grpc
import pytest

import atelier_client as api
from atelier.v1.image_generation_pb2 import GenerateRequest
from tests.client.scripted import GenerateResponse, ScriptedServer, generation, paid_generation, png


def answer(request: GenerateRequest, _: grpc.ServicerContext) -> list[GenerateResponse]:
    return generation(request)


def test_events_come_typed_and_numbered(server: ScriptedServer, client: Any) -> None:
    server.scripts["Generate"] = answer
    events = list(client.generate_events("a bag", style="luxury", seed=42, request_id="mine"))
    kinds = [type(event) for event in events]
    assert kinds == [
        *(api.Queued, api.Started, api.Progress, api.Progress, api.Progress),
        *(api.ImageChunk, api.ImageChunk, api.ImageCompleted, api.Completed),
    ]
    assert [event.sequence for event in events] == list(range(1, 10))
    assert {event.request_id for event in events} == {"mine"}
    (request,) = server.asked("Generate")
    assert request == GenerateRequest(prompt="a bag", style="STYLE_LUXURY", seed=42, request_id="mine")


def test_a_result_holds_everything(server: ScriptedServer, client: Any) -> None:
    server.scripts["Generate"] = answer
    steps: list[int] = []
    seen: list[type] = []
    result = client.generate(
        "a bag",
        seed=40,
        num_images=2,
        metadata={"order": "7"},
        reproducibility="exact",
        on_progress=lambda progress: steps.append(progress.step),
        on_event=lambda event: seen.append(type(event)),
    )
    assert steps == [1, 2, 3]
    assert seen[0] is api.Queued
    assert seen[-1] is api.Completed
    assert [image.data for image in result.images] == [png(40), png(41)]
    assert [image.seed for image in result.images] == [40, 41]
    assert (result.seed, result.aesthetic_score, result.brand_consistency_score) == (40, 7.8125, 1.0)
    assert (result.brand_reference_missing, result.prompt_alignment, result.passed) == (True, 0.75, True)
    assert (result.model_used, result.model_version, result.prompt_used) == ("starter", "1", "a bag, rich")
    assert result.negative_prompt_used is None
    assert result.routing_reason == "nothing but the starter is ready"
    assert result.timings_ms == {"denoise": 1000.0, "decode": 100.0, "queue": 0.5}
    assert (result.generation_time_ms, result.cached, result.attempts) == (1234.5, False, 1)
    assert (result.reproducibility, result.metadata) == ("exact", {"order": "7"})
    assert result.timestamp == datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    assert result.truncated_tokens == (api.TruncatedTokens("text_encoder_2", 4, 0),)
    assert len(result.request_id) == 32


def test_what_a_paid_service_costs_is_told(server: ScriptedServer, client: Any) -> None:
    server.scripts["Generate"] = answer
    assert client.generate("a bag").usage is None
    server.scripts["Generate"] = lambda request, _: paid_generation(request)
    assert client.generate("a bag").usage == api.Usage(20, 1000, 1020, 0.0301, 2)


def test_a_picture_can_be_kept_in_every_way(server: ScriptedServer, client: Any, tmp_path: Any) -> None:
    server.scripts["Generate"] = answer
    image = client.generate("a bag", seed=3).images[0]
    assert image.save(tmp_path / "bag.png").read_bytes() == png(3)
    assert base64.b64decode(image.base64) == png(3)
    assert image.sha256 == hashlib.sha256(png(3)).hexdigest()
    assert image.to_pil().getpixel((0, 0)) == (3, 80, 120)
    assert (image.width, image.height, str(image.dimensions), image.extension) == (32, 32, "32x32", ".png")
    assert "PNG" not in repr(image)


def test_an_unknown_keyword_costs_no_call(server: ScriptedServer, client: Any) -> None:
    with pytest.raises(api.InvalidArgument, match="negative_prompt") as caught:
        client.generate("a bag", negativ="blurry")
    assert caught.value.field == "negativ"
    assert not server.requests


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda events: events[:-1], "ended before"),
        (lambda events: [event for event in events if not event.HasField("image_completed")], "0 of 1"),
        (
            lambda events: [event for event in events if event.image_chunk.offset != 0 or not event.image_chunk.data],
            "gap",
        ),
        (lambda events: [event for event in events if not event.image_chunk.last], "SHA-256"),
        (lambda events: [_cut(event) for event in events], "bytes instead of"),
        (lambda events: [_flip(event) for event in events], "SHA-256"),
    ],
)
def test_damaged_pictures_are_never_returned(server: ScriptedServer, client: Any, damage: Any, said: str) -> None:
    server.scripts["Generate"] = lambda request, _: damage(generation(request))
    with pytest.raises(api.DataLoss, match=said):
        client.generate("a bag")


def _cut(event: GenerateResponse) -> GenerateResponse:
    if event.image_chunk.last:
        event.image_chunk.data = event.image_chunk.data[:-1]
    return event


def _flip(event: GenerateResponse) -> GenerateResponse:
    if event.image_chunk.last:
        event.image_chunk.data = event.image_chunk.data[:-1] + b"\0"
    return event


def test_leaving_the_loop_cancels_the_work(server: ScriptedServer, client: Any) -> None:
    left = threading.Event()

    def endless(request: GenerateRequest, context: grpc.ServicerContext) -> Iterator[GenerateResponse]:
        context.add_callback(left.set)
        yield from generation(request)[:2]
        left.wait(30)

    server.scripts["Generate"] = endless
    events = client.generate_events("a bag")
    assert isinstance(next(events), api.Queued)
    events.close()
    assert left.wait(10)


def test_the_deadline_ends_the_call(server: ScriptedServer, client: Any) -> None:
    over = threading.Event()

    def slow(request: GenerateRequest, context: grpc.ServicerContext) -> Iterator[GenerateResponse]:
        context.add_callback(over.set)
        yield generation(request)[0]
        over.wait(30)

    server.scripts["Generate"] = slow
    with pytest.raises(api.DeadlineExceeded, match="timeout"):
        client.generate("a bag", timeout=0.3)
    assert over.wait(10)


def test_one_client_serves_many_threads(server: ScriptedServer) -> None:
    server.scripts["Generate"] = answer
    with api.Atelier(server.target) as atelier, ThreadPoolExecutor(8) as pool:
        results = list(pool.map(lambda seed: atelier.generate("a bag", seed=seed), range(24)))
    assert [result.images[0].data for result in results] == [png(seed) for seed in range(24)]
    assert len({result.request_id for result in results}) == 24


def test_a_picture_larger_than_one_message_arrives(server: ScriptedServer, client: Any) -> None:
    """6 MiB, over the 4 MiB that one message may have by default."""
    data = bytes(range(256)) * (6 * 4096)
    mebibyte = 1024 * 1024

    def large(request: GenerateRequest, _: grpc.ServicerContext) -> Iterator[GenerateResponse]:
        for event in generation(request, pieces=1):
            if event.HasField("image_chunk"):
                for start in range(0, len(data), mebibyte):
                    piece = data[start : start + mebibyte]
                    last = start + mebibyte == len(data)
                    chunk = {"offset": start, "total_size": len(data), "data": piece, "last": last}
                    yield GenerateResponse(request_id="r", image_chunk=chunk)  # type: ignore[arg-type]
                continue
            if event.HasField("image_completed"):
                event.image_completed.sha256 = hashlib.sha256(data).hexdigest()
            yield event

    server.scripts["Generate"] = large
    assert client.generate("a bag").images[0].data == data
