"""What is kept comes back equal; what is damaged never does; what is too much leaves."""

import hashlib
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from atelier_server.cache.cache import ResultCache
from atelier_server.cache.disk import DiskCache
from atelier_server.cache.memory import MemoryCache
from atelier_server.cache.result import DamagedError, KeptPicture, KeptResult, from_bytes, to_bytes
from atelier_server.types import (
    Completed,
    Dimensions,
    ImageCompleted,
    NearestReference,
    Reproducibility,
    Scores,
    Started,
    TruncatedTokens,
)

SIZE = Dimensions(64, 32)


def result(data: bytes = b"picture", seed: int = 7) -> KeptResult:
    scores = Scores(
        aesthetic_score=8.0,
        sub_scores={"light": 9.0},
        nearest_references=(NearestReference("r", 0.9),),
        warnings=("few references",),
        missing_reasons={"prompt_alignment": "off"},
    )
    digest = hashlib.sha256(data).hexdigest()
    picture = ImageCompleted(0, seed, digest, "image/png", SIZE, SIZE, scores)
    started = Started(
        "m", "1", "why", "p", None, (seed,), SIZE, SIZE, 4, 7.5, "euler", (TruncatedTokens("text_encoder", 3, 0),)
    )
    completed = Completed(
        *(5.0, {"denoise": 4.0}, False, 1, 0, Reproducibility.EXACT, "m", "1", ("seed",), 9.0, {"a": "b"}),
        accelerations=("step_caching",),
    )
    return KeptResult(started, (KeptPicture(data, picture),), completed)


def key(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()


def test_the_form_on_disk_is_read_back_equal() -> None:
    two = result()
    second = KeptPicture(b"", ImageCompleted(1, 8, hashlib.sha256(b"").hexdigest(), "image/png", SIZE, SIZE, Scores()))
    kept = KeptResult(two.started, (*two.pictures, second), two.completed)
    assert from_bytes(to_bytes(kept)) == kept
    assert kept.completed.accelerations == ("step_caching",)


@pytest.mark.parametrize("position", [0, 31, 32, 39, 40, 100, -1, -7])
def test_one_changed_bit_anywhere_is_noticed(position: int) -> None:
    data = bytearray(to_bytes(result()))
    data[position] ^= 1
    with pytest.raises((DamagedError, ValueError)):
        from_bytes(bytes(data))


@pytest.mark.parametrize("length", [0, 10, 39, 41, -1])
def test_a_cut_file_is_noticed(length: int) -> None:
    with pytest.raises((DamagedError, ValueError)):
        from_bytes(to_bytes(result())[:length])


def test_memory_keeps_the_recently_used_within_its_bytes() -> None:
    cache = MemoryCache(30)
    for name in "abc":
        cache.put(name, result(b"x" * 10))
    assert cache.get("a") is not None
    cache.put("d", result(b"x" * 10))
    assert cache.get("b") is None
    assert cache.get("a") is not None
    cache.put("huge", result(b"x" * 31))
    assert cache.get("huge") is None
    assert cache.get("a") is not None
    cache.put("a", result(b"y" * 30))
    assert cache.get("d") is None


def test_the_disk_survives_and_drops_what_is_damaged(tmp_path: Path) -> None:
    folder = tmp_path / "cache"
    DiskCache(folder, 10_000).put(key("a"), result())
    again = DiskCache(folder, 10_000)
    assert again.get(key("a")) == result()
    assert (folder.stat().st_mode & 0o777) == 0o700
    path = next(folder.iterdir())
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    assert again.get(key("a")) is None
    assert list(folder.iterdir()) == []


def test_the_disk_evicts_the_longest_unused(tmp_path: Path) -> None:
    size = len(to_bytes(result()))
    cache = DiskCache(tmp_path / "cache", int(size * 2.5))
    for age, name in ((30, "a"), (20, "b")):
        cache.put(key(name), result())
        path = tmp_path / "cache" / f"{key(name)}.result"
        os.utime(path, (path.stat().st_atime - age, path.stat().st_mtime - age))
    assert cache.get(key("a")) is not None  # used now, so b is the oldest
    cache.put(key("c"), result())
    assert cache.get(key("b")) is None
    assert cache.get(key("a")) is not None
    assert cache.get(key("c")) is not None


def test_what_a_killed_server_left_half_written_goes(tmp_path: Path) -> None:
    old, young = tmp_path / "old.part", tmp_path / "young.part"
    for path in (old, young):
        path.write_bytes(b"half")
    os.utime(old, (0, 0))
    DiskCache(tmp_path, 10_000)
    assert [path.exists() for path in (old, young)] == [False, True]


def test_threads_that_evict_at_once_do_not_disturb_each_other(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    cache = DiskCache(tmp_path, len(to_bytes(result())) * 3)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda number: cache.put(f"{number:064x}", result()), range(400)))
    assert len(list(tmp_path.iterdir())) <= 3
    assert not caplog.records


def test_a_key_cannot_leave_the_folder(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="64 hexadecimal"):
        DiskCache(tmp_path, 10_000).get("../" + "a" * 61)


def test_a_folder_that_cannot_be_written_is_logged_only(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    cache = DiskCache(tmp_path / "cache", 10_000)
    (tmp_path / "cache").rmdir()
    (tmp_path / "cache").write_text("a file now")
    cache.put(key("a"), result())
    assert cache.get(key("a")) is None
    assert "cannot be" in caplog.text


async def test_memory_is_filled_from_disk_and_the_newest_of_a_prompt_is_known(tmp_path: Path) -> None:
    with ThreadPoolExecutor(1) as pool:
        first = ResultCache(MemoryCache(1000), DiskCache(tmp_path, 10_000), pool)
        assert await first.get(key("a")) is None
        await first.put(key("a"), "prompt", result())
        await first.put(key("b"), "prompt", result(seed=8))
        assert first.newest_key("prompt") == key("b")
        assert first.newest_key("other") is None
        second = ResultCache(MemoryCache(1000), DiskCache(tmp_path, 10_000), pool)
        assert await second.get(key("a")) == result()
        next(tmp_path.glob(f"{key('a')}*")).unlink()
        assert await second.get(key("a")) == result()
