"""`atelier-server models fetch` of models that become ONNX graphs: a small Hub, tiny checkpoints of their classes."""

import json
import os
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from atelier_server.backends.base import ModelSpec, TensorTask
from atelier_server.repository.repository import Repository
from atelier_server.scoring.calibration import load_calibration
from atelier_server.scoring.preprocess import pixel_values
from atelier_server.scoring.text import ClipTokenizer
from atelier_server.testing import in_process_executor
from tests.hub_kit import REVISION, running_hub

SIDE = 16


def fetch(repository: Path, name: str, endpoint: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "atelier_server", "models", "fetch", name, "--model-repository", str(repository)]
    environment = os.environ | {"HF_ENDPOINT": endpoint, "HF_HUB_DISABLE_PROGRESS_BARS": "1"}
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment, timeout=400)


def describe(repository: Path, name: str, kind: str, role: str, files: str) -> None:
    (repository / name).mkdir(parents=True)
    values = {
        "role": role,
        "required_files": files,
        "image_size": SIDE,
        "source_repo": "some/thing",
        "source_revision": REVISION,
        "source_kind": kind,
    }
    lines = [f'parameters {{ key: "{key}" value {{ string_value: "{value}" }} }}' for key, value in values.items()]
    (repository / name / "config.pbtxt").write_text("\n".join(['backend: "onnx"', "max_batch_size: 4", *lines]))


def files_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def tiny_clip(folder: Path) -> dict[str, bytes]:
    from transformers import CLIPConfig, CLIPModel

    both = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    text = both | {"vocab_size": 8, "max_position_embeddings": 12, "bos_token_id": 1, "eos_token_id": 2}
    vision = both | {"image_size": SIDE, "patch_size": 8}
    config = CLIPConfig(text_config=text | {"pad_token_id": 2}, vision_config=vision, projection_dim=8)
    CLIPModel(config).save_pretrained(folder)
    vocabulary = {"[UNK]": 0, "<s>": 1, "</s>": 2, "a": 3, "red": 4, "bag": 5, "Good": 6, "photo": 7}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    ends = [("<s>", 1), ("</s>", 2)]
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A </s>", special_tokens=ends)
    tokenizer.save(str(folder / "tokenizer.json"))
    described = {"image_mean": [0.5] * 3, "image_std": [0.25] * 3}
    (folder / "preprocessor_config.json").write_text(json.dumps(described))
    (folder / "pytorch_model.bin").write_bytes(b"a pickle")
    return files_of(folder)


def tiny_dinov2(folder: Path) -> dict[str, bytes]:
    from transformers import Dinov2Config, Dinov2Model

    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    Dinov2Model(Dinov2Config(image_size=SIDE, patch_size=8, **sizes)).save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text("{}")
    return files_of(folder)


def differences(output: str) -> dict[str, float]:
    found = re.findall(r"(\S+\.onnx): max abs difference to torch ([\d.e+-]+)", output)
    return {name: float(value) for name, value in found}


@dataclass(frozen=True)
class Fetched:
    """What became of a fetch: the repository, the command, and what it asked the Hub for."""

    repository: Path
    done: subprocess.CompletedProcess[str]
    requests: list[str]


@pytest.fixture(scope="module")
def fetched(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Fetched]:
    """All three at once: each takes seconds to import torch."""
    clip_files, dinov2_files = "vision.onnx text.onnx tokenizer.json calibration.json", "model.onnx"
    clip, dinov2 = (tiny(tmp_path_factory.mktemp("source")) for tiny in (tiny_clip, tiny_dinov2))
    asked = {
        "clip": (("clip", "clip", clip_files), clip),
        "dinov2": (("dinov2", "brand", dinov2_files), dinov2),
        "broken": (("dinov2", "brand", dinov2_files), dinov2 | {"model.safetensors": b"{}"}),
    }

    def work(name: str) -> Fetched:
        description, files = asked[name]
        repository = tmp_path_factory.mktemp(name)
        describe(repository, name, *description)
        with running_hub("some/thing", files) as hub:
            done = fetch(repository, name, hub.url)
        return Fetched(repository, done, list(hub.requests))

    with ThreadPoolExecutor(len(asked)) as pool:
        return dict(zip(asked, pool.map(work, asked), strict=True))


async def test_a_clip_is_fetched_exported_and_served(fetched: dict[str, Fetched]) -> None:
    repository, done = fetched["clip"].repository, fetched["clip"].done
    assert done.returncode == 0, done.stderr
    assert not [request for request in fetched["clip"].requests if "pytorch_model" in request]
    assert differences(done.stdout).keys() == {"vision.onnx", "text.onnx"}
    assert max(differences(done.stdout).values()) < 1e-4
    entry = Repository(repository).find("clip")
    assert entry.problem == ""
    assert sorted(path.name for path in entry.folder.iterdir()) == ["1", "config.pbtxt"]
    folder = entry.folder / "1"
    fit = load_calibration(folder)
    assert (fit.version, fit.image_size, fit.context_length, fit.pad_id) == ("unfitted-1", SIDE, 12, 2)
    tokens = ClipTokenizer(folder, fit)(["a red bag", "Good photo"])
    assert tokens[0].tolist() == [1, 3, 4, 5, 2, 2, 2, 2, 2, 2, 2, 2]
    executor = in_process_executor(entry.specs(1)[0])
    await executor.start()
    try:
        pictures = pixel_values(Image.new("RGB", (40, 20), "red"), fit)
        seen = await executor.infer(TensorTask("a", {"pixel_values": pictures}))
        read = await executor.infer(TensorTask("b", {"input_ids": tokens}))
    finally:
        await executor.stop()
    assert seen["image_embeds"].shape == (3, 8)
    assert read["text_embeds"].shape == (2, 8)
    assert not np.allclose(read["text_embeds"][0], read["text_embeds"][1])


async def test_a_dinov2_is_fetched_exported_and_served(fetched: dict[str, Fetched]) -> None:
    repository, done = fetched["dinov2"].repository, fetched["dinov2"].done
    assert done.returncode == 0, done.stderr
    assert differences(done.stdout)["model.onnx"] < 1e-4
    spec: ModelSpec = Repository(repository).find("dinov2").specs(1)[0]
    executor = in_process_executor(spec)
    await executor.start()
    try:
        pictures = np.zeros((2, 3, SIDE, SIDE), np.float32)
        seen = await executor.infer(TensorTask("a", {"pixel_values": pictures}))
    finally:
        await executor.stop()
    assert seen["image_embeds"].shape == (2, 16)


def test_a_checkpoint_that_cannot_be_read_leaves_no_version(fetched: dict[str, Fetched]) -> None:
    repository, done = fetched["broken"].repository, fetched["broken"].done
    assert done.returncode == 1
    assert "Dinov2Model that can be read" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (repository / "broken" / "1").exists()
