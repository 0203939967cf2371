"""Fetching weights over the Hub's protocol: what is asked for, what is kept, and what happens to broken downloads."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from atelier_server.errors import FailedPrecondition, Unavailable
from atelier_server.repository.fetch import fetch
from atelier_server.repository.repository import ModelEntry, Repository
from tests.hub_kit import REVISION, Hub, running_hub

HELD = [
    "model_index.json",
    "README.md",
    "scheduler/scheduler_config.json",
    "tokenizer/vocab.json",
    "tokenizer_2/merges.txt",
    *(f"{part}/config.json" for part in ("text_encoder", "text_encoder_2", "unet", "vae", "vae_1_0")),
    *(f"{part}/model{kind}.safetensors" for part in ("text_encoder", "unet", "vae") for kind in ("", ".fp16")),
    "unet/model.bin",
    "unet/model.onnx",
    "sd_xl_base_1.0.safetensors",
]


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    with running_hub("somebody/xl", {name: name.encode() for name in HELD}) as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        yield hub


def downloads(hub: Hub) -> list[str]:
    return [request for request in hub.requests if request.startswith("GET /somebody")]


def entry(root: Path, backend: str = "sdxl", **parameters: str) -> ModelEntry:
    values = {"source_repo": "somebody/xl", "source_revision": REVISION} | parameters
    lines = [f'parameters {{ key: "{key}" value {{ string_value: "{value}" }} }}' for key, value in values.items()]
    (root / "m").mkdir(exist_ok=True)
    (root / "m" / "config.pbtxt").write_text("\n".join([f'backend: "{backend}"', *lines]))
    return Repository(root, environment={}).find("m")


def kept(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def test_a_pinned_revision_of_one_number_format_is_kept(tmp_path: Path, hub: Hub) -> None:
    folder = fetch(entry(tmp_path, source_variant="fp16"))
    assert all(f"/resolve/{REVISION}/" in request for request in downloads(hub))
    assert folder == tmp_path / "m" / "1"
    parts = ("text_encoder", "text_encoder_2", "unet", "vae")
    assert kept(folder) == {
        *HELD[:1],
        *HELD[2:5],
        *(f"{part}/config.json" for part in parts),
        *(f"{part}/model.safetensors" for part in ("text_encoder", "unet", "vae")),
    }
    assert (folder / "unet" / "model.safetensors").read_text() == "unet/model.fp16.safetensors"
    assert Repository(tmp_path).find("m").problem == ""
    assert not (tmp_path / "m" / ".fetch").exists()


def test_without_a_variant_the_plain_weights_are_kept(tmp_path: Path, hub: Hub) -> None:
    folder = fetch(entry(tmp_path))
    assert (folder / "unet" / "model.safetensors").read_text() == "unet/model.safetensors"
    assert not list(folder.rglob("*fp16*"))


def test_what_is_there_already_is_not_fetched_again(tmp_path: Path, hub: Hub) -> None:
    fetch(entry(tmp_path))
    asked = len(hub.requests)
    assert fetch(Repository(tmp_path).find("m")) == tmp_path / "m" / "1"
    assert len(hub.requests) == asked


def test_an_interrupted_download_leaves_no_version_and_goes_on_later(
    tmp_path: Path, hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.file_download.time.sleep", lambda seconds: None)
    hub.files["unet/model.safetensors"] = bytes(range(256)) * 65_536
    hub.cut_at = 12_000_000
    with pytest.raises(Unavailable, match="run the command again"):
        fetch(entry(tmp_path))
    assert Repository(tmp_path).find("m").versions == ()
    hub.cut_at = None
    hub.requests.clear()
    folder = fetch(Repository(tmp_path).find("m"))
    assert (folder / "unet" / "model.safetensors").read_bytes() == hub.files["unet/model.safetensors"]
    (again,) = [request for request in downloads(hub) if "unet/model.safetensors" in request]
    assert "bytes=" in again
    assert not [request for request in downloads(hub) if "model_index.json" in request]
    assert Repository(tmp_path).find("m").chosen == (1,)


@pytest.mark.parametrize("name", ["unet/model.safetensors", "unet/config.json"])
def test_a_download_that_came_damaged_is_refused_and_loaded_again(tmp_path: Path, hub: Hub, name: str) -> None:
    hub.damage.add(name)
    with pytest.raises(Unavailable, match=f"{name} of somebody/xl came damaged"):
        fetch(entry(tmp_path))
    assert Repository(tmp_path).find("m").versions == ()
    hub.damage.clear()
    assert (fetch(Repository(tmp_path).find("m")) / name).read_bytes() == name.encode()


def test_a_repository_that_is_not_there_is_told(tmp_path: Path, hub: Hub) -> None:
    with pytest.raises(FailedPrecondition, match="nobody/xl"):
        fetch(entry(tmp_path, source_repo="nobody/xl"))


def test_a_hub_that_cannot_be_reached_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr("time.sleep", lambda seconds: None)  # the library's own pauses between its tries
    with pytest.raises(Unavailable, match="run the command again"):
        fetch(entry(tmp_path))


def test_files_that_run_code_are_never_asked_for(tmp_path: Path, hub: Hub) -> None:
    bad = ("tokenizer/evil.py", "unet/diffusion_pytorch_model.bin", "vae/model.ckpt", "scheduler/x.pkl")
    hub.files |= dict.fromkeys(bad, b"x")
    assert {Path(name).suffix for name in kept(fetch(entry(tmp_path)))} == {".json", ".txt", ".safetensors"}


def test_files_of_the_owner_are_not_overwritten(tmp_path: Path, hub: Hub) -> None:
    one = entry(tmp_path)
    (tmp_path / "m" / "1").mkdir()
    (tmp_path / "m" / "1" / "mine.txt").write_text("mine")
    with pytest.raises(FailedPrecondition, match="not empty, but incomplete"):
        fetch(Repository(tmp_path).find(one.name))
    assert kept(tmp_path / "m" / "1") == {"mine.txt"}
    assert hub.requests == []


def test_a_damaged_file_is_replaced_when_asked_again(tmp_path: Path, hub: Hub) -> None:
    damaged = fetch(entry(tmp_path)) / "unet" / "model.safetensors"
    damaged.write_text("")
    assert fetch(Repository(tmp_path).find("m"), again=True) == tmp_path / "m" / "1"
    assert damaged.read_text() == "unet/model.safetensors"
    assert sorted(path.name for path in (tmp_path / "m").iterdir()) == ["1", "config.pbtxt"]


def test_what_this_release_cannot_fetch_says_so(tmp_path: Path, hub: Hub) -> None:
    with pytest.raises(FailedPrecondition, match=r"no model that this release can fetch; put model\.onnx into"):
        fetch(entry(tmp_path, backend="onnx"))
