"""Pictures computed by OpenVINO: those of torch within 1/255 at float32, EXACT alone and in a crowd, converted once."""

import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from atelier_server.backends.base import Backend, ModelSpec
from atelier_server.backends.sdxl import create
from atelier_server.backends.sdxl.openvino import load as openvino_load
from atelier_server.backends.sdxl.openvino.choose import computes_by_openvino
from atelier_server.backends.sdxl.openvino.runtime import Runtime, installed
from atelier_server.backends.sdxl.openvino.store import GraphStore
from atelier_server.backends.sdxl.openvino.unet import OpenVinoUNet
from atelier_server.errors import InvalidArgument, Unavailable
from tests.parity.sdxl_kit import Crowd, make_backend, pictures, psnr, run, task

needs_openvino = pytest.mark.skipif(not installed(), reason="the package openvino is not installed (extra [openvino])")


def load(checkpoint: Path, derived: Path, dtype: str = "float32", **parameters: str) -> Backend:
    """A backend of few rows, so that few graphs are compiled."""
    values = {"execution": "openvino", "max_rows": "2", **parameters}
    backend = create(
        ModelSpec("starter", "1", checkpoint, values, device="cpu", dtype=dtype, threads=2, derived_folder=str(derived))
    )
    backend.load()
    return backend


