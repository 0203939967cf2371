"""`atelier generate`: what it asks for, prints and writes."""

import os
import resource
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from atelier.v1.image_generation_pb2 import GenerateRequest, GuidanceInterval
from tests.client import scripted
from tests.client.cli_kit import Run, document
from tests.client.scripted import GenerateResponse, ScriptedServer, generation, paid_generation, png

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
