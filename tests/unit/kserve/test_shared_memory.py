"""Regions of shared memory, on files of an ordinary folder."""

import os
import resource
from collections.abc import Iterator
from pathlib import Path

import pytest

from atelier_server.errors import ResourceExhausted
from atelier_server.frontend.kserve.shared_memory import SharedMemory


@pytest.fixture
def memory(tmp_path: Path) -> Iterator[SharedMemory]:
    """A region of 8 KiB, of which the system gives 4."""
    (tmp_path / "region").touch()
    os.truncate(tmp_path / "region", 8192)
    memory = SharedMemory(tmp_path)
    memory.register("region", "region", 0, 8192)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limits[1]))
    yield memory
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    memory.close()


@pytest.mark.parametrize(("offset", "told"), [(0, "4096 of 6000 bytes"), (4096, "File too large")])
def test_a_region_that_the_system_has_no_room_for_is_told(memory: SharedMemory, offset: int, told: str) -> None:
    with pytest.raises(ResourceExhausted, match=told):
        memory.write("region", offset, b"x" * (6000 if offset == 0 else 10))
    memory.write("region", 0, b"fits")
    assert memory.read("region", 0, 4) == b"fits"
