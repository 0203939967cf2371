"""UNet and decoder compiled for the CPU: what they compute is what torch computes, and faults cost nobody a picture.

A UNet of one attention block and a decoder of one level (compiled_kit.py) are compiled once for the whole file, beside
the tests that come before it.
"""

import logging
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import torch
from safetensors.torch import load_file, save_file

from atelier_server.backends.base import ModelSpec
from atelier_server.backends.sdxl.backend import SdxlBackend
from atelier_server.backends.sdxl.compiled import compilation as compilations
from atelier_server.backends.sdxl.compiled.compilation import compiler
from atelier_server.backends.sdxl.compiled.decoder import CompiledDecoder
from atelier_server.backends.sdxl.compiled.graph import Graph, GraphFailed, seal
from atelier_server.backends.sdxl.compiled.store import DECODER, UNET
from atelier_server.backends.sdxl.compiled.unet import MOST_UNITS, CompiledUNet
from atelier_server.backends.sdxl.load import Checkpoint, load_checkpoint
from tests.parity.compiled_kit import EARLY, EarlyCompilation, store_of, untraced
from tests.parity.sdxl_kit import Crowd, pictures, psnr, run, task

pytestmark = pytest.mark.skipif(compiler() is None, reason="there is no C++ compiler (g++, or what CXX names)")
ASKED: dict[str, Any] = {"width": 64, "height": 64, "num_inference_steps": 4}
WEIGHTS = "unet/diffusion_pytorch_model.safetensors"


def load(folder: Path, derived: Path, switch: str = "on") -> SdxlBackend:
    parameters = {"compile": switch, "max_rows": "4", "native_width": "64", "native_height": "64"}
    backend = SdxlBackend(
        ModelSpec(
            "small", "1", folder, parameters, device="cpu", dtype="float32", threads=2, derived_folder=str(derived)
        )
    )
    backend.load()
    return backend


def is_compiled(backend: SdxlBackend) -> bool:
    return backend._model.runner.compiled and backend._model.codec.compiled


@pytest.fixture(scope="module")
def early(request: pytest.FixtureRequest) -> EarlyCompilation:
    """Compiled with less optimisation than usual; begun before the first test."""
    made: EarlyCompilation = request.config.stash[EARLY]
    made.wait()
    return made


@pytest.fixture(scope="module")
def checkpoint(early: EarlyCompilation) -> Path:
    return early.folder / "checkpoint"


@pytest.fixture(scope="module")
def derived(early: EarlyCompilation) -> Path:
    return early.folder / "derived"


@pytest.fixture(scope="module")
def compiled(checkpoint: Path, derived: Path) -> SdxlBackend:
    """A backend that computes by its libraries."""
    backend = load(checkpoint, derived)
    assert is_compiled(backend)
    return backend


@pytest.fixture(scope="module")
def plain(checkpoint: Path, derived: Path) -> SdxlBackend:
    """The same model, never compiled."""
    return load(checkpoint, derived, "off")


@pytest.fixture(scope="module")
def folder(checkpoint: Path, derived: Path, compiled: SdxlBackend) -> Path:
    """Of the libraries."""
    return store_of(checkpoint, derived).folder


@pytest.fixture(scope="module")
def parts(checkpoint: Path) -> Checkpoint:
    """What torch computes by."""
    return load_checkpoint(checkpoint, "small", torch.device("cpu"), torch.float32)


