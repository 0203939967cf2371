"""Repositories that lie elsewhere: in fsspec's memory, and on a server that speaks S3 and Google Cloud Storage."""

import logging
import os
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest

from atelier_server.errors import FailedPrecondition, NotFound, Unavailable
from atelier_server.repository import mirror as mirrors
from atelier_server.repository.mirror import Mirror, folder_of
from atelier_server.repository.remote import RemoteRepository, open_repository
from atelier_server.repository.repository import Repository
from tests.object_store import ObjectStore, object_store

ECHO = b'backend: "echo"'
URL = "memory://models"


@pytest.fixture
def memory() -> Iterator[fsspec.AbstractFileSystem]:
    """An empty file system in memory."""
    files = fsspec.filesystem("memory")
    files.store.clear()
    files.pseudo_dirs[:] = [""]
    yield files
    files.store.clear()


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> Iterator[ObjectStore]:
    """A bucket that both vendors' clients find."""
    with object_store() as served:
        for name, value in {
            "AWS_ENDPOINT_URL": served.url,
            "AWS_ACCESS_KEY_ID": "key",
            "AWS_SECRET_ACCESS_KEY": "secret",
            "AWS_DEFAULT_REGION": "us-east-1",
            "STORAGE_EMULATOR_HOST": served.url,
            "NO_GCE_CHECK": "true",
        }.items():
            monkeypatch.setenv(name, value)
        yield served


def files_of(folder: Path) -> dict[str, bytes]:
    """What lies in a folder, beside what begins with a dot."""
    files = [file for file in folder.rglob("*") if file.is_file() and not file.name.startswith(".")]
    return {str(file.relative_to(folder)): file.read_bytes() for file in files}


def test_a_copy_follows_its_original(memory: fsspec.AbstractFileSystem, tmp_path: Path) -> None:
    for path, data in {"m/config.pbtxt": ECHO, "m/1/w": b"1", "n/config.pbtxt": ECHO, "n/1/a/b": b"deep"}.items():
        memory.pipe(f"/models/{path}", data)
    mirror = Mirror(URL, tmp_path)
    mirror.sync()
    assert files_of(tmp_path) == {"m/config.pbtxt": ECHO, "m/1/w": b"1", "n/config.pbtxt": ECHO, "n/1/a/b": b"deep"}
    unchanged = (tmp_path / "m" / "1" / "w").stat()
    memory.pipe("/models/m/2/w", b"2")
    memory.rm("/models/n/1/a/b")
    mirror.sync()
    assert files_of(tmp_path) == {"m/config.pbtxt": ECHO, "m/1/w": b"1", "m/2/w": b"2", "n/config.pbtxt": ECHO}
    assert not (tmp_path / "n" / "1").exists(), "a version without files is none"
    assert (tmp_path / "m" / "1" / "w").stat() == unchanged


def test_one_model_is_read_anew_and_the_others_stay(memory: fsspec.AbstractFileSystem, tmp_path: Path) -> None:
    for name in ("m", "mm"):
        memory.pipe(f"/models/{name}/config.pbtxt", ECHO)
    mirror = Mirror(URL, tmp_path)
    mirror.sync()
    for name in ("m", "mm"):
        memory.pipe(f"/models/{name}/1/w", b"new")
    mirror.sync("m")
    assert files_of(tmp_path).keys() == {"m/config.pbtxt", "mm/config.pbtxt", "m/1/w"}
    memory.rm("/models/m", recursive=True)
    mirror.sync("m")
    assert files_of(tmp_path).keys() == {"mm/config.pbtxt"}


def test_a_file_that_was_lost_here_is_fetched_again(memory: fsspec.AbstractFileSystem, tmp_path: Path) -> None:
    memory.pipe("/models/m/1/w", b"1")
    Mirror(URL, tmp_path).sync()
    (tmp_path / "m" / "1" / "w").unlink()
    Mirror(URL, tmp_path).sync()
    assert files_of(tmp_path) == {"m/1/w": b"1"}


