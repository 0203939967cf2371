"""The engine inside a Python program, on the starter."""

import io
import os
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from PIL import Image

from atelier_server import (
    AspectRatio,
    ImageGenerationEngine,
    ImageGenerationRequest,
    ImageModel,
    ImageQuality,
    ImageStyle,
)
from atelier_server.errors import FailedPrecondition, InvalidArgument, ResourceExhausted, Unavailable
from atelier_server.testing import write_echo_model
from atelier_server.testing.openai_server import OpenAIServer, refusal

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
async def engine(starter_repository: Path, tmp_path: Path) -> AsyncIterator[ImageGenerationEngine]:
    async with ImageGenerationEngine(device="cpu", model_repository=starter_repository, state_dir=tmp_path) as engine:
        yield engine


def request(prompt: str, seed: int, **more: object) -> ImageGenerationRequest:
    quality = ImageQuality.STANDARD
    return ImageGenerationRequest(prompt, seed=seed, num_inference_steps=3, quality=quality, **more)  # type: ignore[arg-type]


@pytest.mark.skipif(Path("/dev/nvidiactl").exists(), reason="this machine has a GPU")
def test_the_usage_example_runs_as_it_stands(starter_repository: Path, tmp_path: Path) -> None:
    environment = {
        key: value for key, value in os.environ.items() if not key.startswith(("OPENAI_", "ATELIER_", "COVERAGE_"))
    }
    (tmp_path / "tmp").mkdir()
    run = subprocess.run(
        [sys.executable, "-W", "default", ROOT / "docs" / "examples" / "engine.py"],
        cwd=tmp_path,
        env=environment | {"ATELIER_MODEL_REPOSITORY": str(starter_repository), "TMPDIR": str(tmp_path / "tmp")},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    assert "there is no GPU for device='cuda'" in run.stderr
    assert "Model: starter" in run.stdout
    assert "Total generations: 1" in run.stdout
    assert "Success rate: 1.0" in run.stdout
    with Image.open(tmp_path / "output.png") as image:
        assert image.size == (1024, 1024)
    assert not list((tmp_path / "tmp").glob("atelier-*")), (
        "the example does not close its engine; nothing may stay behind"
    )


async def test_a_picture_comes_with_everything_the_result_promises(engine: ImageGenerationEngine) -> None:
    result = await engine.generate_image(
        request("a red vase", 7, aspect_ratio=AspectRatio.LANDSCAPE, style=ImageStyle.BOLD, metadata={"mine": 1})
    )
    assert result.dimensions == (672, 384)
    assert result.to_pil().size == (672, 384)
    assert result.seed_used == 7
    assert result.model_used == "starter"
    assert result.prompt_used.startswith("a red vase, ")
    assert result.negative_prompt_used
    assert result.metadata["mine"] == 1
    assert result.metadata["brand_reference_missing"] is True
    assert result.image_data is not None
    with Image.open(io.BytesIO(result.image_data)) as image:
        assert image.format == "PNG"
    health = await engine.get_health()
    assert health["status"] == "healthy"
    assert health["initialized"] is True
    assert health["device"] == "cpu"
    assert health["total_generations"] == 1
    assert health["models_available"]["dalle_3"] is False


async def test_a_batch_comes_in_order(engine: ImageGenerationEngine) -> None:
    requests = [request("a red vase", seed) for seed in (1, 2, 3)]
    results = await engine.generate_batch(requests)
    assert [result.seed_used for result in results] == [1, 2, 3]
    assert len({result.image_base64 for result in results}) == 3
    metrics = engine.get_metrics()
    assert metrics["total_generations"] == 3
    assert metrics["generations_by_model"] == {"starter": 3}
    assert metrics["failed_generations"] == 0


async def test_errors_are_told(engine: ImageGenerationEngine) -> None:
    with pytest.raises(InvalidArgument, match="prompt is empty"):
        await engine.generate_image(request("", 1))
    with pytest.raises(InvalidArgument):
        await engine.generate_batch([request("a red vase", 1), request("", 1)])
    with pytest.raises(FailedPrecondition, match="fetch"):
        await engine.generate_image(request("x", 1, model=ImageModel.STABLE_DIFFUSION_XL))


async def test_a_key_that_is_refused_makes_the_model_unavailable_and_the_picture_comes_from_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_echo_model(tmp_path / "models")
    shutil.copytree(ROOT / "models" / "openai_images", tmp_path / "models" / "openai_images")
    async with OpenAIServer() as service:
        monkeypatch.setenv("OPENAI_BASE_URL", service.base_url)
        service.script(refusal(401, "invalid_api_key"))
        options = {"model_repository": tmp_path / "models", "state_dir": tmp_path / "state"}
        async with ImageGenerationEngine("sk-refused", "cpu", **options) as engine:
            assert (await engine.get_health())["models_available"]["dalle_3"] is True
            poster = ImageGenerationRequest("A poster with the words 'GRAND OPENING' in large letters")
            result = await engine.generate_image(poster)
            assert result.model_used == "echo"
            assert len(service.requests) == 1
            assert (await engine.get_health())["models_available"]["dalle_3"] is False
            await engine.generate_image(poster)
            assert len(service.requests) == 1
            poster.model = ImageModel.DALL_E_3
            with pytest.raises(Unavailable, match="refuses the server's key"):
                await engine.generate_image(poster)


async def test_auto_takes_a_local_model_when_the_service_did_not_do_it_and_only_then(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_echo_model(tmp_path / "models")
    shutil.copytree(ROOT / "models" / "openai_images", tmp_path / "models" / "openai_images")
    poster = ImageGenerationRequest("A poster with the words 'GRAND OPENING' in large letters")
    async with OpenAIServer() as service:
        monkeypatch.setenv("OPENAI_BASE_URL", service.base_url)
        options = {"model_repository": tmp_path / "models", "state_dir": tmp_path / "state"}
        async with ImageGenerationEngine("sk-spent", "cpu", **options) as engine:
            service.script(refusal(429, "insufficient_quota"))
            assert (await engine.generate_image(poster)).model_used == "echo"
            assert (await engine.generate_image(poster)).model_used != "echo"  # nothing was kept in its name
            service.script(refusal(400, "moderation_blocked"))
            poster.prompt += ", again"
            with pytest.raises(InvalidArgument, match="content rules"):
                await engine.generate_image(poster)
            service.script(refusal(429, "insufficient_quota"))
            poster.model = ImageModel.DALL_E_3
            with pytest.raises(ResourceExhausted, match="no credit"):
                await engine.generate_image(poster)
            assert len(service.requests) == 4


async def test_without_a_local_model_the_services_own_refusal_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(ROOT / "models" / "openai_images", tmp_path / "models" / "openai_images")
    async with OpenAIServer() as service:
        monkeypatch.setenv("OPENAI_BASE_URL", service.base_url)
        service.script(refusal(429, "insufficient_quota"))
        options = {"model_repository": tmp_path / "models", "state_dir": tmp_path / "state"}
        async with ImageGenerationEngine("sk-spent", "cpu", **options) as engine:
            with pytest.raises(ResourceExhausted, match="no credit"):
                await engine.generate_image(ImageGenerationRequest("A poster with the words 'SALE'"))


async def test_an_engine_that_was_not_initialized_says_so() -> None:
    engine = ImageGenerationEngine(device="cpu")
    with pytest.raises(FailedPrecondition, match="initialize"):
        await engine.generate_image(ImageGenerationRequest("x"))
    with pytest.raises(FailedPrecondition, match="initialize"):
        engine.get_metrics()


def test_importing_the_names_loads_no_torch() -> None:
    code = "import sys; from atelier_server import ImageGenerationEngine; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_importing_the_package_loads_nothing_large() -> None:
    code = "import sys, atelier_server; sys.exit(bool({'torch', 'grpc', 'pydantic', 'PIL'} & sys.modules.keys()))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
