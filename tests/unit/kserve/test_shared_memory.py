"""Regions of shared memory, on files of an ordinary folder."""

import multiprocessing.shared_memory
import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from atelier_server.errors import ResourceExhausted
from atelier_server.frontend.kserve.shared_memory import ClientsMemory, SharedMemory


@pytest.fixture
def memory(tmp_path: Path) -> Iterator[SharedMemory]:
    """A region of 8 KiB."""
    (tmp_path / "region").touch()
    os.truncate(tmp_path / "region", 8192)
    memory = SharedMemory(tmp_path)
    memory.register("region", "region", 0, 8192)
    yield memory
    memory.close()


@contextmanager
def files_of_4_kib() -> Iterator[None]:
    """No file of this process grows beyond; only for the time of one call, since pytest's own output may be a file."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def test_the_regions_of_all_clients_together_have_a_bound(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Each holds a file open, and without files the server takes no calls."""
    monkeypatch.setattr("atelier_server.frontend.kserve.shared_memory.MAX_REGIONS", 3)
    block = multiprocessing.shared_memory.SharedMemory(create=True, size=16)
    clients = ClientsMemory()
    try:
        for client, name in (("a", "1"), ("a", "2"), ("b", "1")):
            clients.of(client).register(name, block.name, 0, 16)
        with pytest.raises(ResourceExhausted, match="3 shared memory regions"):
            clients.of("c").register("1", block.name, 0, 16)
        clients.of("a").unregister("1")
        clients.of("c").register("1", block.name, 0, 16)
    finally:
        clients.close()
        block.close()
        block.unlink()


def test_files_that_run_out_are_not_the_callers_fault(tmp_path: Path) -> None:
    (tmp_path / "region").write_bytes(b"x")
    memory, limits = SharedMemory(tmp_path), resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, limits[1]))  # as many as are open at least
    try:
        with pytest.raises(ResourceExhausted, match="Too many open files"):
            memory.register("region", "region", 0, 1)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)


@pytest.mark.parametrize(("offset", "told"), [(0, "4096 of 6000 bytes"), (4096, "File too large")])
def test_a_region_that_the_system_has_no_room_for_is_told(memory: SharedMemory, offset: int, told: str) -> None:
    with files_of_4_kib():
        with pytest.raises(ResourceExhausted, match=told):
            memory.write("region", offset, b"x" * (6000 if offset == 0 else 10))
        memory.write("region", 0, b"fits")
    assert memory.read("region", 0, 4) == b"fits"