@pytest.mark.parametrize("scheme", ["s3", "gs"])
def test_a_bucket_is_read_by_the_versions_of_its_objects(
    store: ObjectStore, tmp_path: Path, scheme: str, caplog: pytest.LogCaptureFixture
) -> None:
    pytest.importorskip({"s3": "s3fs", "gs": "gcsfs"}[scheme], reason=f"the extra {scheme} is not installed")
    good = {"m/config.pbtxt": ECHO, "m/1/w": b"1" * 100_000, "m/1/two words": b"2"}
    bad = {
        "../../evil": b"x",
        "m/../../../evil": b"x",
        "m//evil": b"x",
        "m/1/\\evil": b"x",
        ".hidden/x": b"x",
        "m/2/": b"",
    }
    store.objects = {f"models/{path}": data for path, data in (good | bad).items()} | {"models2/m/x": b"x"}
    folder = tmp_path / "a" / "b" / "c"
    mirror = Mirror(f"{scheme}://bucket/models/", folder)
    mirror.sync()
    assert files_of(folder) == good
    assert [path for path in tmp_path.rglob("*evil*") if path.is_file()] == []
    assert sum("its name is none of a file" in one.getMessage() for one in caplog.records) == 4
    store.got.clear()
    mirror.sync()
    assert store.got == [], "nothing changed, and nothing is fetched"
    store.objects["models/m/1/w"] = b"3" * 100_000
    mirror.sync("m")
    assert [key.rpartition("/")[2] for key in store.got] == ["w"]
    assert (folder / "m" / "1" / "w").read_bytes() == b"3" * 100_000
    store.broken = True
    with pytest.raises(Unavailable, match=f"{scheme}://bucket/models cannot be read") as caught:
        mirror.sync()
    assert caught.value.reason == "REPOSITORY_UNREACHABLE"
    assert files_of(folder).keys() == good.keys(), "what was copied stays"


def test_an_extra_that_is_missing_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def missing(_: str, **__: object) -> None:
        raise ImportError("Please install s3fs")

    monkeypatch.setattr("fsspec.core.url_to_fs", missing)
    with pytest.raises(FailedPrecondition, match=r"pip install 'atelier-server\[s3\]'"):
        RemoteRepository("s3://bucket/models", tmp_path)


def test_a_repository_elsewhere_is_one(memory: fsspec.AbstractFileSystem, tmp_path: Path) -> None:
    memory.pipe("/models/m/config.pbtxt", b'backend: "onnx"')
    repository = open_repository(URL, tmp_path)
    assert repository.root == folder_of(URL, tmp_path)
    (entry,) = repository.scan()
    assert (entry.name, entry.provided) == ("m", False)
    memory.pipe("/models/m/3/model.onnx", b"weights")
    assert (repository.find("m").problem, repository.find("m").chosen) == ("", (3,))
    for name in ("../m", "nobody", ""):
        with pytest.raises(NotFound):
            repository.find(name)
    assert isinstance(open_repository(tmp_path, tmp_path), Repository)


def test_parts_of_an_ensemble_come_with_it(memory: fsspec.AbstractFileSystem, tmp_path: Path) -> None:
    repository = open_repository(URL, tmp_path)
    chain = (
        'platform: "ensemble" input { name: "x" data_type: TYPE_FP32 dims: 1 } '
        'output { name: "y" data_type: TYPE_FP32 dims: 1 } ensemble_scheduling { step { model_name: "m" '
        'input_map { key: "i" value: "x" } output_map { key: "o" value: "y" } } }'
    )
    memory.pipe("/models/chain/config.pbtxt", chain.encode())
    memory.pipe("/models/m/config.pbtxt", ECHO)
    assert repository.find("chain").problem == ""


def test_a_copy_made_before_serves_while_the_original_cannot_be_read(
    memory: fsspec.AbstractFileSystem, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    memory.pipe("/models/m/config.pbtxt", ECHO)

    def fails(*_: object, **__: object) -> None:
        raise OSError("the network is down")

    with monkeypatch.context() as down:
        down.setattr(type(memory), "find", fails)
        with pytest.raises(Unavailable, match="the network is down"):
            open_repository(URL, tmp_path).scan()
    open_repository(URL, tmp_path).scan()
    monkeypatch.setattr(type(memory), "find", fails)
    caplog.set_level(logging.WARNING)
    again = open_repository(URL, tmp_path)
    assert [entry.name for entry in again.scan()] == ["m"]
    assert "the copy made before is used" in caplog.text
    with pytest.raises(Unavailable):
        again.find("m")


def test_a_fetch_that_breaks_off_changes_nothing(
    memory: fsspec.AbstractFileSystem, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory.pipe("/models/m/1/w", b"1")
    mirror = Mirror(URL, tmp_path)
    mirror.sync()
    memory.pipe("/models/m/1/w", b"22")

    def breaks_off(_: object, sources: list[str], targets: list[str]) -> None:
        Path(targets[0]).write_bytes(b"2")
        raise OSError(28, os.strerror(28))

    with monkeypatch.context() as full:
        full.setattr(type(memory), "get", breaks_off)
        with pytest.raises(Unavailable, match="No space left"):
            mirror.sync()
    assert files_of(tmp_path) == {"m/1/w": b"1"}
    assert not (tmp_path / mirrors._INCOMING).exists()
    mirror.sync()
    assert files_of(tmp_path) == {"m/1/w": b"22"}
