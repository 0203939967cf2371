"""Broken checkpoints: Unavailable, with the file's name and what to do."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from atelier_server.backends.base import ModelSpec
from atelier_server.backends.sdxl import create
from atelier_server.backends.sdxl.device import choose_device, choose_dtype, cpu_multiplies_bfloat16
from atelier_server.backends.sdxl.load import check_weights, load_checkpoint
from atelier_server.errors import InvalidArgument, Unavailable

CPU = torch.device("cpu")
UNET = "unet/diffusion_pytorch_model.safetensors"


@pytest.fixture
def copy(checkpoint: Path, tmp_path: Path) -> Path:
    """A checkpoint to break."""
    return Path(shutil.copytree(checkpoint, tmp_path / "copy"))


def truncate(path: Path, keep: float = 0.5) -> None:
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * keep)])


def pickle(path: Path) -> None:
    torch.save({"weight": torch.zeros(1)}, path.with_suffix(".bin"))
    path.unlink()


def rename_a_tensor(path: Path) -> None:
    tensors = load_file(path)
    tensors["stranger"] = tensors.pop(next(iter(tensors)))
    save_file(tensors, path)


def reshape_a_tensor(path: Path) -> None:
    tensors = load_file(path)
    tensors["conv_in.weight"] = torch.zeros(3, 3)
    save_file(tensors, path, metadata={"format": "pt"})


@pytest.mark.parametrize(
    ("path", "damage", "word"),
    [
        (UNET, Path.unlink, "missing"),
        (UNET, truncate, "truncated"),
        (UNET, lambda path: path.write_bytes(b""), "truncated"),
        (UNET, pickle, "pickle"),
        (UNET, reshape_a_tensor, "cannot be loaded"),
        ("text_encoder_2/model.safetensors", truncate, "truncated"),
        ("text_encoder/model.safetensors", pickle, "pickle"),
        ("vae/diffusion_pytorch_model.safetensors", Path.unlink, "missing"),
        ("vae/config.json", lambda path: path.write_text("{"), "JSON"),
        ("vae/config.json", lambda path: path.write_text("[]"), "JSON"),
        ("unet/config.json", Path.unlink, "missing"),
        ("model_index.json", Path.unlink, "missing"),
        ("model_index.json", lambda path: path.write_text('{"_class_name": "FluxPipeline"}'), "Stable Diffusion XL"),
        ("tokenizer/tokenizer.json", lambda path: path.write_text("no"), "cannot be loaded"),
        ("scheduler/scheduler_config.json", Path.unlink, "missing"),
    ],
)
def test_a_broken_file_is_named(copy: Path, path: str, damage: Callable[[Path], object], word: str) -> None:
    damage(copy / path)
    with pytest.raises(Unavailable, match=word) as caught:
        load_checkpoint(copy, "starter", CPU, torch.float32)
    message = caught.value.message
    assert path.split("/")[0] in message
    assert "models fetch starter" in message
    assert caught.value.metadata["file"].startswith(str(copy))


def test_fp16_variants_and_shards_are_found(copy: Path) -> None:
    folder, stem = copy / "unet", "diffusion_pytorch_model"
    tensors = load_file(folder / f"{stem}.safetensors")
    halves = [dict(list(tensors.items())[::2]), dict(list(tensors.items())[1::2])]
    weight_map = {}
    for number, half in enumerate(halves, 1):
        file = f"{stem}.fp16-0000{number}-of-00002.safetensors"
        save_file(half, folder / file, metadata={"format": "pt"})
        weight_map.update(dict.fromkeys(half, file))
    index = {"metadata": {"total_size": 1}, "weight_map": weight_map}
    (folder / f"{stem}.safetensors.index.fp16.json").write_text(json.dumps(index))
    (folder / f"{stem}.safetensors").unlink()
    assert check_weights(copy, "unet", "starter") == "fp16"
    loaded = load_checkpoint(copy, "starter", CPU, torch.float32)
    assert torch.equal(loaded.unet.state_dict()["conv_in.bias"], tensors["conv_in.bias"].float())
    (folder / f"{stem}.fp16-00002-of-00002.safetensors").unlink()
    with pytest.raises(Unavailable, match="00002-of-00002"):
        check_weights(copy, "unet", "starter")


def test_everything_is_in_the_asked_dtype(checkpoint: Path) -> None:
    loaded = load_checkpoint(checkpoint, "starter", CPU, torch.bfloat16)
    models = (loaded.unet, loaded.vae, *loaded.text_encoders)
    assert {parameter.dtype for model in models for parameter in model.parameters()} == {torch.bfloat16}


def test_a_vae_that_overflows_stays_in_float32(copy: Path) -> None:
    config = json.loads((copy / "vae/config.json").read_text())
    (copy / "vae/config.json").write_text(json.dumps({**config, "force_upcast": True}))
    loaded = load_checkpoint(copy, "starter", CPU, torch.float16)
    assert (loaded.unet.dtype, loaded.vae.dtype) == (torch.float16, torch.float32)


def test_the_dtype_follows_the_processor(tmp_path: Path) -> None:
    cpuinfo = tmp_path / "cpuinfo"
    for flags, expected in (("fpu avx512_bf16", True), ("fpu amx_bf16 amx_tile", True), ("fpu avx2", False)):
        cpuinfo.write_text(f"processor : 0\nflags\t\t: {flags}\n")
        assert cpu_multiplies_bfloat16(cpuinfo) is expected
    assert cpu_multiplies_bfloat16(tmp_path / "none") is False
    assert choose_dtype("auto", CPU) is (torch.bfloat16 if cpu_multiplies_bfloat16() else torch.float32)
    assert choose_dtype("float16", CPU) is torch.float16


def test_devices() -> None:
    assert choose_device("cpu") == CPU
    assert choose_device("auto").type in ("cpu", "cuda")
    with pytest.raises(InvalidArgument, match="cpu, cuda"):
        choose_device("tpu")
    with pytest.raises(Unavailable, match="not there"):
        choose_device("cuda:63")


def test_an_unknown_dtype_is_refused_at_load(checkpoint: Path) -> None:
    with pytest.raises(InvalidArgument, match="int4"):
        create(ModelSpec("starter", "1", checkpoint, dtype="int4", device="cpu")).load()
    with pytest.raises(InvalidArgument, match="vae_tiling"):
        create(ModelSpec("starter", "1", checkpoint, parameters={"vae_tiling": "sometimes"}))