@pytest.fixture
def one_thread() -> Iterator[None]:
    """As the runner sets it for compiled graphs."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def copied(derived: Path, folder: Path, tmp_path: Path) -> Path:
    """A derived folder to break. The system loads a file once a name, so that a broken one must have another name."""
    return Path(shutil.copytree(derived, tmp_path / "derived"))


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def decoded(vae: Any, latents: torch.Tensor) -> torch.Tensor:
    with torch.inference_mode():
        image: torch.Tensor = vae.decode(latents, return_dict=False)[0]
        return image


def test_nothing_but_the_libraries_is_left(early: EarlyCompilation, folder: Path) -> None:
    assert {path.name for path in folder.iterdir()} == {UNET, "unet.sha256", DECODER, "decoder.sha256"}
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]
    assert list((early.folder / "temporary").iterdir()) == []


def test_a_graph_computes_what_torch_computes(folder: Path, parts: Checkpoint) -> None:
    graph = Graph(folder / DECODER, 1)
    for height, width in ((16, 16), (8, 30), (64, 32)):
        latents = noise(1, 12, height, width)
        made, expected = graph([latents]), decoded(parts.vae, latents)
        assert made.shape == (1, 3, height, width)
        torch.testing.assert_close(made, expected, rtol=1e-4, atol=1e-4)


def test_a_graph_refuses_a_wrong_number_of_inputs(folder: Path) -> None:
    graph = Graph(folder / DECODER, 1)
    assert graph.inputs == 1
    for inputs in ([], [noise(1, 12, 16, 16)] * 2):
        with pytest.raises(GraphFailed, match=f"takes 1 inputs, not {len(inputs)}"):
            graph(inputs)


@pytest.mark.parametrize("calls", [1, 2])
def test_threads_may_call_a_graph_at_once(folder: Path, parts: Checkpoint, calls: int) -> None:
    graph = Graph(folder / DECODER, calls)
    many = [noise(1, 12, 16 + 2 * (seed % 5), 32, seed=seed) for seed in range(40)]
    with ThreadPoolExecutor(2) as pool:
        made = list(pool.map(lambda latents: graph([latents]), many))
    for one, latents in zip(made, many, strict=True):
        torch.testing.assert_close(one, decoded(parts.vae, latents), rtol=1e-4, atol=1e-4)


def test_many_calls_keep_no_memory(folder: Path) -> None:
    """Were the results kept, it would be 11 MB; were the inputs, 44 MB."""
    graph, latents, process = Graph(folder / DECODER, 1), noise(1, 12, 48, 48), psutil.Process()
    for _ in range(20):
        graph([latents.clone()])
    before = process.memory_info().rss
    for _ in range(400):
        graph([latents.clone()])
    assert process.memory_info().rss - before < 6e6


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("threads", [1, 2])
def test_rows_are_those_of_the_eager_unet(folder: Path, parts: Checkpoint, threads: int) -> None:
    unet = CompiledUNet(Graph(folder / UNET, threads), parts.unet, threads)
    for rows in (1, 2, 3, 5):
        inputs: dict[str, Any] = {
            "encoder_hidden_states": noise(rows, 77, 256, seed=1),
            "timestep_cond": None,
            "added_cond_kwargs": {
                "text_embeds": noise(rows, 128, seed=2),
                "time_ids": 64 * torch.arange(6 * rows).reshape(rows, 6).float(),
            },
        }
        times = torch.linspace(1, 999, rows)
        for height, width in ((2, 2), (16, 16), (6, 32), (34, 18)):
            sample = noise(rows, 12, height, width)
            assert unet.takes(sample)
            with torch.inference_mode():
                made = unet.predict(sample, times, inputs, threads)
                [expected] = parts.unet(sample, times, return_dict=False, **inputs)
            torch.testing.assert_close(made, expected, rtol=1e-4, atol=1e-4)


def test_other_sizes_are_refused(folder: Path, parts: Checkpoint) -> None:
    unet, most = CompiledUNet(Graph(folder / UNET, 1), parts.unet, 1), 2 * MOST_UNITS
    taken = {
        (2, 2): True,
        (most, most): True,
        (3, 2): False,
        (2, 17): False,
        (most + 2, 2): False,
        (2, most + 2): False,
    }
    assert {sides: unet.takes(torch.empty(1, 12, *sides)) for sides in taken} == taken


def test_batched_pictures_are_near_to_exact_ones(compiled: SdxlBackend, plain: SdxlBackend) -> None:
    for changes in ({}, {"guidance_scale": 1.0}, {"width": 32, "height": 96, "noise_schedule": "euler_ancestral"}):
        [exact] = run(plain, task(exact=True, **{**ASKED, **changes}))
        [batched] = run(compiled, task(**{**ASKED, **changes}))
        assert exact.std() > 5, "a flat picture would hide differences"
        assert psnr(batched, exact) >= 45


def test_exact_bytes_are_those_of_a_model_that_is_not_compiled(compiled: SdxlBackend, plain: SdxlBackend) -> None:
    asked = {"seeds": (11, 12), "exact": True, **ASKED}
    expected = run(plain, task(**asked))
    crowd = Crowd(compiled)
    events = crowd.submit(task(**asked))
    for seed in range(3):
        crowd.submit(task(seeds=(seed,), **ASKED))
    crowd.run()
    for one, other in zip(expected, pictures(events), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("switch", ["auto", "on"])
def test_a_second_load_compiles_nothing(
    checkpoint: Path, derived: Path, folder: Path, switch: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CXX", "/nowhere/c++")
    before = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
    assert is_compiled(load(checkpoint, derived, switch))
    assert {path: path.stat().st_mtime_ns for path in folder.iterdir()} == before


def cut_off(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 10])


def overwrite(path: Path) -> None:
    path.write_bytes(np.random.default_rng(0).bytes(path.stat().st_size))


def exchange(path: Path) -> None:
    """A sound library of something else."""
    path.write_bytes(path.with_name(DECODER).read_bytes())
    seal(path)


@pytest.mark.parametrize(
    ("damage", "name"), [(cut_off, UNET), (overwrite, DECODER), (Path.unlink, UNET), (exchange, UNET)]
)
def test_damaged_libraries_are_dropped(
    checkpoint: Path,
    copied: Path,
    plain: SdxlBackend,
    damage: Callable[[Path], None],
    name: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    store = store_of(checkpoint, copied)
    damage(store.folder / name)
    backend = load(checkpoint, copied)
    assert not is_compiled(backend)
    assert not store.complete
    *_, warning = (record for record in caplog.records if record.levelno == logging.WARNING)
    assert "are dropped" in warning.getMessage()
    np.testing.assert_array_equal(run(backend, task(exact=True, **ASKED)), run(plain, task(exact=True, **ASKED)))


def test_a_graph_that_fails_costs_nobody_a_picture(
    checkpoint: Path, derived: Path, folder: Path, plain: SdxlBackend, caplog: pytest.LogCaptureFixture
) -> None:
    """Both get inputs that they refuse, while pictures are in the making."""
    backend = load(checkpoint, derived)
    assert backend.status().execution == "compiled"
    crowd = Crowd(backend)
    events = crowd.submit(task(**ASKED))
    for _ in range(3):
        backend.step()
    model = backend._model
    model.runner.take(CompiledUNet(Graph(folder / DECODER, 2), model._parts[0], 2), 2)
    model.codec.take(CompiledDecoder(Graph(folder / UNET, 1)))
    crowd.run()
    [exact] = run(plain, task(exact=True, **ASKED))
    assert psnr(pictures(events)[0], exact) >= 45
    warnings = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert ["UNet failed" in warnings[0], "decoder failed" in warnings[1]] == [True, True]
    assert len(warnings) == 2
    assert not is_compiled(backend)
    assert backend.status().execution == "torch"


def test_libraries_of_other_weights_are_not_used(
    checkpoint: Path, copied: Path, folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    other = Path(shutil.copytree(checkpoint, tmp_path / "other"))
    weights = load_file(other / WEIGHTS)
    weights["conv_out.weight"] *= 1.5
    save_file(weights, other / WEIGHTS, metadata={"format": "pt"})
    store = store_of(other, copied)
    assert not store.complete, "the folder's name tells of other weights"
    shutil.copytree(copied / "compiled" / folder.name, store.folder)
    backend = load(other, copied)
    assert "what they compute differs from the model's" in caplog.text
    assert not is_compiled(backend)
    assert not store.complete
    [exact], [batched] = (run(backend, task(exact=exact, **ASKED)) for exact in (True, False))
    assert psnr(batched, exact) >= 45


def test_a_model_serves_before_it_is_compiled_and_takes_the_result_up(
    checkpoint: Path, folder: Path, plain: SdxlBackend, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The libraries come from another instance, so that nothing is compiled a second time here."""
    monkeypatch.setattr(compilations, "_DELAY_SECONDS", 1.5)
    backend = load(checkpoint, tmp_path, "auto")
    waiting = backend._model.compilation
    assert waiting is not None
    [exact] = run(plain, task(exact=True, **ASKED))
    assert psnr(run(backend, task(**ASKED))[0], exact) >= 45
    assert not is_compiled(backend)
    shutil.copytree(folder, tmp_path / "copy")
    (tmp_path / "compiled").mkdir(exist_ok=True)
    (tmp_path / "copy").rename(store_of(checkpoint, tmp_path).folder)
    while not waiting.done:
        time.sleep(0.05)
    assert psnr(run(backend, task(**ASKED))[0], exact) >= 45
    assert is_compiled(backend)


