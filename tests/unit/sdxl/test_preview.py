"""Previews: preview.json, SDXL's own matrix, and broken files."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from atelier_server.backends.sdxl.preview import Previewer


def test_the_matrix_of_the_folder(tmp_path: Path) -> None:
    matrix = np.zeros((16, 3))
    matrix[2] = (1.0, 0.5, 0.0)
    (tmp_path / "preview.json").write_text(json.dumps({"matrix": matrix.tolist(), "bias": [0.0, 0.25, 1.5]}))
    latents = torch.zeros(1, 16, 2, 3)
    latents[0, 2, 1, 0] = 1.0
    picture = Previewer(tmp_path, 16).picture(latents)
    assert picture is not None
    assert picture.shape == (2, 3, 3)
    assert picture[0, 0].tolist() == [0, 64, 255]
    assert picture[1, 0].tolist() == [255, 191, 255]


def test_sdxl_needs_no_file(tmp_path: Path) -> None:
    picture = Previewer(tmp_path, 4).picture(torch.zeros(1, 4, 2, 2))
    assert picture is not None
    assert picture[0, 0].tolist() == [128, 128, 128]
    assert Previewer(tmp_path, 16).picture(torch.zeros(1, 16, 2, 2)) is None


@pytest.mark.parametrize("text", ["{", "[]", '{"matrix": [[1, 2, 3]], "bias": [0, 0, 0]}', '{"bias": [0, 0, 0]}'])
def test_a_broken_file_costs_the_previews_only(tmp_path: Path, text: str, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "preview.json").write_text(text)
    assert Previewer(tmp_path, 4).picture(torch.zeros(1, 4, 2, 2)) is None
    assert "no previews" in caplog.text
