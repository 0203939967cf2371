"""Score on a real server with small real models: values, missing scorers, bad input."""

import io
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from PIL import Image

from atelier.v1 import brand_pb2, brand_pb2_grpc, image_generation_pb2_grpc, scoring_pb2
from atelier_server.backends.base import ModelSpec
from atelier_server.executor.base import Executor
from atelier_server.executor.subprocess import SubprocessExecutor
from atelier_server.testing import RunningServer, echo_server, in_process_executor, write_echo_model
from tests.integration.grpc_kit import failing, fields_at_fault, heard, images, request
from tests.integration.scoring_kit import picture, write_brand_model, write_clip

RED, BLUE = (200, 30, 40), (30, 60, 200)


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[RunningServer]:
    """A server with echo, a small CLIP and a small brand model, all on threads of this process."""
    write_echo_model(tmp_path / "models")
    write_clip(tmp_path / "models")
    write_brand_model(tmp_path / "models")
    async with echo_server(tmp_path) as running:
        yield running


async def score(server: RunningServer, *images: bytes, **fields: Any) -> list[scoring_pb2.Scores]:
    stub = image_generation_pb2_grpc.ImageGenerationServiceStub(server.channel)
    return list((await stub.Score(scoring_pb2.ScoreRequest(images=images, **fields))).scores)


async def make_brand(server: RunningServer, brand_id: str, *images: bytes) -> brand_pb2.Brand:
    stub = brand_pb2_grpc.BrandServiceStub(server.channel)
    brand = (await stub.CreateBrand(brand_pb2.CreateBrandRequest(brand_id=brand_id))).brand
    if not images:
        return brand
    messages = [brand_pb2.AddReferenceImagesRequest(brand_id=brand_id, data=data, last=True) for data in images]
    return (await stub.AddReferenceImages(iter(messages))).brand


async def test_pictures_are_scored_in_their_order(server: RunningServer) -> None:
    red, blue = await score(server, picture(RED), picture(BLUE), prompt="a red bag")
    assert 0 < red.aesthetic_score < 10
    assert set(red.sub_scores) == {"sharpness", "lighting"}
    assert red.aesthetic_score == pytest.approx(sum(red.sub_scores.values()) / 2)
    assert red.aesthetic_method == "clip_antonym_pairs small_clip/1 calibration test"
    assert 0 < red.prompt_alignment < 1
    assert red.brand_reference_missing
    assert red.brand_consistency_score == 1.0
    assert red.aesthetic_score != blue.aesthetic_score
    assert (red.aesthetic_threshold, red.brand_threshold) == (7.5, 0.85)
    alone = (await score(server, picture(BLUE), prompt="a red bag"))[0]
    assert alone.aesthetic_score == pytest.approx(blue.aesthetic_score, abs=1e-4)


async def test_on_brand_and_off_brand_pictures_are_told_apart(server: RunningServer) -> None:
    brand = await make_brand(server, "maison", *(picture(RED, number) for number in range(8)))
    assert brand.reference_count == 8
    assert brand.pending_embeddings == 0
    assert brand.dispersion < 0.05
    assert len(brand.palette) == 5
    on, off = await score(server, picture(RED, 100), picture(BLUE, 100), brand_id="maison")
    assert on.brand_consistency_score > 0.95 > 0.85 > off.brand_consistency_score
    assert on.on_brand_probability > 0.8 > 0.2 > off.on_brand_probability
    assert on.palette_distance < 10 < 30 < off.palette_distance
    assert on.brand_centroid_similarity > off.brand_centroid_similarity
    assert len(on.nearest_references) == 3
    cosines = [nearest.similarity for nearest in on.nearest_references]
    assert cosines == sorted(cosines, reverse=True)
    assert on.brand_consistency_score == pytest.approx(sum(cosines) / 3)
    assert on.brand_passed
    assert not off.brand_passed
    assert not on.brand_reference_missing


async def test_a_brand_without_references_passes_and_says_so(server: RunningServer) -> None:
    await make_brand(server, "empty")
    only = (await score(server, picture(RED), brand_id="empty"))[0]
    assert only.brand_consistency_score == 1.0
    assert only.brand_reference_missing
    assert only.brand_passed
    assert "no reference pictures" in only.warnings[0]


async def test_few_or_contradicting_references_are_warned_of(server: RunningServer) -> None:
    brand = await make_brand(server, "few", picture(RED, 1), picture(BLUE, 2), picture((20, 200, 40), 3))
    assert any("3 reference pictures" in warning for warning in brand.warnings)
    assert any("contradict" in warning for warning in brand.warnings)
    only = (await score(server, picture(RED), brand_id="few"))[0]
    assert list(only.warnings) == list(brand.warnings)


async def test_a_generated_picture_is_compared_with_its_brand(server: RunningServer) -> None:
    await make_brand(server, "maison", *(picture(RED, number) for number in range(8)))
    events = await heard(server, brand_id="maison")
    scores = next(event.image_completed.scores for event in events if event.HasField("image_completed"))
    assert len(scores.nearest_references) == 3
    assert scores.HasField("prompt_alignment")
    assert scores.HasField("palette_distance")


def encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def bad_pictures() -> dict[str, bytes]:
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    noisy = picture(RED, size=(200, 200))
    return {
        "empty": b"",
        "text": b"this is no picture at all",
        "truncated": noisy[: len(noisy) // 2],
        "bomb": encoded(Image.new("1", (30_000, 30_000)), "PNG"),
        "gif": encoded(frames[0], "GIF", save_all=True, append_images=frames[1:]),
        "animated webp": encoded(frames[0], "WEBP", save_all=True, append_images=frames[1:]),
        "svg": b'<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"/>',
        "26 MB": picture(RED)[:8] + bytes(26_000_000),
        "magic only": picture(RED)[:8],
    }


BAD_PICTURES = bad_pictures()


@pytest.mark.parametrize("name", BAD_PICTURES)
async def test_what_is_no_picture_is_named_and_leaves_nothing(server: RunningServer, tmp_path: Path, name: str) -> None:
    await make_brand(server, "maison", picture(RED))
    before = sorted(path.name for path in (tmp_path / "state" / "brands" / "pictures").rglob("*"))
    bad = BAD_PICTURES[name]
    error = await failing(score(server, picture(RED), bad))
    assert error.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert fields_at_fault(error) == ["images[1]"]
    stub = brand_pb2_grpc.BrandServiceStub(server.channel)
    error = await failing(
        stub.AddReferenceImages(iter([brand_pb2.AddReferenceImagesRequest(brand_id="maison", data=bad, last=True)]))
    )
    assert error.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert fields_at_fault(error) == ["images[0]"]
    assert sorted(path.name for path in (tmp_path / "state" / "brands" / "pictures").rglob("*")) == before


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"aesthetic_threshold": 10.5}, "aesthetic_threshold"),
        ({"brand_threshold": float("nan")}, "brand_threshold"),
        ({"prompt": ""}, "prompt"),
        ({"brand_id": "../../etc"}, "brand_id"),
    ],
)
async def test_wrong_fields_are_named(server: RunningServer, fields: dict[str, Any], field: str) -> None:
    error = await failing(score(server, picture(RED), **fields))
    assert error.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert fields_at_fault(error) == [field]


async def test_the_number_of_pictures_is_limited(server: RunningServer) -> None:
    for count in (0, 65):
        error = await failing(score(server, *[picture(RED)] * count))
        assert error.code() == grpc.StatusCode.INVALID_ARGUMENT
        assert fields_at_fault(error) == ["images"]


async def test_an_unknown_brand_is_not_found(server: RunningServer) -> None:
    for call in (score(server, picture(RED), brand_id="nobody"), heard(server, brand_id="nobody")):
        error = await failing(call)
        assert error.code() == grpc.StatusCode.NOT_FOUND
        assert fields_at_fault(error) == ["brand_id"]


async def test_an_aesthetic_head_replaces_the_pairs_and_is_named(tmp_path: Path) -> None:
    write_clip(tmp_path / "models", head=8.25)
    async with echo_server(tmp_path) as server:
        only = (await score(server, picture(RED)))[0]
    assert only.aesthetic_score == pytest.approx(8.25)
    assert only.aesthetic_method.startswith("clip_aesthetic_head small_clip/1")
    assert set(only.sub_scores) == {"sharpness", "lighting"}
    assert only.aesthetic_passed


async def test_a_prompt_that_is_cut_is_told(server: RunningServer) -> None:
    only = (await score(server, picture(RED), prompt="red bag " * 8))[0]
    assert "first 8 tokens" in only.warnings[0]
    assert not (await score(server, picture(RED), prompt="red bag"))[0].warnings


async def test_a_picture_that_is_not_square_is_seen_to_its_sides(server: RunningServer) -> None:
    half = Image.new("RGB", (96, 32), RED)
    half.paste(BLUE, (0, 0, 30, 32))
    whole = Image.new("RGB", (96, 32), RED)
    seen, plain = await score(server, encoded(half, "PNG"), encoded(whole, "PNG"))
    assert seen.aesthetic_score != pytest.approx(plain.aesthetic_score, abs=1e-3)


async def test_without_a_scorer_the_reason_is_given(tmp_path: Path) -> None:
    async with echo_server(tmp_path) as server:
        only = (await score(server, picture(RED), prompt="a bag"))[0]
    assert not only.HasField("aesthetic_score")
    assert dict(only.missing_reasons) == dict.fromkeys(
        ("aesthetic_score", "prompt_alignment"), "no CLIP model is ready"
    )


async def test_a_broken_calibration_loses_the_score_and_not_the_picture(tmp_path: Path) -> None:
    write_echo_model(tmp_path / "models")
    (write_clip(tmp_path / "models") / "calibration.json").write_text("{}")
    async with echo_server(tmp_path) as server:
        done = completed(await heard(server))
    assert "calibration.json" in done.scores.missing_reasons["aesthetic_score"]


@pytest.mark.parametrize("comes_back", [True, False])
async def test_a_scorer_that_is_lost_never_loses_the_picture(tmp_path: Path, comes_back: bool) -> None:
    def executor(spec: ModelSpec) -> Executor:
        return SubprocessExecutor(spec, "onnx") if spec.name == "small_clip" else in_process_executor(spec)

    write_echo_model(tmp_path / "models", step_seconds=0.05)
    write_clip(tmp_path / "models")
    async with echo_server(tmp_path, executor_factory=executor) as server:
        before = completed(await heard(server, seed=1))
        assert before.scores.HasField("aesthetic_score")
        scorer = server.app.registry.get("small_clip")
        events = images(server).Generate(request(seed=2, num_inference_steps=20))
        async for event in events:
            if event.HasField("progress"):
                if comes_back:
                    os.kill(scorer.status().pid, signal.SIGKILL)
                else:
                    await scorer.stop()
                break
        after = completed([event async for event in events])
        assert after.sha256
        assert after.scores.HasField("aesthetic_score") == comes_back
        assert bool(after.scores.missing_reasons["aesthetic_score"]) != comes_back


def completed(events: list[Any]) -> Any:
    return next(event.image_completed for event in events if event.HasField("image_completed"))