def test_a_failed_compilation_is_told_and_leaves_nothing(
    checkpoint: Path,
    plain: SdxlBackend,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The checkpoint is taken away while the model is at work, before it is compiled beside that."""
    monkeypatch.setattr(compilations, "_DELAY_SECONDS", 1.5)
    copy = Path(shutil.copytree(checkpoint, tmp_path / "copy"))
    backend = load(copy, tmp_path, "auto")
    waiting = backend._model.compilation
    assert waiting is not None
    (copy / WEIGHTS).unlink()
    while "could not be compiled" not in caplog.text:
        time.sleep(0.05)
    assert "is computed as before" in caplog.text
    assert "exit status 1: " in caplog.text
    assert f"{WEIGHTS} is missing" in caplog.text
    assert list((tmp_path / "compiled").iterdir()) == []
    assert not waiting.done
    np.testing.assert_array_equal(run(backend, task(exact=True, **ASKED)), run(plain, task(exact=True, **ASKED)))


@pytest.mark.slow
def test_a_compiler_that_fails_keeps_no_model_from_loading(
    checkpoint: Path,
    plain: SdxlBackend,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """It is called only after all that goes before it, 20 seconds of work."""
    monkeypatch.setenv("CXX", "false")
    backend = load(checkpoint, tmp_path)
    [warning] = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert "small could not be compiled and is computed as before" in warning
    assert "exit status 1: " in warning
    assert "false" in warning, "the reason names the compiler"
    assert list((tmp_path / "compiled").iterdir()) == []
    np.testing.assert_array_equal(run(backend, task(exact=True, **ASKED)), run(plain, task(exact=True, **ASKED)))


def test_the_build_ends_with_the_process_that_began_it(checkpoint: Path, tmp_path: Path) -> None:
    script = f"""
from pathlib import Path
import torch
from atelier_server.backends.base import ModelSpec
from atelier_server.backends.sdxl.compiled.compilation import Compilation
from atelier_server.backends.sdxl.compiled.store import CompiledStore
folder = Path({str(checkpoint)!r})
store = CompiledStore(Path({str(tmp_path)!r}), "small-1", folder, torch.float32)
Compilation(ModelSpec("small", "1", folder), torch.float32, store).run()
"""
    with subprocess.Popen([sys.executable, "-c", script], env=untraced()) as parent:
        watched = psutil.Process(parent.pid)
        while not (builds := watched.children()):
            assert parent.poll() is None
            time.sleep(0.05)
        os.kill(parent.pid, signal.SIGKILL)
    [build] = builds
    build.wait(120)
    assert not build.is_running()
