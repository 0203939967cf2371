"""The command `atelier`: what it prints, writes and exits with."""

import json
import os
import resource
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from atelier.v1 import brand_pb2, health_pb2, model_pb2, scoring_pb2
from atelier.v1.image_generation_pb2 import GenerateRequest, GuidanceInterval
from atelier_client.cli import main
from tests.client import scripted
from tests.client.scripted import GenerateResponse, Refusal, ScriptedServer, generation, paid_generation, png, refusal

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(
    server: ScriptedServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Run:
    """Runs the command in an empty folder against the scripted server; exit code, stdout, stderr."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ATELIER_SERVER", server.target)
    monkeypatch.delenv("ATELIER_TOKEN", raising=False)

    def command(*words: str) -> tuple[int, str, str]:
        code = main(words)
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    server.scripts["Generate"] = lambda request, context: generation(request)
    return command


def document(outcome: tuple[int, str, str], code: int = 0) -> Any:
    """The one JSON object on stdout."""
    assert (outcome[0], outcome[2]) == (code, ""), outcome
    return json.loads(outcome[1])


IMAGE = {
    "path": "out.png",
    "seed": 42,
    "width": 32,
    "height": 32,
    "native_width": 32,
    "native_height": 32,
    "media_type": "image/png",
    "aesthetic_score": 7.8125,
    "brand_consistency_score": 1.0,
    "brand_reference_missing": True,
    "prompt_alignment": 0.75,
    "passed": True,
    "missing_reasons": {},
}
GENERATION = {
    "request_id": "mine",
    "model_used": "starter",
    "model_version": "1",
    "routing_reason": "nothing but the starter is ready",
    "prompt_used": "a bag, rich",
    "negative_prompt_used": None,
    "generation_time_ms": 1234.5,
    "cached": False,
    "attempts": 1,
    "restarts": 0,
    "reproducibility": "exact",
    "ignored_fields": ["output_quality"],
    "accelerations": [],
    "timings_ms": {"denoise": 1000.0, "decode": 100.0, "queue": 0.5},
    "metadata": {"order": "7"},
    "timestamp": "2026-01-02T03:04:05+00:00",
}


def test_generate_json(run: Run) -> None:
    options = ("--seed", "42", "--reproducibility", "exact", "--metadata", "order=7", "--request-id", "mine")
    found = document(run("generate", "a bag", *options, "-o", "out.png", "--json"))
    (image,) = found.pop("images")
    assert len(image.pop("sha256")) == 64
    assert (found, image) == (GENERATION, IMAGE)
    assert Path("out.png").read_bytes() == png(42)
    assert os.listdir() == ["out.png"]


def test_generate_tells_of_accelerations(run: Run) -> None:
    found = document(run("generate", "a bag", "--step-caching", "2", "-o", "out.png", "--json"))
    assert found["accelerations"] == ["step_caching"]
    lines = run("generate", "a bag", "--step-caching", "2", "-o", "out.png")[1].splitlines()
    assert "note     computed faster, at a loss, by step_caching." in lines


def test_generate_for_people(run: Run) -> None:
    code, out, err = run("generate", "a bag", "--seed", "42", "-o", "new/out.png")
    assert (code, err) == (0, "")
    assert out.splitlines() == [
        "picture      size   seed  aesthetic  brand  alignment  passed",
        "new/out.png  32x32  42    7.81       1.00   0.75       yes",
        "model    starter 1: nothing but the starter is ready",
        "time     1.23 s (decode 0.10 s, denoise 1.00 s)",
        "note     brand_reference_missing: without brand references the brand score is the default pass.",
        "note     text_encoder_2 cannot read so much: 4 tokens of the prompt, 0 of the negative prompt had no effect.",
        "note     starter cannot honour: output_quality.",
    ]
    assert Path("new/out.png").read_bytes() == png(42)


def test_generate_tells_what_it_costs(server: ScriptedServer, run: Run) -> None:
    server.scripts["Generate"] = lambda request, context: paid_generation(request)
    assert "note     it costs about $0.030 at starter." in run("generate", "a bag", "-o", "out.png")[1]
    usage = document(run("generate", "a bag", "-o", "out.png", "--json"))["usage"]
    assert (usage["estimated_cost_usd"], usage["total_tokens"], usage["upstream_calls"]) == (0.0301, 1020, 2)


def test_generate_tells_why_a_picture_did_not_pass(server: ScriptedServer, run: Run) -> None:
    def poor(request: GenerateRequest, context: grpc.ServicerContext) -> Iterator[GenerateResponse]:
        events = generation(request)
        events[-2].image_completed.scores.CopyFrom(
            scripted.scores(aesthetic_score=2.6, aesthetic_passed=False, passed=False)
        )
        yield from events

    server.scripts["Generate"] = poor
    assert "note     not passed: aesthetic 2.60 is under 7.50." in run("generate", "a bag", "-o", "out.png")[1]


def test_every_flag_reaches_its_field(server: ScriptedServer, run: Run) -> None:
    flags = (
        *(
            "--negative",
            "dark",
            "--style",
            "Luxury",
            "--aspect",
            "ultra-wide",
            "--quality",
            "ultra_hd",
            "--size",
            "640x320",
        ),
        *("--model", "dalle3", "--seed", "18446744073709551614", "--steps", "20", "--guidance", "0", "-n", "2"),
        *("--guidance-interval", "0.1-.8", "--step-caching", "2"),
        *("--noise-schedule", "dpmpp_2m_karras", "--brand", "acme", "--no-brand-check", "--gate", "retry"),
        *("--aesthetic-threshold", "0", "--brand-threshold", "0.5", "--max-attempts", "2", "--format", "png"),
        *("--reproducibility", "exact", "--cache", "bypass", "--priority", "high", "--metadata", "a=b=c"),
        *("--metadata", "d=", "--request-id", "mine", "--previews", "steps", "-o", "out.webp", "--timeout", "9"),
    )
    assert run("generate", *flags, "a bag")[0] == 0
    expected = GenerateRequest(
        prompt="a bag",
        negative_prompt="dark",
        style="STYLE_LUXURY",
        aspect_ratio="ASPECT_RATIO_ULTRA_WIDE",
        quality="QUALITY_ULTRA_HD",
        width=640,
        height=320,
        num_images=2,
        seed=2**64 - 2,
        model="MODEL_DALL_E_3",
        num_inference_steps=20,
        guidance_scale=0.0,
        guidance_interval=GuidanceInterval(start=0.1, end=0.8),
        step_caching=2,
        noise_schedule="NOISE_SCHEDULE_DPMPP_2M_KARRAS",
        brand_id="acme",
        brand_consistency_check=False,
        aesthetic_threshold=0.0,
        brand_threshold=0.5,
        gate="GATE_RETRY",
        max_attempts=2,
        output_format="IMAGE_FORMAT_PNG",
        cache="CACHE_POLICY_BYPASS",
        priority="PRIORITY_HIGH",
        reproducibility="REPRODUCIBILITY_EXACT",
        metadata={"a": "b=c", "d": ""},
        request_id="mine",
    )
    expected.preview.every_n_steps = 1
    assert server.asked("Generate") == [expected]


@pytest.mark.parametrize(
    ("word", "model", "name"),
    [
        ("auto", "MODEL_AUTO", ""),
        ("SDXL", "MODEL_STABLE_DIFFUSION_XL", ""),
        ("my-tune", "MODEL_UNSPECIFIED", "my-tune"),
    ],
)
def test_models_and_formats_by_their_names(server: ScriptedServer, run: Run, word: str, model: str, name: str) -> None:
    assert run("generate", "a bag", "--model", word, "-o", "out.JPG")[0] == 0
    (request,) = server.asked("Generate")
    expected = GenerateRequest(
        prompt="a bag", model=model, model_name=name, output_format="IMAGE_FORMAT_JPEG", request_id=request.request_id
    )
    assert request == expected


def test_several_pictures_are_numbered(run: Run) -> None:
    found = document(run("generate", "a bag", "-n", "2", "--seed", "5", "-o", "new/out.png", "--json"))
    assert [image["path"] for image in found["images"]] == ["new/out-1.png", "new/out-2.png"]
    assert [Path(image["path"]).read_bytes() for image in found["images"]] == [png(5), png(6)]


def test_without_a_path_each_picture_has_a_name_of_its_own(run: Run) -> None:
    found = document(run("generate", "a bag", "-n", "2", "--json"))
    assert sorted(os.listdir()) == sorted(image["path"] for image in found["images"])
    assert found["images"][0]["path"] == f"atelier-{found['images'][0]['sha256'][:12]}.png"


def test_a_name_that_no_encoding_has(run: Run) -> None:
    path = os.fsdecode(b"b\xff.png")
    assert run("generate", "a bag", "-o", path)[1].splitlines()[1].startswith(r"b\udcff.png")
    assert document(run("generate", "a bag", "-o", path, "--json"))["images"][0]["path"] == path
    assert Path(path).exists()
    assert run("generate", os.fsdecode(b"\xff"))[0] == 2


def test_previews_are_saved(run: Run) -> None:
    assert run("generate", "a bag", "--previews", "steps/of/it", "-o", "out.png")[0] == 0
    names = ["preview-1-001.png", "preview-1-002.png", "preview-1-003.png"]
    assert sorted(os.listdir("steps/of/it")) == names
    assert Path("steps/of/it", names[1]).read_bytes() == png(2)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (refusal("INVALID_ARGUMENT", "Do this.", "INVALID_ARGUMENT", field="num_images"), 2),
        (refusal("INVALID_ARGUMENT", "Do this.", "MODERATION_BLOCKED", field="prompt"), 2),
        (refusal("UNAVAILABLE", "Do this.", "MODEL_LOADING", retry_after=999.0), 3),
        (refusal("FAILED_PRECONDITION", "Do this.", "GATE_REFUSED"), 4),
        (refusal("DEADLINE_EXCEEDED", "Do this.", "DEADLINE_EXCEEDED"), 5),
        (refusal("CANCELLED", "Do this.", "CANCELLED"), 5),
        (refusal("FAILED_PRECONDITION", "Do this.", "WEIGHTS_MISSING", field="model_name"), 1),
        (refusal("NOT_FOUND", "Do this.", "MODEL_NOT_FOUND", field="model_name"), 1),
        (refusal("RESOURCE_EXHAUSTED", "Do this.", "QUEUE_FULL"), 1),
        (refusal("INTERNAL", "Do\nthis.", "INTERNAL"), 1),
    ],
)
def test_errors_and_exit_codes(server: ScriptedServer, run: Run, error: Refusal, code: int) -> None:
    def refuse(request: Any, context: grpc.ServicerContext) -> Any:
        raise error

    server.scripts["Generate"] = refuse
    found = document(run("generate", "a bag", "--json"), code)
    info, *_ = error.details
    violations = [v.field for d in error.details if hasattr(d, "field_violations") for v in d.field_violations]
    assert found == {
        "error": {
            "code": error.code.name,
            "message": error.message,
            "field": violations[0] if violations else None,
            "reason": info.reason,  # type: ignore[attr-defined]
        }
    }
    outcome = run("generate", "a bag")
    field = f"{violations[0]}: " if violations else ""
    assert outcome == (code, "", f"atelier: {field}Do this. [{info.reason}]\n")  # type: ignore[attr-defined]
    assert os.listdir() == []


@pytest.mark.parametrize(
    ("words", "field"),
    [
        (["generate"], "prompt"),
        (["generate", "a bag", "--style", "lux"], "style"),
        (["generate", "a bag", "--aspect", "round"], "aspect_ratio"),
        (["generate", "a bag", "--size", "640"], "size"),
        (["generate", "a bag", "--seed", "1.5"], "seed"),
        (["generate", "a bag", "--seed", "-1"], "seed"),
        (["generate", "a bag", "-n", "many"], "num_images"),
        (["generate", "a bag", "--timeout", "0"], "timeout"),
        (["generate", "a bag", "--timeout", "nan"], "timeout"),
        (["generate", "a bag", "--metadata", "a"], "metadata"),
        (["generate", "a bag", "-o", "."], "output"),
        (["generate", "a bag", "-o", "file/out.png"], "output"),
        (["generate", "a bag", "--previews", "file"], "previews"),
        (["generate", "a bag", "--ste", "4"], None),
        (["generate", "a", "bag"], None),
        (["generate", "a bag", "--token-file", "no"], "token_file"),
        (["generate", "a bag", "--ca", "no"], "ca_file"),
        (["score"], "image"),
        (["score", "no.png"], "image"),
        (["brand", "create", "acme", "no.png"], "image"),
        (["brand", "add", "acme"], "image"),
        (["brand"], "action"),
        (["models", "load"], "name"),
        (["paint"], "command"),
        ([], "command"),
    ],
)
def test_bad_usage_is_one_line_and_costs_no_call(
    server: ScriptedServer, run: Run, words: list[str], field: str
) -> None:
    Path("file").write_bytes(b"")
    assert document(run(*words, "--json"), 2)["error"]["field"] == field
    code, out, err = run(*words)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert err.startswith("atelier: ")
    assert not server.requests


def test_a_server_that_is_not_there(server: ScriptedServer, run: Run) -> None:
    server.stop()
    error = document(run("health", "--json"), 3)["error"]
    assert (error["code"], server.target in error["message"]) == ("UNAVAILABLE", True)


def test_what_the_server_does_not_offer_is_one_line(run: Run) -> None:
    code, out, err = run("metrics")
    assert (code, out, err.count("\n")) == (1, "", 1)
    assert "does not offer this" in err


def test_the_timeout_holds(server: ScriptedServer, run: Run) -> None:
    def slow(request: Any, context: grpc.ServicerContext) -> Any:
        over = threading.Event()
        context.add_callback(over.set)
        yield generation(request)[0]
        over.wait(30)

    server.scripts["Generate"] = slow
    assert document(run("generate", "a bag", "--timeout", "0.3", "--json"), 5)["error"]["code"] == "DEADLINE_EXCEEDED"


def test_a_full_disk_leaves_no_half_picture(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("out.png").write_bytes(b"earlier")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20, limits[1]))
    try:
        code, out, err = run("generate", "a bag", "-o", "out.png")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert (code, out, err.count("\n")) == (1, "", 1)
    assert Path("out.png").read_bytes() == b"earlier"
    assert os.listdir() == ["out.png"]


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
    assert "starter  1        READY  cpu     -      1024 MiB" in text
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


def test_options_before_and_after_the_command(
    server: ScriptedServer, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.scripts["Health"] = lambda request, context: scripted.health()
    Path("token").write_text("from-file\n")
    monkeypatch.setenv("ATELIER_SERVER", "127.0.0.1:1")
    document(run("--server", server.target, "--json", "health"))
    document(run("health", "--json", "--server", server.target, "--token-file", "token"))
    monkeypatch.setenv("ATELIER_TOKEN", "from-environment")
    document(run("--server", server.target, "health", "--json"))
    document(run("--server", server.target, "--token-file", "token", "health", "--json"))
    sent = [headers.get("authorization") for headers in server.headers]
    assert sent == [None, "Bearer from-file", "Bearer from-environment", "Bearer from-file"]


def test_the_process_exits_with_the_code_and_prints_one_line(server: ScriptedServer, tmp_path: Path) -> None:
    server.stop()
    command = [sys.executable, "-m", "atelier_client", "--server", server.target, "generate", "a bag", "--json"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (3, "")
    assert json.loads(done.stdout)["error"]["code"] == "UNAVAILABLE"


def test_a_reader_who_leaves_is_no_error(server: ScriptedServer, tmp_path: Path) -> None:
    server.scripts["Health"] = lambda request, context: scripted.health()
    command = [sys.executable, "-m", "atelier_client", "--server", server.target, "health"]
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, check=False)
    os.close(writer)
    assert (done.returncode, done.stderr) == (1, b"")


def test_help_needs_no_server(capsys: pytest.CaptureFixture[str]) -> None:
    for words in ([], ["generate"], ["score"], ["brand", "create"], ["models", "load"]):
        with pytest.raises(SystemExit) as left:
            main([*words, "--help"])
        assert left.value.code == 0
        assert "usage: atelier" in capsys.readouterr().out


def test_ctrl_c_gives_up_and_cancels(server: ScriptedServer, tmp_path: Path) -> None:
    cancelled = threading.Event()

    def slow(request: GenerateRequest, context: grpc.ServicerContext) -> Iterator[GenerateResponse]:
        context.add_callback(cancelled.set)
        yield generation(request)[0]
        os.kill(process.pid, signal.SIGINT)
        cancelled.wait(30)

    server.scripts["Generate"] = slow
    command = [sys.executable, "-m", "atelier_client", "--server", server.target, "generate", "a bag"]
    with subprocess.Popen(
        command,
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        out, err = process.communicate(timeout=60)
    assert (process.returncode, out, err.count("\n")) == (5, "", 1), err
    assert cancelled.wait(10)
