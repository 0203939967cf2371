"""BrandService on a real server with a small real brand model."""

import asyncio
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import pytest
from google.rpc import error_details_pb2

from atelier.v1 import brand_pb2, image_generation_pb2_grpc, scoring_pb2
from atelier_server.testing import RunningServer, echo_server, write_echo_model
from tests.integration.brand_kit import BrandCalls, picture_files, pieces, server_process
from tests.integration.grpc_kit import detail, failing, fields_at_fault, heard
from tests.integration.scoring_kit import picture, write_brand_model, write_clip
from tests.postgres_kit import fresh_database, running_postgres

RED, GREEN, BLUE = (200, 30, 40), (20, 200, 40), (30, 60, 200)


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[RunningServer]:
    """A server with echo and a small brand model, on threads of this process."""
    write_echo_model(tmp_path / "models")
    write_brand_model(tmp_path / "models")
    async with echo_server(tmp_path) as running:
        yield running


@pytest.fixture
def brands(server: RunningServer) -> BrandCalls:
    return BrandCalls(server.channel)


async def scores(channel: grpc.aio.Channel, brand_id: str, image: bytes) -> scoring_pb2.Scores:
    stub = image_generation_pb2_grpc.ImageGenerationServiceStub(channel)
    return (await stub.Score(scoring_pb2.ScoreRequest(images=[image], brand_id=brand_id))).scores[0]


async def test_a_brand_lives_and_dies(brands: BrandCalls, tmp_path: Path) -> None:
    made = await brands.create("maison", name="Maison")
    assert (made.brand_id, made.name, made.revision, made.reference_count) == ("maison", "Maison", 1, 0)
    assert not made.HasField("dispersion")
    pictures = [picture(RED, 1, (60, 40)), picture(RED, 2), picture(RED, 3, kind="JPEG")]
    added = await brands.add("maison", *pictures)
    assert len(added.added_reference_ids) == 3
    assert (added.brand.revision, added.brand.reference_count, added.brand.pending_embeddings) == (4, 3, 0)
    assert added.brand.palette[0].startswith("#c")
    assert not added.brand.references
    brand = await brands.get("maison")
    assert [one.reference_id for one in brand.references] == list(added.added_reference_ids)
    assert (brand.references[0].width, brand.references[0].height) == (60, 40)
    assert brand.references[0].size_bytes == len(pictures[0])
    assert picture_files(tmp_path / "state") == sorted(added.added_reference_ids)
    left = await brands.remove("maison", added.added_reference_ids[1])
    assert (left.revision, left.reference_count) == (5, 2)
    await brands.delete("maison")
    assert picture_files(tmp_path / "state") == []
    assert (await failing(brands.get("maison"))).code() == grpc.StatusCode.NOT_FOUND


async def test_equal_pictures_are_recognised(brands: BrandCalls) -> None:
    first = await brands.add((await brands.create("a")).brand_id, picture(RED, 1), picture(RED, 1), picture(RED, 2))
    assert len(first.added_reference_ids) == 2
    assert list(first.duplicate_reference_ids) == [first.added_reference_ids[0]]
    again = await brands.add("a", picture(RED, 1, kind="WEBP"), picture(RED, 2))
    assert list(again.duplicate_reference_ids) == [first.added_reference_ids[1]]
    assert again.brand.reference_count == 3


async def test_a_large_picture_comes_in_pieces(brands: BrandCalls) -> None:
    large = picture(RED, 1, (700, 700))
    assert len(large) > 2**20
    brand = await brands.create("a", large, picture(RED, 2))
    assert brand.reference_count == 2


async def test_pages(brands: BrandCalls) -> None:
    for name in ("b", "c", "a"):
        await brands.create(name)
    first = await brands.list(page_size=2)
    assert [brand.brand_id for brand in first.brands] == ["a", "b"]
    rest = await brands.list(page_size=2, page_token=first.next_page_token)
    assert [brand.brand_id for brand in rest.brands] == ["c"]
    assert not rest.next_page_token
    assert [brand.brand_id for brand in (await brands.list()).brands] == ["a", "b", "c"]
    for values, field in (({"page_size": 1001}, "page_size"), ({"page_token": "../"}, "page_token")):
        error = await failing(brands.list(**values))
        assert (error.code(), fields_at_fault(error)) == (grpc.StatusCode.INVALID_ARGUMENT, [field])


