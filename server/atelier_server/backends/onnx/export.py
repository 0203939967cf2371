"""Makes ONNX graphs of checkpoints in transformers' layout, and compares each with torch. Needs the extra `export`.

Used by `atelier-server models fetch`; a runner never imports it.
"""

import json
import shutil
import warnings
from collections.abc import Callable, Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import torch
from tokenizers import Tokenizer
from torch import nn
from transformers import CLIPModel, Dinov2Model

from atelier_server.errors import FailedPrecondition

OPSET = 18
IR_VERSION = 9
"""Older runtimes refuse what newer tools write by default."""
MOST_DIFFERENCE = 1e-3
"""Of embeddings whose lengths are about 10; graphs that are right stay below 1e-4."""
CHECKED_BATCHES = (1, 3)

Differences = dict[str, float]


class _Outputs(nn.Module):
    """A model reduced to one input and one output."""

    def __init__(self, model: nn.Module, compute: Callable[[Any, torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self.model = model
        self.compute = compute

    def forward(self, tensor: torch.Tensor) -> torch.Tensor:
        """See `compute`."""
        return self.compute(self.model, tensor)


def export_clip(source: Path, out: Path, parameters: Mapping[str, str]) -> Differences:
    """Writes vision.onnx, text.onnx, tokenizer.json and calibration.json of a CLIP.

    Args:
        source: The checkpoint's folder, in transformers' layout.
        out: An empty folder.
        parameters: Those of the model's config.pbtxt.

    Returns:
        Largest absolute difference to torch, by file.

    Raises:
        FailedPrecondition: The checkpoint cannot be read, or a graph differs from torch.
    """
    model = _loaded(CLIPModel, source)
    side, length = model.config.vision_config.image_size, model.config.text_config.max_position_embeddings
    shutil.copy(source / "tokenizer.json", out / "tokenizer.json")
    tokenizer = Tokenizer.from_file(str(out / "tokenizer.json"))
    end = tokenizer.encode("").ids[-1]
    (out / "calibration.json").write_text(json.dumps(_calibration(source, side, length, end), indent=2) + "\n")
    vision = _Outputs(model, lambda clip, x: clip.visual_projection(clip.vision_model(x).pooler_output))
    text = _Outputs(model, lambda clip, ids: clip.text_projection(clip.text_model(ids).pooler_output))
    ids = torch.full((2, length), end)
    ids[:, :2] = torch.tensor(tokenizer.encode("").ids[:2])
    return {
        "vision.onnx": _export(vision, _noise(side), ("pixel_values", "image_embeds"), out / "vision.onnx"),
        "text.onnx": _export(text, ids, ("input_ids", "text_embeds"), out / "text.onnx"),
    }


def export_dinov2(source: Path, out: Path, parameters: Mapping[str, str]) -> Differences:
    """Writes model.onnx of a DINOv2: pictures of the parameter image_size to the class token's features.

    Takes, returns and raises as `export_clip`.
    """
    model = _Outputs(_loaded(Dinov2Model, source), lambda dino, x: dino(x).pooler_output)
    noise = _noise(int(parameters.get("image_size", "224")))
    return {"model.onnx": _export(model, noise, ("pixel_values", "image_embeds"), out / "model.onnx")}


EXPORTS: dict[str, Callable[[Path, Path, Mapping[str, str]], Differences]] = {
    "clip": export_clip,
    "dinov2": export_dinov2,
}


def _loaded(kind: Any, source: Path) -> Any:
    try:
        model = kind.from_pretrained(
            source, local_files_only=True, use_safetensors=True, trust_remote_code=False, dtype=torch.float32
        )
    except Exception as error:  # loaders raise many classes for files that are damaged or something else
        raise FailedPrecondition(f"{source} holds no {kind.__name__} that can be read: {error}") from error
    return model.eval()


def _noise(side: int) -> torch.Tensor:
    return torch.randn(2, 3, side, side, generator=torch.Generator().manual_seed(0))


def _export(model: nn.Module, example: torch.Tensor, names: tuple[str, str], path: Path) -> float:
    """Writes a graph with its weights inside and returns its largest absolute difference to torch."""
    batch = torch.export.Dim("batch", min=1, max=4096)
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # the exporter's own deprecations
        program = torch.onnx.export(
            model.eval(),
            (example,),
            input_names=[names[0]],
            output_names=[names[1]],
            opset_version=OPSET,
            dynamo=True,
            external_data=False,
            dynamic_shapes=({0: batch},),
            verbose=False,
        )
    assert program is not None
    program.save(path, external_data=False)
    graph = onnx.load(path)
    graph.ir_version = IR_VERSION
    onnx.save(graph, path)
    return _difference(model, example, names, path)


@torch.no_grad()
def _difference(model: nn.Module, example: torch.Tensor, names: tuple[str, str], path: Path) -> float:
    session = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    worst = 0.0
    for rows in CHECKED_BATCHES:
        batch = example[:1].repeat(rows, *[1] * (example.dim() - 1))
        expected = model(batch).numpy()
        found = session.run([names[1]], {names[0]: batch.numpy()})[0]
        worst = max(worst, float(np.abs(found - expected).max()))
    if not worst <= MOST_DIFFERENCE:
        raise FailedPrecondition(f"{path.name} differs from torch by {worst:.2g}; report it with the versions used")
    return worst


def _calibration(source: Path, side: int, length: int, pad_id: int) -> dict[str, Any]:
    """The usual pairs, not fitted to this model: cosines of a CLIP are told apart, but the scale is a guess."""
    preprocessing = json.loads((source / "preprocessor_config.json").read_text(encoding="utf-8"))
    pairs = json.loads((files("atelier_server.scoring") / "antonym_pairs.json").read_text(encoding="utf-8"))
    return {
        "version": pairs["version"],
        "image_size": side,
        "mean": preprocessing["image_mean"],
        "std": preprocessing["image_std"],
        "context_length": length,
        "pad_id": pad_id,
        "pairs": pairs["pairs"],
        "alignment": pairs["alignment"],
    }
