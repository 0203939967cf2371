"""What a picture and a text become before a CLIP, and what its embeddings say."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from atelier_server.errors import Unavailable
from atelier_server.scoring.calibration import AntonymPair, Calibration, load_calibration
from atelier_server.scoring.clip import aesthetics, alignment, mean_embedding, normalised
from atelier_server.scoring.preprocess import pixel_values

PAIRS = (
    AntonymPair("sharpness", "sharp", "blurry", scale=10.0, bias=0.0, weight=0.75),
    AntonymPair("light", "well lit", "dark", scale=10.0, bias=1.0, weight=0.25),
)
FIT = Calibration("1", 8, (0.5, 0.5, 0.5), (0.25, 0.25, 0.25), 16, 0, PAIRS, alignment_scale=4.0, alignment_bias=-2.0)


def test_the_sides_of_a_wide_picture_are_seen() -> None:
    picture = np.zeros((8, 24, 3), np.uint8)
    picture[:, :8], picture[:, 16:] = (255, 0, 0), (0, 0, 255)
    crops = pixel_values(Image.fromarray(picture), FIT)
    assert crops.shape == (3, 3, 8, 8)
    assert crops.dtype == np.float32
    assert crops[0, 0].min() > 1.5  # red on the left
    assert crops[2, 2].min() > 1.5  # blue on the right
    assert np.allclose(crops[1, :, :, 2:6], -2.0)  # black in the middle


def test_a_nearly_square_picture_is_one_crop() -> None:
    assert pixel_values(Image.new("L", (90, 100)), FIT).shape == (1, 3, 8, 8)


def test_swapping_the_texts_turns_the_score_round() -> None:
    rng = np.random.default_rng(0)
    picture = normalised(rng.normal(size=(1, 4)).astype(np.float32))
    good, bad = (normalised(rng.normal(size=(2, 4)).astype(np.float32)) for _ in range(2))
    plain = Calibration(**{name: getattr(FIT, name) for name in FIT.__slots__} | {"pairs": (PAIRS[0],)})
    score = aesthetics(picture, good[:1], bad[:1], plain).score
    assert score == pytest.approx(10.0 - aesthetics(picture, bad[:1], good[:1], plain).score, abs=1e-5)


def test_the_score_is_the_weighted_mean_of_its_parts() -> None:
    picture = np.array([[1.0, 0.0]], np.float32)
    good, bad = np.array([[1.0, 0.0]] * 2, np.float32), np.array([[0.0, 1.0]] * 2, np.float32)
    result = aesthetics(picture, good, bad, FIT)
    assert set(result.sub_scores) == {"sharpness", "light"}
    assert result.score == pytest.approx(0.75 * result.sub_scores["sharpness"] + 0.25 * result.sub_scores["light"])
    assert result.sub_scores["sharpness"] == pytest.approx(10.0 / (1.0 + np.exp(-10.0)), abs=1e-4)


def test_alignment_grows_with_the_cosine() -> None:
    picture = np.array([[1.0, 0.0]], np.float32)
    values = [alignment(picture, np.array([[x, (1 - x * x) ** 0.5]], np.float32), FIT) for x in (0.0, 0.5, 1.0)]
    assert values == sorted(values)
    assert values[1] == pytest.approx(0.5)


def test_crops_count_by_direction() -> None:
    mean = mean_embedding(np.array([[100.0, 0.0], [0.0, 1.0]], np.float32))
    assert np.allclose(mean, [[2**-0.5, 2**-0.5]])


@pytest.mark.parametrize("text", [None, "{", "{}", '{"version": "1"}', json.dumps({"pairs": [{"name": 1}]})])
def test_a_bad_calibration_file_is_told(tmp_path: Path, text: str | None) -> None:
    if text is not None:
        (tmp_path / "calibration.json").write_text(text)
    with pytest.raises(Unavailable, match=r"calibration\.json"):
        load_calibration(tmp_path)