@pytest.mark.parametrize("brand_id", ["../maison", "a/b", "", "Maison", "x" * 65])
async def test_ids_that_are_none(brands: BrandCalls, tmp_path: Path, brand_id: str) -> None:
    for call in (
        brands.create(brand_id),
        brands.get(brand_id),
        brands.delete(brand_id),
        brands.add(brand_id, picture(RED)),
        brands.remove(brand_id, "0" * 64),
    ):
        error = await failing(call)
        assert (error.code(), fields_at_fault(error)) == (grpc.StatusCode.INVALID_ARGUMENT, ["brand_id"])
    assert picture_files(tmp_path / "state") == []


async def test_what_is_not_there_and_what_is_there_already(brands: BrandCalls, tmp_path: Path) -> None:
    for call in (brands.get("no"), brands.delete("no"), brands.add("no", picture(RED)), brands.remove("no", "0" * 64)):
        assert (await failing(call)).code() == grpc.StatusCode.NOT_FOUND
    assert picture_files(tmp_path / "state") == []
    await brands.create("a")
    assert (await failing(brands.create("a"))).code() == grpc.StatusCode.ALREADY_EXISTS
    error = await failing(brands.remove("a", "../../etc/passwd"))
    assert (error.code(), fields_at_fault(error)) == (grpc.StatusCode.INVALID_ARGUMENT, ["reference_id"])


async def test_streams_that_are_none(brands: BrandCalls) -> None:
    await brands.create("a")
    await brands.create("b")
    half = brand_pb2.AddReferenceImagesRequest(brand_id="a", data=picture(RED, 1)[:50])
    other = brand_pb2.AddReferenceImagesRequest(brand_id="b", data=picture(RED, 1), last=True)
    for messages, field in (([], "brand_id"), ([half], "images[0]"), ([half, other], "brand_id")):
        error = await failing(brands.stub.AddReferenceImages(iter(messages)))
        assert (error.code(), fields_at_fault(error)) == (grpc.StatusCode.INVALID_ARGUMENT, [field])


async def test_a_bad_picture_leaves_those_before_it(brands: BrandCalls) -> None:
    await brands.create("a")
    error = await failing(brands.add("a", picture(RED, 1), picture(RED, 2), b"no picture", picture(RED, 3)))
    assert fields_at_fault(error) == ["images[2]"]
    again = await brands.add("a", picture(RED, 1), picture(RED, 2), picture(RED, 3))
    assert (len(again.duplicate_reference_ids), len(again.added_reference_ids)) == (2, 1)


async def test_a_new_revision_is_not_answered_from_the_cache(server: RunningServer, brands: BrandCalls) -> None:
    await brands.create("a", picture(RED, 1))
    assert (await heard(server, brand_id="a"))[-1].completed.cached is False
    assert (await heard(server, brand_id="a"))[-1].completed.cached is True
    await brands.add("a", picture(BLUE, 2))
    assert (await heard(server, brand_id="a"))[-1].completed.cached is False
    await brands.delete("a")
    await brands.create("a", picture(RED, 1), picture(BLUE, 2))
    assert (await heard(server, brand_id="a"))[-1].completed.cached is False


async def test_the_default_brand_is_used_and_may_be_missing(tmp_path: Path) -> None:
    write_clip(tmp_path / "models")
    write_brand_model(tmp_path / "models")
    async with echo_server(tmp_path, default_brand="maison") as server:
        missing = await scores(server.channel, "", picture(RED))
        assert missing.brand_reference_missing
        assert "default_brand" in missing.warnings[0]
        await BrandCalls(server.channel).create("maison", picture(RED, 1))
        found = await scores(server.channel, "", picture(RED, 2))
        assert len(found.nearest_references) == 1


