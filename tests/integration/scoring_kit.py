"""Small scoring models made on the spot: real ONNX graphs with seeded random weights, so that no test needs training.

The brand model sees a coarse grid of colours, so pictures of like colours lie together. A graph of another `seed` is
another embedding space.
"""

import io
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from PIL import Image
from tokenizers import Tokenizer, models, pre_tokenizers

from atelier_server.scoring.embedder import Preprocessing, save_impostors, space_of

SIDE = 16
GRID = 4
WIDTH = 24
CONTEXT = 8
WORDS = ("sharp", "blurry", "bright", "dark", "red", "blue", "bag", "shoe")
_CONFIG = """backend: "onnx"
max_batch_size: 16
dynamic_batching {{ max_queue_delay_microseconds: 0 }}
instance_group [ {{ count: 1 kind: KIND_CPU }} ]
parameters {{ key: "role" value {{ string_value: "{role}" }} }}
parameters {{ key: "required_files" value {{ string_value: "{files}" }} }}
parameters {{ key: "threads" value {{ string_value: "1" }} }}
parameters {{ key: "image_size" value {{ string_value: "16" }} }}
parameters {{ key: "image_mean" value {{ string_value: "0.5 0.5 0.5" }} }}
parameters {{ key: "image_std" value {{ string_value: "0.5 0.5 0.5" }} }}
"""


def write_clip(repository: Path, name: str = "small_clip", *, head: float | None = None) -> Path:
    """Writes a CLIP of 16-pixel pictures; `head` adds an aesthetic head that always gives this score."""
    folder = _folder(repository, name, "clip", "vision.onnx text.onnx tokenizer.json calibration.json")
    _vision(folder / "vision.onnx", seed=1)
    _text(folder / "text.onnx")
    if head is not None:
        _head(folder / "aesthetic_head.onnx", head)
    vocabulary = {word: number for number, word in enumerate(("[PAD]", "[UNK]", *WORDS))}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.save(str(folder / "tokenizer.json"))
    pair = {"scale": 4.0, "bias": 0.5, "weight": 0.5}
    pairs = [
        {"name": "sharpness", "positive": "sharp", "negative": "blurry", **pair},
        {"name": "lighting", "positive": "bright", "negative": "dark", **pair},
    ]
    calibration = {
        "version": "test",
        "image_size": SIDE,
        "mean": [0.5] * 3,
        "std": [0.5] * 3,
        "context_length": CONTEXT,
        "pad_id": 0,
        "pairs": pairs,
        "alignment": {"scale": 4.0, "bias": 0.0},
    }
    (folder / "calibration.json").write_text(json.dumps(calibration))
    return folder


def write_brand_model(repository: Path, name: str = "small_brand", *, seed: int = 2, impostors: int = 200) -> Path:
    """Writes a brand embedder of 16-pixel pictures, with a pool of strangers of random flat colours."""
    folder = _folder(repository, name, "brand", "model.onnx")
    weights = _vision(folder / "model.onnx", seed)
    (folder / "impostors.npz").unlink(missing_ok=True)
    if impostors:
        colours = np.random.default_rng(9).uniform(-1, 1, size=(impostors, 3, 1))
        flat = np.repeat(colours, GRID * GRID, axis=2).reshape(impostors, -1)
        space = space_of(name, "1", folder, Preprocessing(SIDE, (0.5,) * 3, (0.5,) * 3))
        save_impostors(folder, (flat @ weights).astype(np.float32), space)
    return folder


def picture(colour: Sequence[int], number: int = 0, size: tuple[int, int] = (48, 48), kind: str = "PNG") -> bytes:
    """An encoded picture of a colour with a little noise of its own, so that no two numbers are the same picture."""
    rng = np.random.default_rng(number)
    noise = rng.normal(0, 12, (size[1], size[0], 3))
    pixels = np.clip(np.array(colour, np.float64) + noise, 0, 255).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind)
    return buffer.getvalue()


def _folder(repository: Path, name: str, role: str, files: str) -> Path:
    folder = repository / name / "1"
    folder.mkdir(parents=True, exist_ok=True)
    (folder.parent / "config.pbtxt").write_text(_CONFIG.format(role=role, files=files))
    return folder


def _vision(path: Path, seed: int) -> np.ndarray:
    weights = np.random.default_rng(seed).normal(size=(3 * GRID * GRID, WIDTH)).astype(np.float32)
    cell = SIDE // GRID
    nodes = [
        helper.make_node("AveragePool", ["pixel_values"], ["grid"], kernel_shape=[cell, cell], strides=[cell, cell]),
        helper.make_node("Flatten", ["grid"], ["flat"]),
        helper.make_node("MatMul", ["flat", "weights"], ["image_embeds"]),
    ]
    _save(path, nodes, ("pixel_values", TensorProto.FLOAT, ["batch", 3, SIDE, SIDE]), ("image_embeds", WIDTH), weights)
    return weights


def _text(path: Path) -> None:
    weights = np.random.default_rng(3).normal(size=(len(WORDS) + 2, WIDTH)).astype(np.float32)
    nodes = [
        helper.make_node("Gather", ["weights", "input_ids"], ["rows"]),
        helper.make_node("ReduceMean", ["rows"], ["text_embeds"], axes=[1], keepdims=0),
    ]
    _save(path, nodes, ("input_ids", TensorProto.INT64, ["batch", "length"]), ("text_embeds", WIDTH), weights)


def _head(path: Path, score: float) -> None:
    constant = numpy_helper.from_array(np.array([score], np.float32), "score")
    nodes = [
        helper.make_node("MatMul", ["image_embeds", "weights"], ["nothing"]),
        helper.make_node("Add", ["nothing", "score"], ["aesthetic_score"]),
    ]
    inputs = ("image_embeds", TensorProto.FLOAT, ["batch", WIDTH])
    _save(path, nodes, inputs, ("aesthetic_score", 1), np.zeros((WIDTH, 1), np.float32), constant)


def _save(
    path: Path,
    nodes: list[onnx.NodeProto],
    given: tuple[str, int, list[object]],
    made: tuple[str, int],
    weights: np.ndarray,
    *constants: onnx.TensorProto,
) -> None:
    outputs = [helper.make_tensor_value_info(made[0], TensorProto.FLOAT, ["batch", made[1]])]
    inputs = [helper.make_tensor_value_info(*given)]
    kept = [numpy_helper.from_array(weights, "weights"), *constants]
    graph = helper.make_graph(nodes, path.stem, inputs, outputs, kept)
    opset = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=8), path)
