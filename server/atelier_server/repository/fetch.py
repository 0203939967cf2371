"""Gets a model's weights from the Hugging Face Hub: a pinned revision, safetensors, JSON and text only."""

import importlib
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from atelier_server.errors import FailedPrecondition
from atelier_server.repository.hub import download
from atelier_server.repository.repository import ModelEntry, required_files

_SDXL_PARTS = ("text_encoder", "text_encoder_2", "unet", "vae")
_TOKENIZERS = ("tokenizer", "tokenizer_2")
_CHECKPOINT = ("config.json", "preprocessor_config.json", "model.safetensors")
_EXPORTED = {"clip": (*_CHECKPOINT, "tokenizer.json"), "dinov2": _CHECKPOINT}
"""Files to download of checkpoints that become ONNX graphs, by the parameter source_kind."""


def fetch(entry: ModelEntry, again: bool = False, tell: Callable[[str], None] = print) -> Path:
    """Downloads a model's weights into its version folder 1. An interrupted download goes on where it stopped.

    Args:
        entry: The model.
        again: Replace what is there, such as a damaged file; otherwise a complete folder is left as it is.
        tell: Is given sentences about what was done.

    Returns:
        The folder of the version.

    Raises:
        FailedPrecondition: There is nothing to download, or this release cannot; the message says what to do.
        Unavailable: The Hub cannot be reached, or a file came damaged.
    """
    folder = entry.folder / "1"
    parameters = entry.parameters
    if not entry.problem and not again:
        return entry.folder / str(entry.chosen[-1])
    if entry.config is None or "source_repo" not in parameters:
        raise FailedPrecondition(f"{entry.name} has no source_repo in its config.pbtxt, so it cannot be fetched")
    kind = parameters.get("source_kind", "")
    if entry.backend != "sdxl" and (entry.backend != "onnx" or kind not in _EXPORTED):
        raise FailedPrecondition(
            f"{entry.name} is no model that this release can fetch; put {', '.join(required_files(entry.config))} "
            f"into {folder}"
        )
    if folder.is_dir() and any(folder.iterdir()) and not again:
        lack = entry.problem.split(";")[0]
        raise FailedPrecondition(f"{folder} is not empty, but incomplete: {lack}; say --again to replace it")
    staging = entry.folder / ".fetch"
    made = _fetch_sdxl(entry, staging) if entry.backend == "sdxl" else _fetch_onnx(entry, kind, staging, tell)
    replaced = entry.folder / ".replaced"
    shutil.rmtree(replaced, ignore_errors=True)  # left by an earlier attempt that was cut short
    if folder.exists():
        folder.replace(replaced)
    made.replace(folder)
    shutil.rmtree(replaced, ignore_errors=True)
    shutil.rmtree(staging, ignore_errors=True)
    return folder


def _fetch_sdxl(entry: ModelEntry, staging: Path) -> Path:
    parameters = entry.parameters
    variant = parameters.get("source_variant", "")
    ignored = () if variant else ("*.fp16.safetensors",)
    download(parameters["source_repo"], parameters["source_revision"], staging, _patterns(variant), ignored)
    _drop_variant(staging, variant)
    return staging


def _fetch_onnx(entry: ModelEntry, kind: str, staging: Path, tell: Callable[[str], None]) -> Path:
    """Downloads a checkpoint and makes its graphs; the download stays until they are right."""
    parameters = entry.parameters
    try:
        exporter: Any = importlib.import_module("atelier_server.backends.onnx.export")
    except ModuleNotFoundError as error:
        raise FailedPrecondition(
            f"{entry.name} is made by exporting a checkpoint, which needs the Python package {error.name}: "
            "pip install 'atelier-server[export]'"
        ) from error
    download(parameters["source_repo"], parameters["source_revision"], staging, _EXPORTED[kind])
    made = staging / ".made"
    shutil.rmtree(made, ignore_errors=True)
    made.mkdir()
    for file, difference in exporter.EXPORTS[kind](staging, made, parameters).items():
        tell(f"{file}: max abs difference to torch {difference:.2g}")
    return made


def _patterns(variant: str) -> list[str]:
    """The files of the diffusers layout: configurations, tokenizers, and the weights in one number format.

    Nothing that runs code when it is loaded (pickles, Python) matches.
    """
    weights = f"*.{variant}.safetensors" if variant else "*.safetensors"
    tokenizers = [f"{part}/*.{suffix}" for part in _TOKENIZERS for suffix in ("json", "txt")]
    parts = [f"{part}/{file}" for part in _SDXL_PARTS for file in ("config.json", weights)]
    return ["model_index.json", "scheduler/*.json", *tokenizers, *parts]


def _drop_variant(folder: Path, variant: str) -> None:
    """Gives the weights the names that every loader of the layout looks for first."""
    if variant:
        for file in list(folder.rglob(f"*.{variant}.safetensors")):
            file.rename(file.with_name(file.name.replace(f".{variant}.", ".")))
