"""Client and command against Atelier's own server with the echo backend."""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import atelier_client as api
from atelier_client.cli import main
from atelier_server.testing import echo_server_in_thread, write_echo_model
from tests.client.cutter import Cutter

SMALL = {"width": 64, "height": 64, "num_inference_steps": 4}


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("server")
    write_echo_model(folder / "models", "echo")
    write_echo_model(folder / "models", "slow", step_seconds=0.05)
    with echo_server_in_thread(folder) as running:
        yield running


@pytest.fixture
def atelier(address: str) -> Iterator[api.Atelier]:
    with api.Atelier(address) as client:
        yield client


def test_pictures_are_those_of_their_seeds(atelier: api.Atelier) -> None:
    both = atelier.generate("a bag", seed=5, num_images=2, model_name="echo", metadata={"order": "7"}, **SMALL)
    second = atelier.generate("a bag", seed=6, model_name="echo", **SMALL)
    assert [image.seed for image in both.images] == [5, 6]
    assert both.images[1].data == second.images[0].data
    assert both.images[0].data != both.images[1].data
    assert both.images[0].to_pil().size == (64, 64)
    assert (both.model_used, both.metadata, both.attempts) == ("echo", {"order": "7"}, 1)
    assert both.brand_reference_missing
    assert both.timestamp is not None


def test_every_step_is_heard_of_with_its_preview(atelier: api.Atelier) -> None:
    steps: list[api.Progress] = []
    preview = api.PreviewOptions(every_n_steps=2, max_side=32, format="png")
    atelier.generate("a bag", preview=preview, on_progress=steps.append, model_name="echo", **SMALL)
    assert [progress.step for progress in steps] == [1, 2, 3, 4]
    previews = [progress.preview for progress in steps if progress.preview is not None]
    assert previews
    assert {(found.media_type, found.dimensions.width) for found in previews} == {("image/png", 32)}


async def test_async(address: str) -> None:
    async with api.AsyncAtelier(address) as atelier:
        result = await atelier.generate("a bag", seed=5, model_name="echo", **SMALL)
        events = [event async for event in atelier.generate_events("a bag", seed=5, model_name="echo", **SMALL)]
        assert (await atelier.health()).initialized
    assert isinstance(events[0], api.Queued)
    assert isinstance(events[-1], api.Completed)
    assert b"".join(event.data for event in events if isinstance(event, api.ImageChunk)) == result.images[0].data


def test_leaving_the_loop_frees_the_model(atelier: api.Atelier) -> None:
    for event in atelier.generate_events("a bag", model_name="slow", width=64, height=64, num_inference_steps=150):
        if isinstance(event, api.Progress):
            break
    deadline = time.monotonic() + 5.0  # the whole generation would take 7.5 s
    while any(instance.running for instance in atelier.health().instances if instance.model == "slow"):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_refusals_name_their_fields(atelier: api.Atelier) -> None:
    with pytest.raises(api.NotFound, match="nix") as missing:
        atelier.generate("a bag", model_name="nix")
    assert missing.value.field == "model_name"
    with pytest.raises(api.InvalidArgument) as wrong:
        atelier.generate("a bag", num_images=11)
    assert wrong.value.field == "num_images"
    with pytest.raises(api.DeadlineExceeded):
        atelier.generate("a bag", model_name="slow", num_inference_steps=150, timeout=0.5)


def test_the_server_tells_about_itself(atelier: api.Atelier) -> None:
    atelier.generate("a bag", model_name="echo", **SMALL)
    health, metrics = atelier.health(), atelier.metrics()
    assert (health.status, health.models_available.stable_diffusion_xl) == ("healthy", True)
    assert {instance.model: instance.state for instance in health.instances} == {"echo": "READY", "slow": "READY"}
    assert metrics.total_generations == health.total_generations > 0
    assert metrics.generations_by_model["echo"] > 0
    assert [model.name for model in atelier.models.list()] == ["echo", "slow"]


def test_the_command(
    address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ATELIER_SERVER", address)
    assert (
        main(["generate", "a bag", "--size", "96x64", "--steps", "3", "--previews", "p", "-o", "a.webp", "--json"]) == 0
    )
    (image,) = json.loads(capsys.readouterr().out)["images"]
    assert (image["path"], image["width"], image["height"], image["media_type"]) == ("a.webp", 96, 64, "image/webp")
    assert Path("a.webp").read_bytes()[8:12] == b"WEBP"
    assert len(list(Path("p").iterdir())) == 3
    assert main(["generate", "a bag", "-n", "11"]) == 2
    assert main(["generate", "a bag", "--model", "nix"]) == 1
    assert "model_name" in capsys.readouterr().err
    assert main(["health"]) == 0
    assert "healthy" in capsys.readouterr().out


@pytest.mark.parametrize("on_disconnect", ["cancel", "continue"])
def test_a_cut_connection_costs_no_picture(address: str, on_disconnect: Any) -> None:
    """Under the same request_id the picture comes after all; kept work is not even computed twice."""
    cutter = Cutter(address)
    seeds: list[tuple[int, ...]] = []

    def on_event(event: api.Event) -> None:
        if isinstance(event, api.Started):
            seeds.append(event.seeds)
        if isinstance(event, api.Progress) and event.step == 3 and len(seeds) == 1:
            cutter.cut()

    with api.Atelier(cutter.address) as atelier:
        size = {"width": 64, "height": 64, "num_inference_steps": 20}
        result = atelier.generate("a bag", model_name="slow", on_disconnect=on_disconnect, on_event=on_event, **size)
    cutter.close()
    assert len(seeds) == 2
    if on_disconnect == "continue":
        assert seeds[0] == seeds[1]
    assert result.images[0].to_pil().size == (64, 64)
