"""Every method beside generate, by both clients."""

from pathlib import Path
from typing import Any

import pytest
from PIL import Image

import atelier_client as api
from atelier.v1 import brand_pb2, health_pb2, model_pb2, scoring_pb2
from tests.client import scripted
from tests.client.scripted import ScriptedServer, png


def answer(message: Any) -> Any:
    return lambda request, context: message


def judge(request: scoring_pb2.ScoreRequest, _: Any) -> scoring_pb2.ScoreResponse:
    """The length of each picture as its score, so that a test can see the order."""
    return scoring_pb2.ScoreResponse(scores=[scripted.scores(aesthetic_score=len(image)) for image in request.images])


def test_health(server: ScriptedServer, client: Any) -> None:
    server.scripts["Health"] = answer(scripted.health())
    health = client.health()
    assert (health.status, health.initialized, health.total_generations) == ("healthy", True, 0)
    assert health.models_available == api.ModelsAvailable(True, False, True, False)
    assert health.instances[0].memory_bytes == 2**30
    assert health.avg_aesthetic_score is None


def test_metrics(server: ScriptedServer, client: Any) -> None:
    reply = health_pb2.GetMetricsResponse(total_generations=3, generations_by_model={"starter": 3}, slo_met=False)
    server.scripts["GetMetrics"] = answer(reply)
    metrics = client.metrics()
    assert (metrics.total_generations, metrics.generations_by_model) == (3, {"starter": 3})
    assert (metrics.slo_met, metrics.p95_generation_time_ms) == (False, None)


def test_score_takes_paths_bytes_and_pictures(server: ScriptedServer, client: Any, tmp_path: Path) -> None:
    server.scripts["Score"] = judge
    path = tmp_path / "bag.png"
    path.write_bytes(png(1))
    for source in (path, str(path), png(1), Image.open(path)):
        assert client.score(source, prompt="a bag", brand_id="acme").prompt_alignment == 0.75
    for request in server.asked("Score"):
        assert (request.prompt, request.brand_id, len(request.images)) == ("a bag", "acme", 1)
        assert request.images[0].startswith(b"\x89PNG")


def test_many_pictures_go_in_several_messages_and_keep_their_order(server: ScriptedServer, client: Any) -> None:
    server.scripts["Score"] = judge
    sizes = [*range(1, 101), 2_000_000, 1_900_000, 3_900_000, 5]
    scores = client.score_all([b"x" * size for size in sizes])
    assert [score.aesthetic_score for score in scores] == sizes
    counts = [len(request.images) for request in server.asked("Score")]
    assert counts == [64, 37, 1, 1, 1]
    assert client.score_all([]) == ()


def test_a_missing_picture_costs_no_call(server: ScriptedServer, client: Any, tmp_path: Path) -> None:
    for call in (client.score, lambda path: client.brands.add("acme", [path])):
        with pytest.raises(api.InvalidArgument, match=r"no\.png cannot be read") as caught:
            call(tmp_path / "no.png")
        assert caught.value.field == "image"
    assert not server.requests


def test_brands(server: ScriptedServer, client: Any) -> None:
    acme = scripted.brand("acme", references=2)
    server.scripts |= {
        "CreateBrand": answer(brand_pb2.CreateBrandResponse(brand=acme)),
        "GetBrand": answer(brand_pb2.GetBrandResponse(brand=acme)),
        "DeleteBrand": answer(brand_pb2.DeleteBrandResponse()),
        "RemoveReferenceImage": answer(brand_pb2.RemoveReferenceImageResponse(brand=acme)),
    }
    brand = client.brands.create("acme", name="Acme")
    assert (brand.brand_id, brand.name, brand.reference_count, brand.palette) == ("acme", "Acme", 2, ("#aa3300",))
    assert client.brands.get("acme") == brand
    assert client.brands.delete("acme") is None
    assert client.brands.remove("acme", "ff") == brand
    assert server.asked("CreateBrand") == [brand_pb2.CreateBrandRequest(brand_id="acme", name="Acme")]
    assert server.asked("RemoveReferenceImage")[0].reference_id == "ff"


def test_all_pages_of_brands(server: ScriptedServer, client: Any) -> None:
    def page(request: brand_pb2.ListBrandsRequest, _: Any) -> brand_pb2.ListBrandsResponse:
        number = int(request.page_token or 0)
        after = str(number + 1) if number < 2 else ""
        return brand_pb2.ListBrandsResponse(brands=[scripted.brand(f"b{number}")], next_page_token=after)

    server.scripts["ListBrands"] = page
    assert [brand.brand_id for brand in client.brands.list()] == ["b0", "b1", "b2"]


def test_references_go_in_pieces(server: ScriptedServer, client: Any) -> None:
    reply = brand_pb2.AddReferenceImagesResponse(
        brand=scripted.brand("acme", 2), added_reference_ids=["aa", "bb"], duplicate_reference_ids=["cc"]
    )
    server.scripts["AddReferenceImages"] = answer(reply)
    large = bytes(range(256)) * 4096 * 2 + b"end"
    added = client.brands.add("acme", [large, b"small", b"x" * 1024 * 1024])
    assert (added.added_reference_ids, added.duplicate_reference_ids) == (("aa", "bb"), ("cc",))
    (pieces,) = server.asked("AddReferenceImages")
    assert {piece.brand_id for piece in pieces} == {"acme"}
    assert [(len(piece.data), piece.last) for piece in pieces] == [
        *((1048576, False), (1048576, False), (3, True), (5, True), (1048576, True))
    ]
    assert b"".join(piece.data for piece in pieces[:3]) == large


def test_models(server: ScriptedServer, client: Any) -> None:
    server.scripts |= {
        "ListModels": answer(model_pb2.ListModelsResponse(models=[scripted.model("sdxl", "LOADING")])),
        "LoadModel": answer(model_pb2.LoadModelResponse(model=scripted.model("sdxl"))),
        "UnloadModel": answer(model_pb2.UnloadModelResponse(model=scripted.model("sdxl", "UNAVAILABLE"))),
    }
    assert [(model.name, model.state) for model in client.models.list()] == [("sdxl", "LOADING")]
    assert client.models.load("sdxl").instances[0].pid == 12
    assert client.models.unload("sdxl").state == "UNAVAILABLE"
    assert server.asked("LoadModel") == [model_pb2.LoadModelRequest(name="sdxl")]
