"""Writes impostors.npz beside starter_brand: embeddings of many worlds, which a brand's scores are set against.

    python training/impostors.py [FOLDER]

One picture of each training world. The file belongs to the weights that made it; the server checks that.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import onnxruntime as ort
from PIL import Image

from atelier_server.repository.model_config import parameters_of, read_model_config
from atelier_server.scoring.embedder import preprocessing_of, save_impostors, space_of
from atelier_server.scoring.preprocess import pixel_values
from common import MODELS

NAME = "starter_brand"


def write_impostors(folder: Path, worlds: np.ndarray) -> int:
    """Embeds the first picture of each world, uint8 [worlds, pictures, height, width, 3]; returns how many."""
    parameters = parameters_of(read_model_config(MODELS / NAME / "config.pbtxt"))
    preprocessing = preprocessing_of(NAME, parameters)
    session = ort.InferenceSession(str(folder / "model.onnx"), providers=["CPUExecutionProvider"])
    values = [pixel_values(Image.fromarray(world[0]), preprocessing) for world in worlds]
    vectors = np.concatenate([session.run(None, {"pixel_values": one})[0] for one in values])
    save_impostors(folder, vectors, space_of(NAME, folder.name, folder, preprocessing))
    return len(vectors)


def main() -> None:
    from train_brand import load_worlds

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?", default=MODELS / NAME / "1")
    folder: Path = parser.parse_args().folder
    print(f"{write_impostors(folder, load_worlds('train'))} embeddings in {folder}")


if __name__ == "__main__":
    main()
