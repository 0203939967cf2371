"""Which models are compiled, where libraries are kept, and files that are none. Nothing is compiled here."""

import os
import shutil
import time
from pathlib import Path

import pytest
import torch
from safetensors import _safetensors_rust

from atelier_server.backends.base import ModelSpec
from atelier_server.backends.sdxl.compiled import compilation as compilations
from atelier_server.backends.sdxl.compiled import store as stores
from atelier_server.backends.sdxl.compiled.compilation import MOST_PARAMETERS, Compilation, compilation_of, compiler
from atelier_server.backends.sdxl.compiled.graph import Graph, seal
from atelier_server.backends.sdxl.compiled.store import DECODER, UNET, CompiledStore
from atelier_server.backends.sdxl.parameters import Parameters
from atelier_server.errors import InvalidArgument, Unavailable

CPU, CUDA = torch.device("cpu"), torch.device("cuda")
SMALL = 1_000_000


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    """What of a checkpoint decides the folder's name."""
    for part in ("unet", "vae"):
        folder = tmp_path / "checkpoint" / part
        folder.mkdir(parents=True)
        (folder / "diffusion_pytorch_model.safetensors").write_bytes(b"weights")
        (folder / "config.json").write_text("{}")
    return tmp_path / "checkpoint"


@pytest.fixture
def spec(weights: Path, tmp_path: Path) -> ModelSpec:
    return ModelSpec("starter", "1", weights, device="cpu", derived_folder=str(tmp_path / "derived"))


@pytest.fixture
def with_compiler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A program that is found where a compiler is looked for."""
    path = tmp_path / "c++"
    path.write_text("#!/bin/sh\n")
    path.chmod(0o755)
    monkeypatch.setenv("CXX", str(path))


@pytest.fixture
def without_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "/nowhere/c++")


def asked(
    spec: ModelSpec,
    switch: str,
    *,
    device: torch.device = CPU,
    dtype: torch.dtype = torch.float32,
    parameters: int = SMALL,
) -> Compilation | None:
    return compilation_of(spec, Parameters(compile=switch), device, dtype, parameters)


@pytest.mark.usefixtures("with_compiler")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_small_models_are_compiled_unless_it_is_off(spec: ModelSpec, dtype: torch.dtype) -> None:
    assert isinstance(asked(spec, "auto", dtype=dtype), Compilation)
    assert isinstance(asked(spec, "on", dtype=dtype), Compilation)
    assert asked(spec, "off", dtype=dtype) is None


@pytest.mark.usefixtures("with_compiler")
@pytest.mark.parametrize("switch", ["auto", "on"])
def test_what_openvino_computes_is_not_compiled(spec: ModelSpec, switch: str) -> None:
    assert asked(spec, switch, parameters=0) is None


@pytest.mark.usefixtures("with_compiler")
def test_another_dtype_is_refused_when_it_is_on(spec: ModelSpec) -> None:
    assert asked(spec, "auto", dtype=torch.float16) is None
    with pytest.raises(InvalidArgument, match="not float16") as caught:
        asked(spec, "on", dtype=torch.float16)
    assert caught.value.field == "parameters.compile"


@pytest.mark.usefixtures("with_compiler")
@pytest.mark.parametrize("switch", ["auto", "on"])
def test_nothing_is_compiled_for_a_cuda_device(spec: ModelSpec, switch: str) -> None:
    assert asked(spec, switch, device=CUDA, dtype=torch.bfloat16) is None


@pytest.mark.usefixtures("without_compiler")
def test_without_a_compiler_the_model_says_how_to_install_one(spec: ModelSpec) -> None:
    assert compiler() is None
    assert asked(spec, "auto") is None
    with pytest.raises(Unavailable, match="install one") as caught:
        asked(spec, "on")
    assert (caught.value.reason, caught.value.metadata) == ("PACKAGE_MISSING", {"package": "g++"})


def test_an_empty_path_has_no_compiler(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert compiler() is None


@pytest.mark.usefixtures("without_compiler")
@pytest.mark.parametrize("switch", ["auto", "on"])
def test_what_is_stored_needs_no_compiler(spec: ModelSpec, switch: str) -> None:
    kept = CompiledStore(Path(spec.derived_folder) / "compiled", "starter-1", spec.folder, torch.float32)
    kept.keep(kept.prepare())
    found = asked(spec, switch)
    assert found is not None
    assert found.store.folder == kept.folder
    assert not found.done, "it was there at the start"


@pytest.mark.usefixtures("with_compiler")
def test_large_models_are_compiled_only_when_it_is_on(spec: ModelSpec) -> None:
    assert asked(spec, "auto", parameters=MOST_PARAMETERS) is not None
    assert asked(spec, "on", parameters=MOST_PARAMETERS + 1) is not None
    shutil.rmtree(spec.folder)  # gigabytes of weights are not even read
    assert asked(spec, "auto", parameters=MOST_PARAMETERS + 1) is None


@pytest.mark.usefixtures("with_compiler")
def test_without_a_folder_for_what_is_derived_nothing_is_compiled(weights: Path) -> None:
    spec = ModelSpec("starter", "1", weights, device="cpu")
    assert asked(spec, "auto") is None
    with pytest.raises(InvalidArgument, match="no folder") as caught:
        asked(spec, "on")
    assert caught.value.field == "parameters.compile"


@pytest.mark.usefixtures("with_compiler")
def test_a_folder_that_cannot_be_made_is_no_reason_to_fail(
    weights: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").touch()
    begun = asked(ModelSpec("starter", "1", weights, device="cpu", derived_folder=str(tmp_path / "file")), "on")
    assert begun is not None
    assert not begun.run()
    assert "computed as before" in caplog.text


def test_another_instance_may_be_faster(
    spec: ModelSpec, with_compiler: None, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The libraries come while this instance still waits to begin: it takes them up, and compiles nothing."""
    monkeypatch.setattr(compilations, "_DELAY_SECONDS", 0.5)
    begun = asked(spec, "auto")
    assert begun is not None
    begun.begin()
    assert not begun.done
    begun.store.keep(begun.store.prepare())
    while not begun.done:
        time.sleep(0.01)
    assert "compiling" not in caplog.text


