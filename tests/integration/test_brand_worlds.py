"""The shipped scoring models on brand worlds that training never saw, through the client and its command."""

import importlib
import io
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from atelier_client import Atelier
from atelier_client.cli import main
from atelier_server.testing import echo_server_in_thread

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "training"))
art: Any = importlib.import_module("pictures")

MODELS = ROOT / "models"
FIRST_SEED = 70_000_000 + 200_000
"""Training uses worlds below 70,100,000."""
WORLDS, REFERENCES, ASKED = 7, 8, 4

needs_weights = pytest.mark.skipif(
    not (MODELS / "starter_brand" / "1" / "model.onnx").is_file()
    or not (MODELS / "starter_clip" / "1" / "vision.onnx").is_file(),
    reason="the starter's scoring models are not trained yet",
)
pytestmark = needs_weights


def world(number: int) -> list[bytes]:
    rng = np.random.default_rng(FIRST_SEED + number)
    chosen = art.sample_world(rng)
    scenes = [art.sample_scene_in_world(chosen, rng) for _ in range(REFERENCES + ASKED)]
    return [png(pixels) for pixels in art.render_batch(scenes, 128)]


def png(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture(scope="module")
def worlds() -> list[list[bytes]]:
    return [world(number) for number in range(WORLDS)]


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("server")
    models = ("starter_clip", "starter_brand")
    with echo_server_in_thread(folder, model_repository=MODELS, load_model=models) as running:
        yield running


def auc(genuine: list[float], others: list[float]) -> float:
    pairs = [(a > b) + 0.5 * (a == b) for a in genuine for b in others]
    return sum(pairs) / len(pairs)


def test_held_out_worlds_are_told_apart(address: str, worlds: list[list[bytes]]) -> None:
    asked = [picture for pictures in worlds for picture in pictures[REFERENCES:]]
    genuine: dict[str, list[float]] = {"score": [], "probability": [], "palette": []}
    others: dict[str, list[float]] = {"score": [], "probability": [], "palette": []}
    with Atelier(address) as atelier:
        for number, pictures in enumerate(worlds):
            brand_id = f"world-{number}"
            atelier.brands.create(brand_id)
            added = atelier.brands.add(brand_id, pictures[:REFERENCES])
            assert (added.brand.reference_count, added.brand.pending_embeddings) == (REFERENCES, 0)
            for index, scores in enumerate(atelier.score_all(asked, brand_id=brand_id)):
                assert scores.brand_consistency_score is not None
                assert scores.on_brand_probability is not None
                assert scores.palette_distance is not None
                chosen = genuine if index // ASKED == number else others
                chosen["score"].append(scores.brand_consistency_score)
                chosen["probability"].append(scores.on_brand_probability)
                chosen["palette"].append(-scores.palette_distance)
    found = {name: auc(genuine[name], others[name]) for name in genuine}
    passed = [np.mean([score >= 0.85 for score in side["score"]]) for side in (genuine, others)]
    print(
        f"{WORLDS} held-out worlds, {REFERENCES} references each: AUC of the brand score {found['score']:.3f}, of the "
        f"probability {found['probability']:.3f}, of the palette {found['palette']:.3f}; at 0.85 pass {passed[0]:.0%} "
        f"of a brand's own pictures and {passed[1]:.0%} of the others"
    )
    assert found["score"] >= 0.95
    assert found["probability"] >= 0.95
    assert found["palette"] >= 0.7


def test_the_command_tells_on_brand_from_off_brand(
    address: str, worlds: list[list[bytes]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number, picture in enumerate(worlds[0][:REFERENCES]):
        (tmp_path / f"ref{number}.png").write_bytes(picture)
    on, off = tmp_path / "on.png", tmp_path / "off.png"
    on.write_bytes(worlds[0][REFERENCES])
    off.write_bytes(worlds[1][REFERENCES])
    references = [str(path) for path in sorted(tmp_path.glob("ref*.png"))]
    assert main(["--server", address, "brand", "create", "maison", *references, "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)["added_reference_ids"]) == REFERENCES
    assert main(["--server", address, "score", str(on), str(off), "--brand", "maison", "--json"]) == 0
    found_on, found_off = json.loads(capsys.readouterr().out)["images"]
    print(f"on: {found_on}\noff: {found_off}")
    assert found_on["brand_consistency_score"] > 0.85 > found_off["brand_consistency_score"]
    assert found_on["on_brand_probability"] > 0.5 > found_off["on_brand_probability"]
    assert found_on["palette_distance"] < found_off["palette_distance"]
    assert found_on["sub_scores"].keys() >= {"sharpness", "lighting"}
    capsys.readouterr()
    assert main(["--server", address, "score", str(on), "--brand", "maison"]) == 0
    assert "on brand" in capsys.readouterr().out
    assert main(["--server", address, "brand", "delete", "maison", "--json"]) == 0
    capsys.readouterr()
    assert main(["--server", address, "score", str(on), "--brand", "maison", "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["error"]["field"] == "brand_id"
