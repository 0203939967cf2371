"""The commands of `atelier` beside generate: what they print."""

from pathlib import Path
from typing import Any

from atelier.v1 import brand_pb2, health_pb2, model_pb2, scoring_pb2
from tests.client import scripted
from tests.client.cli_kit import Run, document
from tests.client.scripted import ScriptedServer


def test_score(server: ScriptedServer, run: Run) -> None:
    def judge(request: scoring_pb2.ScoreRequest, context: Any) -> scoring_pb2.ScoreResponse:
        lengths = [len(image) for image in request.images]
        return scoring_pb2.ScoreResponse(
            scores=[scripted.scores(on_brand_probability=length / 8) for length in lengths]
        )

    server.scripts["Score"] = judge
    for name, length in (("b.png", 1), ("a.png", 2), ("c.png", 4)):
        Path(name).write_bytes(b"x" * length)
    found = document(run("score", "b.png", "a.png", "--prompt", "a bag", "c.png", "--brand", "acme", "--json"))
    assert [(image["path"], image["on_brand_probability"]) for image in found["images"]] == [
        *(("b.png", 0.125), ("a.png", 0.25), ("c.png", 0.5))
    ]
    assert found["images"][0] == {
        "path": "b.png",
        "aesthetic_score": 7.8125,
        "sub_scores": {"sharpness": 8.0},
        "brand_consistency_score": 1.0,
        "brand_reference_missing": True,
        "on_brand_probability": 0.125,
        "palette_distance": None,
        "prompt_alignment": 0.75,
        "passed": True,
        "missing_reasons": {},
    }
    (request,) = server.asked("Score")
    assert (request.prompt, request.brand_id) == ("a bag", "acme")
    out = run("score", "b.png")[1].splitlines()
    assert out[1].split() == ["b.png", "7.81", "1.00", "0.12", "-", "0.75", "yes"]
    assert "brand_reference_missing" in out[2]


def test_health_and_metrics(server: ScriptedServer, run: Run) -> None:
    server.scripts["Health"] = lambda request, context: scripted.health()
    server.scripts["GetMetrics"] = lambda request, context: health_pb2.GetMetricsResponse(
        total_generations=2, p50_generation_time_ms=900.0, generations_by_model={"starter": 2}, window_seconds=600.0
    )
    found = document(run("health", "--json"))
    expected = {field.name for field in health_pb2.HealthResponse.DESCRIPTOR.fields}
    assert set(found) == expected
    assert found["models_available"]["stable_diffusion_xl"] is True
    assert found["instances"][0]["memory_bytes"] == 2**30
    assert found["slo_met"] is None
    found = document(run("metrics", "--json"))
    assert set(found) == {field.name for field in health_pb2.GetMetricsResponse.DESCRIPTOR.fields}
    assert (found["generations_by_model"], found["p95_generation_time_ms"]) == ({"starter": 2}, None)
    text = run("health")[1]
    assert "healthy" in text
    assert "starter  1        READY  cpu     -      -          1024 MiB" in text
    assert "generations_by_model" in run("metrics")[1]


def test_brands(server: ScriptedServer, run: Run) -> None:
    acme = scripted.brand("acme", 1)
    acme.references.add(reference_id="ff", size_bytes=4, width=2, height=3)
    added = brand_pb2.AddReferenceImagesResponse(brand=acme, added_reference_ids=["ff"])
    replies = {
        "CreateBrand": brand_pb2.CreateBrandResponse(brand=acme),
        "GetBrand": brand_pb2.GetBrandResponse(brand=acme),
        "ListBrands": brand_pb2.ListBrandsResponse(brands=[acme]),
        "DeleteBrand": brand_pb2.DeleteBrandResponse(),
        "AddReferenceImages": added,
    }
    for method, reply in replies.items():
        server.scripts[method] = lambda request, context, reply=reply: reply
    Path("a.png").write_bytes(b"abcd")
    shown = document(run("brand", "show", "acme", "--json"))["brand"]
    assert set(shown) == {field.name for field in brand_pb2.Brand.DESCRIPTOR.fields}
    assert shown["references"] == [{"reference_id": "ff", "size_bytes": 4, "width": 2, "height": 3}]
    assert document(run("brand", "list", "--json")) == {"brands": [shown]}
    assert document(run("brand", "delete", "acme", "--json")) == {"deleted": "acme"}
    with_pictures = document(run("brand", "create", "acme", "--name", "Acme", "a.png", "--json"))
    assert with_pictures == {"brand": shown, "added_reference_ids": ["ff"], "duplicate_reference_ids": []}
    assert document(run("brand", "add", "acme", "a.png", "--json")) == with_pictures
    assert document(run("brand", "create", "acme", "--json"))["added_reference_ids"] == []
    assert [request.name for request in server.asked("CreateBrand")] == ["Acme", ""]
    assert len(server.asked("AddReferenceImages")) == 2
    for words in (["show", "acme"], ["list"], ["add", "acme", "a.png"]):
        assert "acme   Acme  1           #aa3300" in run("brand", *words)[1]
    assert "deleted" in run("brand", "delete", "acme")[1]


def test_models(server: ScriptedServer, run: Run) -> None:
    server.scripts |= {
        "ListModels": lambda request, context: model_pb2.ListModelsResponse(models=[scripted.model("sdxl")]),
        "LoadModel": lambda request, context: model_pb2.LoadModelResponse(model=scripted.model(request.name)),
        "UnloadModel": lambda request, context: model_pb2.UnloadModelResponse(model=scripted.model(request.name)),
    }
    listed = document(run("models", "list", "--json"))["models"]
    assert set(listed[0]) == {field.name for field in model_pb2.ModelInfo.DESCRIPTOR.fields}
    assert document(run("models", "load", "sdxl", "--json")) == {"model": listed[0]}
    assert document(run("models", "unload", "sdxl", "--json")) == {"model": listed[0]}
    for words in (["list"], ["load", "sdxl"], ["unload", "sdxl"]):
        assert "sdxl   1        READY  sdxl     -" in run("models", *words)[1]
