"""Loads the parts of a diffusers-layout SDXL folder: safetensors only, from disk only."""

import json
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from diffusers.utils import logging as diffusers_logging
from safetensors import SafetensorError, safe_open
from transformers import CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer
from transformers.utils import logging as transformers_logging

from atelier_server.backends.sdxl.memory import is_shortage
from atelier_server.errors import AtelierError, Unavailable

_LOG = logging.getLogger(__name__)
_WEIGHTS = {
    "unet": "diffusion_pytorch_model",
    "vae": "diffusion_pytorch_model",
    "text_encoder": "model",
    "text_encoder_2": "model",
}
_CONFIGS = (
    "model_index.json",
    "scheduler/scheduler_config.json",
    "tokenizer/tokenizer_config.json",
    "tokenizer_2/tokenizer_config.json",
    *(f"{part}/config.json" for part in _WEIGHTS),
)


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The parts of a pipeline. Models are in eval mode on their device; their libraries carry no types.

    `unet` is on the meta device, which holds no weights, where it was not wanted.
    """

    unet: Any
    vae: Any
    text_encoders: tuple[Any, Any]
    tokenizers: tuple[Any, Any]
    scheduler_config: dict[str, Any]
    force_zeros_for_empty_prompt: bool


def load_checkpoint(
    folder: Path, name: str, device: torch.device, dtype: torch.dtype, with_unet: bool = True
) -> Checkpoint:
    """Loads a checkpoint.

    Args:
        folder: Holds model_index.json.
        name: Of the model, for messages.
        device: Where the models go.
        dtype: Of all models; the VAE stays in float32 where its configuration says that it overflows in float16.
        with_unet: Whether the UNet's weights are loaded.

    Raises:
        Unavailable: A file is missing, truncated, pickled or does not fit its configuration.
    """
    variants = {part: check_weights(folder, part, name) for part in _WEIGHTS}
    for path in _CONFIGS:
        if not (folder / path).is_file():
            raise _broken(name, folder / path, "is missing")
    diffusers_logging.set_verbosity_error()
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    diffusers_logging.disable_progress_bar()
    index = _read_json(folder / "model_index.json", name)
    if not str(index.get("_class_name", "")).startswith("StableDiffusionXL"):
        raise _broken(name, folder / "model_index.json", "does not describe a Stable Diffusion XL pipeline")
    vae_config = _read_json(folder / "vae/config.json", name)
    overflows = dtype is torch.float16 and bool(vae_config.get("force_upcast", True))

    def model(part: str, kind: Any, dtype_keyword: str, part_dtype: torch.dtype = dtype) -> Any:
        options = {"variant": variants[part], "use_safetensors": True, "local_files_only": True}
        try:
            loaded = kind.from_pretrained(folder / part, **options, **{dtype_keyword: part_dtype})
        except (OSError, ValueError, RuntimeError, KeyError, TypeError, SafetensorError) as error:
            if is_shortage(error):
                raise
            _LOG.exception("loading %s of %s", part, name)
            raise _broken(name, folder / part, f"cannot be loaded ({type(error).__name__})") from error
        return loaded.to(device=device).eval().requires_grad_(False)

    return Checkpoint(
        unet=model("unet", UNet2DConditionModel, "torch_dtype") if with_unet else _skeleton(folder / "unet", name),
        vae=model("vae", AutoencoderKL, "torch_dtype", torch.float32 if overflows else dtype),
        text_encoders=(
            model("text_encoder", CLIPTextModel, "dtype"),
            model("text_encoder_2", CLIPTextModelWithProjection, "dtype"),
        ),
        tokenizers=(_tokenizer(folder / "tokenizer", name), _tokenizer(folder / "tokenizer_2", name)),
        scheduler_config=_read_json(folder / "scheduler/scheduler_config.json", name),
        force_zeros_for_empty_prompt=bool(index.get("force_zeros_for_empty_prompt", True)),
    )


def _skeleton(folder: Path, name: str) -> Any:
    """A UNet without weights, for its configuration with all defaults."""
    with torch.device("meta"):
        return UNet2DConditionModel.from_config(_read_json(folder / "config.json", name))


def check_weights(folder: Path, part: str, name: str) -> str | None:
    """Finds the weights of a part and reads their headers, which tell a truncated file from a whole one.

    Returns:
        The variant to load: fp16 files are preferred, being half as large; None for plain ones.

    Raises:
        Unavailable: They are missing, only there as pickles, or damaged.
    """
    stem = _WEIGHTS[part]
    for variant in ("fp16", None):
        files = _weight_files(folder / part, f"{stem}.{variant}" if variant else stem, stem, name)
        for path in files:
            _check_header(path, name)
        if files:
            return variant
    pickles = sorted(path for ending in ("*.bin", "*.ckpt", "*.pt") for path in (folder / part).glob(ending))
    if pickles:
        raise _broken(
            name,
            pickles[0],
            "is a pickle, which can run code when it is read, and there is no safetensors file beside it",
            "convert it to safetensors",
        )
    raise _broken(name, folder / part / f"{stem}.safetensors", "is missing")


def _weight_files(folder: Path, stem: str, plain: str, name: str) -> list[Path]:
    """The files of one variant: a single one, or all that its index names."""
    single = folder / f"{stem}.safetensors"
    if single.is_file():
        return [single]
    for index in (
        folder / f"{stem}.safetensors.index.json",
        folder / f"{plain}.safetensors.index{stem[len(plain) :]}.json",
    ):
        if index.is_file():
            return [folder / file for file in sorted(set(_read_json(index, name).get("weight_map", {}).values()))]
    return []


def _check_header(path: Path, name: str) -> None:
    try:
        with safe_open(path, framework="pt"):
            pass
    except FileNotFoundError as error:
        raise _broken(name, path, "is missing") from error
    except (SafetensorError, OSError) as error:
        raise _broken(name, path, "is truncated or damaged") from error


def _tokenizer(folder: Path, name: str) -> Any:
    try:
        return CLIPTokenizer.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError, TypeError, KeyError) as error:
        _LOG.exception("loading %s of %s", folder.name, name)
        raise _broken(name, folder, f"cannot be loaded ({type(error).__name__})") from error


def _read_json(path: Path, name: str) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise _broken(name, path, "is no readable JSON") from error
    if not isinstance(value, dict):
        raise _broken(name, path, "is no JSON object")
    return value


def _broken(name: str, path: Path, what: str, remedy: str = "") -> AtelierError:
    fetch = f"fetch the model again with `atelier-server models fetch {name}`"
    return Unavailable(
        f"The model {name} cannot be loaded: {path} {what}; {remedy + ' or ' if remedy else ''}{fetch}.",
        reason="CHECKPOINT_BROKEN",
        metadata={"file": str(path)},
    )