async def test_a_new_embedder_embeds_the_references_anew(tmp_path: Path) -> None:
    models = tmp_path / "models"
    write_echo_model(models)
    write_brand_model(models, seed=2)
    references = [picture(RED, number) for number in range(8)]
    async with echo_server(tmp_path) as server:
        await BrandCalls(server.channel).create("maison", *references)
        before = await scores(server.channel, "maison", picture(RED, 99))
    shutil.rmtree(models / "small_brand")
    async with echo_server(tmp_path) as server:
        brand = await BrandCalls(server.channel).get("maison")
        assert brand.pending_embeddings == 8
        without = await scores(server.channel, "maison", picture(RED, 99))
        assert not without.HasField("brand_consistency_score")
        assert "no brand model" in without.missing_reasons["brand_consistency_score"]
        assert without.HasField("palette_distance")
        late = (await BrandCalls(server.channel).add("maison", picture(RED, 50))).brand
        assert late.pending_embeddings == 9
        assert any("not embedded" in warning for warning in late.warnings)
    write_brand_model(models, seed=3)
    async with echo_server(tmp_path) as server:
        brand = await BrandCalls(server.channel).embedded("maison")
        assert not any("not embedded" in warning for warning in brand.warnings)
        after = await scores(server.channel, "maison", picture(RED, 99))
        assert after.brand_consistency_score > 0.9
        assert after.brand_consistency_score != before.brand_consistency_score


async def test_an_enforced_gate_needs_the_brands_model(tmp_path: Path) -> None:
    models = tmp_path / "models"
    write_echo_model(models)
    write_clip(models)
    async with echo_server(tmp_path) as server:
        await BrandCalls(server.channel).create("maison", picture(RED, 1))
        error = await failing(heard(server, brand_id="maison", gate="GATE_ENFORCE"))
        assert error.code() == grpc.StatusCode.UNAVAILABLE
        assert detail(error, error_details_pb2.ErrorInfo).reason == "SCORER_MISSING"
        events = await heard(server, brand_id="maison")
        told = next(event.image_completed.scores for event in events if event.HasField("image_completed"))
        assert not told.HasField("brand_consistency_score")
        assert told.missing_reasons["brand_consistency_score"] == "no brand model is ready"


async def test_a_killed_server_keeps_what_it_acknowledged_and_leaves_no_orphan(tmp_path: Path) -> None:
    write_brand_model(tmp_path / "models")
    acknowledged = [picture(RED, number) for number in range(20)]
    hundred = [picture(BLUE, number) for number in range(100)]
    async with server_process(tmp_path) as server:
        brands = BrandCalls(server.channel)
        first = await brands.create("maison", *acknowledged)
        assert first.reference_count == 20
        adding = brands.stub.AddReferenceImages(pieces("maison", hundred))
        while len(picture_files(tmp_path / "state")) < 60:
            await _breathe()
        await server.kill()
        assert (await failing(adding)).code() == grpc.StatusCode.UNAVAILABLE
    async with server_process(tmp_path) as server:
        brands = BrandCalls(server.channel)
        kept = [one.reference_id for one in (await brands.get("maison")).references]
        assert 20 < len(kept) < 120
        assert len(set(kept)) == len(kept)
        assert sorted(kept) == picture_files(tmp_path / "state")
        again = await brands.add("maison", *acknowledged)
        assert len(again.duplicate_reference_ids) == 20
        rest = await brands.add("maison", *hundred)
        assert len(rest.added_reference_ids) == 120 - len(kept)
        brand = await brands.embedded("maison")
        assert brand.reference_count == 120
        print(f"killed after {len(kept)} of 120 pictures: all 20 acknowledged are there, none twice, no orphan file")


async def test_two_servers_on_one_postgresql_see_each_others_brands(tmp_path: Path) -> None:
    write_clip(tmp_path / "models")
    write_brand_model(tmp_path / "models")
    with running_postgres() as socket:
        url = fresh_database(socket)
        one = echo_server(tmp_path, database_url=url, state_dir=tmp_path / "one")
        two = echo_server(tmp_path, database_url=url, state_dir=tmp_path / "two")
        async with one as first, two as second:
            here, there = BrandCalls(first.channel), BrandCalls(second.channel)
            await here.create("maison", *(picture(RED, number) for number in range(8)))
            assert (await there.get("maison")).reference_count == 8
            on = await scores(second.channel, "maison", picture(RED, 99))
            off = await scores(second.channel, "maison", picture(BLUE, 99))
            assert on.brand_consistency_score > 0.85 > off.brand_consistency_score
            assert (await there.add("maison", picture(RED, 8))).brand.reference_count == 9
            assert (await here.get("maison")).revision == 10
            await there.delete("maison")
            assert (await failing(here.get("maison"))).code() == grpc.StatusCode.NOT_FOUND


async def _breathe() -> None:

    await asyncio.sleep(0.005)