@pytest.fixture(scope="module")
def derived(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("derived")


@pytest.fixture(scope="module")
def converted(checkpoint: Path, derived: Path) -> Backend:
    return load(checkpoint, derived)


@needs_openvino
@pytest.mark.parametrize("schedule", ["euler", "dpmpp_2m_karras", "euler_ancestral"])
@pytest.mark.parametrize(
    "changes",
    [{}, {"guidance_scale": 1.0, "seeds": (3, 4)}, {"width": 64, "height": 96, "negative_prompt": "blurry"}],
    ids=["guided", "unguided", "another size"],
)
def test_float32_pictures_are_those_of_torch(
    backend: Backend, converted: Backend, schedule: str, changes: dict[str, object]
) -> None:
    asked = {"noise_schedule": schedule, "exact": True, "num_inference_steps": 4, **changes}
    expected, made = (run(one, task(**asked)) for one in (backend, converted))
    for one, other in zip(expected, made, strict=True):
        assert one.std() > 5, "a flat picture would hide differences"
        assert np.abs(one.astype(int) - other.astype(int)).max() <= 1


@needs_openvino
def test_exact_bytes_alone_and_in_a_crowd(converted: Backend) -> None:
    exact = {"seeds": (11, 12), "exact": True, "num_inference_steps": 4}
    alone = run(converted, task(**exact))
    crowd = Crowd(converted)
    events = crowd.submit(task(**exact))
    for seed in range(3):
        crowd.submit(task(seeds=(seed,), num_inference_steps=3, guidance_scale=1.0 + seed))
    crowd.run()
    for one, other in zip(alone, pictures(events), strict=True):
        np.testing.assert_array_equal(one, other)


@needs_openvino
def test_a_batch_is_computed_in_pieces_of_the_compiled_graphs(checkpoint: Path, converted: Backend) -> None:
    unet = converted._model._parts[0]  # type: ignore[attr-defined]
    assert isinstance(unet, OpenVinoUNet)
    assert sorted(unet._fixed) == [1, 2]
    reference = make_backend(checkpoint)._model.runner._unet  # type: ignore[attr-defined]
    config = unet.config
    generator = torch.Generator().manual_seed(0)
    pooled = config.projection_class_embeddings_input_dim - 6 * config.addition_time_embed_dim
    text = torch.randn(5, 77, config.cross_attention_dim, generator=generator)
    added = {"text_embeds": torch.randn(5, pooled, generator=generator), "time_ids": torch.ones(5, 6)}
    with torch.inference_mode():
        sample = torch.randn(5, config.in_channels, 16, 16, generator=generator)
        steps = torch.tensor([1.0, 250.0, 500.0, 750.0, 999.0])
        options = {"encoder_hidden_states": text, "timestep_cond": None, "added_cond_kwargs": added}
        made, expected = (one(sample, steps, return_dict=False, **options)[0] for one in (unet, reference))
    torch.testing.assert_close(made, expected, rtol=1e-4, atol=1e-4)


@needs_openvino
def test_graphs_are_kept_for_the_next_start(
    checkpoint: Path, derived: Path, converted: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = {"exact": True, "num_inference_steps": 3}
    [expected] = run(converted, task(**asked))
    monkeypatch.setattr(openvino_load, "_convert", lambda *_: pytest.fail("converted again"))
    np.testing.assert_array_equal(run(load(checkpoint, derived), task(**asked))[0], expected)


@needs_openvino
def test_damaged_and_foreign_graphs_are_not_read(
    checkpoint: Path, derived: Path, converted: Backend, tmp_path: Path
) -> None:
    runtime = Runtime(torch.float32, 2)
    shutil.copytree(derived / "openvino", tmp_path, dirs_exist_ok=True)
    store = GraphStore(tmp_path, "starter-1", checkpoint, runtime)
    assert store.read() is not None
    other = tmp_path / "checkpoint"
    shutil.copytree(checkpoint, other)
    with (other / "unet" / "diffusion_pytorch_model.safetensors").open("ab") as weights:
        weights.write(b"x")
    assert GraphStore(tmp_path, "starter-1", other, runtime).read() is None
    graph = store.folder / "unet.xml"
    graph.write_bytes(graph.read_bytes()[:1000])
    assert store.read() is None
    assert not store.folder.exists()


@needs_openvino
def test_bfloat16_is_as_near_to_float32_as_that_of_torch(
    checkpoint: Path, backend: Backend, backend_bf16: Backend, tmp_path: Path
) -> None:
    """A folder for keeping graphs that cannot be written is no reason to fail."""
    blocked = tmp_path / "file"
    blocked.touch()
    converted = load(checkpoint, blocked, "bfloat16")
    asked = {"exact": True, "num_inference_steps": 6}
    [precise], [torch_made], [made] = (run(one, task(**asked)) for one in (backend, backend_bf16, converted))
    assert converted.status().dtype == "bfloat16"
    assert converted.status().execution == "openvino"
    assert psnr(made, precise) > psnr(torch_made, precise) - 3


@needs_openvino
def test_no_telemetry_is_imported(converted: Backend) -> None:
    assert converted.status().device == "cpu"
    assert sys.modules.get("openvino_telemetry") is None


def test_without_the_package_the_model_says_how_to_install_it(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(Unavailable, match=r"pip install 'atelier-server\[openvino\]'") as caught:
        load(checkpoint, tmp_path)
    assert caught.value.reason == "PACKAGE_MISSING"
    assert not computes_by_openvino("auto", torch.device("cpu"), torch.float32)


def test_what_computes_is_chosen_by_parameter_device_and_dtype() -> None:
    cpu, cuda = torch.device("cpu"), torch.device("cuda")
    assert not computes_by_openvino("torch", cpu, torch.float32)
    assert computes_by_openvino("openvino", cpu, torch.float32)
    assert computes_by_openvino("auto", cpu, torch.bfloat16) == installed()
    assert not computes_by_openvino("auto", cpu, torch.float16)
    assert not computes_by_openvino("auto", cuda, torch.bfloat16)
    with pytest.raises(InvalidArgument, match="KIND_CPU"):
        computes_by_openvino("openvino", cuda, torch.bfloat16)


@needs_openvino
def test_a_dtype_that_it_does_not_compute_is_refused(checkpoint: Path, tmp_path: Path) -> None:
    with pytest.raises(InvalidArgument, match="float16") as caught:
        load(checkpoint, tmp_path, "float16")
    assert caught.value.field == "parameters.dtype"