def named(root: Path, checkpoint: Path, dtype: torch.dtype = torch.float32, name: str = "starter-1") -> CompiledStore:
    return CompiledStore(root, name, checkpoint, dtype)


def test_weights_dtype_and_processor_name_the_folder(
    weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = named(tmp_path, weights).folder
    assert before == named(tmp_path, weights).folder
    assert before.name.startswith("starter-1-float32-")
    folders = {before, named(tmp_path, weights, torch.bfloat16).folder}
    with monkeypatch.context() as patch:
        patch.setattr(stores.platform, "machine", lambda: "another processor")
        folders.add(named(tmp_path, weights).folder)
    with monkeypatch.context() as patch:
        patch.setattr(torch, "__version__", "99.0")
        folders.add(named(tmp_path, weights).folder)
    for part in ("unet", "vae"):
        (weights / part / "diffusion_pytorch_model.safetensors").write_bytes(b"other weights of " + part.encode())
        folders.add(named(tmp_path, weights).folder)
    assert len(folders) == 6


def made(store: CompiledStore, content: str) -> Path:
    """Libraries in the making."""
    making = store.prepare()
    (making / UNET).write_text(content)
    (making / DECODER).write_text(content)
    return making


def test_new_libraries_replace_those_of_the_same_model_alone(weights: Path, tmp_path: Path) -> None:
    root = tmp_path / "compiled"
    old, other = named(root, weights), named(root, weights, name="other-1")
    narrow = named(root, weights, torch.bfloat16)
    for store in (old, other, narrow):
        assert not store.complete
        store.keep(made(store, "old"))
        assert store.complete
    (weights / "unet" / "config.json").write_text('{"new": true}')
    new = named(root, weights)
    new.keep(made(new, "new"))
    assert {path.name for path in root.iterdir()} == {one.folder.name for one in (new, other, narrow)}
    assert (new.folder / UNET).read_text() == "new"
    new.discard()
    assert not new.complete


def test_the_libraries_of_the_faster_instance_stay(weights: Path, tmp_path: Path) -> None:
    one, other = named(tmp_path / "compiled", weights), named(tmp_path / "compiled", weights)
    first, second = made(one, "first"), made(other, "second")
    one.keep(first)
    other.keep(second)
    assert (other.folder / UNET).read_text() == "first"


def test_what_was_abandoned_in_the_making_is_dropped(weights: Path, tmp_path: Path) -> None:
    store = named(tmp_path / "compiled", weights)
    abandoned, young = made(store, "half"), made(store, "half")
    hours_ago = time.time() - 2 * 3600
    os.utime(abandoned, (hours_ago, hours_ago))
    newest = store.prepare()
    assert set((tmp_path / "compiled").iterdir()) == {young, newest}


def test_a_file_that_is_no_library_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "text.so"
    with pytest.raises(FileNotFoundError):
        Graph(path, 1)
    path.write_text("no library")
    with pytest.raises(FileNotFoundError):
        Graph(path, 1)
    seal(path)
    with pytest.raises(OSError, match=r"text\.so"):
        Graph(path, 1)


def test_a_library_that_is_no_graph_is_refused(tmp_path: Path) -> None:
    path = Path(shutil.copy(_safetensors_rust.__file__, tmp_path / "stranger.so"))
    seal(path)
    with pytest.raises(OSError, match="no compiled graph"):
        Graph(path, 1)


def test_a_library_that_was_cut_off_is_not_loaded(tmp_path: Path) -> None:
    """The system's loader would end the whole process."""
    path = Path(shutil.copy(_safetensors_rust.__file__, tmp_path / "library.so"))
    seal(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 10])
    with pytest.raises(OSError, match="damaged"):
        Graph(path, 1)
