"""What must be known of a brand embedder to use it: its pixel format, the space of its vectors, and strangers.

The pixel format stands in config.pbtxt: parameters image_size, image_mean and image_std (three numbers each; without
them CLIP's). `impostors.npz` beside the model, where it is, holds embeddings of pictures of many other brands.
"""

import hashlib
import logging
from collections.abc import Mapping
from dataclasses import astuple, dataclass
from pathlib import Path
from zipfile import BadZipFile

import numpy as np

from atelier_server.brand.records import Space, Vectors
from atelier_server.errors import FailedPrecondition
from atelier_server.scoring.clip import normalised
from atelier_server.scoring.preprocess import CROPS_VERSION

IMPOSTORS_FILE = "impostors.npz"
_CLIP_MEAN = "0.48145466 0.4578275 0.40821073"
_CLIP_STD = "0.26862954 0.26130258 0.27577711"

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Preprocessing:
    """See scoring.preprocess.PixelFormat."""

    image_size: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]


def preprocessing_of(name: str, parameters: Mapping[str, str]) -> Preprocessing:
    """Reads the parameters of a model's config.pbtxt.

    Raises:
        FailedPrecondition: One of them is wrong.
    """
    try:
        side = int(parameters.get("image_size", "224"))
        mean, std = (_triple(parameters.get(key, usual)) for key, usual in _USUAL.items())
    except ValueError:
        raise FailedPrecondition(
            f"{name}/config.pbtxt: image_size is a number of pixels, image_mean and image_std are three numbers each",
            reason="BAD_PREPROCESSING",
        ) from None
    return Preprocessing(side, mean, std)


def space_of(name: str, version: str, folder: Path, preprocessing: Preprocessing) -> Space:
    """The space of a model version. Reads all its weights, so that copies elsewhere have the same space."""
    digest = hashlib.sha256(repr((CROPS_VERSION, astuple(preprocessing))).encode())
    for path in sorted(folder.glob("*.onnx*")):
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return Space(name, version, digest.hexdigest())


def save_impostors(folder: Path, vectors: Vectors, space: Space) -> None:
    """Writes embeddings [pictures, width] of other brands' pictures beside the model that made them."""
    np.savez_compressed(folder / IMPOSTORS_FILE, vectors=normalised(vectors).astype(np.float16), space=space.digest)


def load_impostors(folder: Path, space: Space) -> Vectors | None:
    """Embeddings [pictures, width] of other brands' pictures, of length 1; None where there is no such file.

    One that was made in another space, such as by earlier weights, is left out with a warning.

    Raises:
        FailedPrecondition: The file is wrong.
    """
    path = folder / IMPOSTORS_FILE
    if not path.is_file():
        return None
    try:
        with np.load(path, allow_pickle=False) as file:
            vectors, digest = file["vectors"], str(file["space"])
        if vectors.ndim != 2 or not len(vectors) or not np.isfinite(vectors).all():
            raise ValueError("it holds no rows of numbers")
    except (OSError, ValueError, TypeError, KeyError, BadZipFile) as error:
        raise FailedPrecondition(
            f"{folder.parent.name}/{folder.name}/{IMPOSTORS_FILE} cannot be used: {error}", reason="BAD_IMPOSTORS"
        ) from None
    if digest != space.digest:
        logger.warning("%s of %s was made by other weights; make it anew", IMPOSTORS_FILE, space.model)
        return None
    return normalised(vectors.astype(np.float32))


_USUAL = {"image_mean": _CLIP_MEAN, "image_std": _CLIP_STD}


def _triple(text: str) -> tuple[float, float, float]:
    red, green, blue = (float(value) for value in text.split())
    return red, green, blue
