"""Results on disk, one file each, so that they survive a restart.

No database and no pickle: a file is written beside its place and moved there, its digests are checked at every read,
and its time of change orders it for eviction.
"""

import contextlib
import logging
import os
import re
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from atelier_server.cache.result import DamagedError, KeptResult, from_bytes, to_bytes

LOG = logging.getLogger(__name__)

_KEY = re.compile(r"[0-9a-f]{64}")
SUFFIX, PART = ".result", ".part"
PART_SECONDS = 3600.0
"""Nobody writes one file for so long."""


class DiskCache:
    """A folder of results. Its methods block: call them in a thread.

    Args:
        folder: Made when missing, readable by its owner only.
        capacity_bytes: Bytes that may be kept.
    """

    def __init__(self, folder: Path, capacity_bytes: int) -> None:
        self._folder = folder
        self._capacity = capacity_bytes
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for changed, _, path in self._found(PART):  # of a server that was killed; young ones may be another's
            if changed < time.time() - PART_SECONDS:
                path.unlink(missing_ok=True)

    def get(self, key: str) -> KeptResult | None:
        """The result of a key. A damaged one is removed and counts as missing."""
        path = self._path(key)
        try:
            result = from_bytes(path.read_bytes())
            os.utime(path)
        except FileNotFoundError:
            return None
        except (DamagedError, KeyError, TypeError, ValueError) as error:
            LOG.warning("a damaged cache entry was dropped: %s", error)
            path.unlink(missing_ok=True)
            return None
        except OSError as error:
            LOG.warning("the disk cache cannot be read: %s", error)
            return None
        return result

    def put(self, key: str, result: KeptResult) -> None:
        """Keeps a result; a full disk is logged, never raised."""
        data = to_bytes(result)
        if len(data) > self._capacity:
            return
        try:
            self._write(self._path(key), data)
            self._evict()
        except OSError as error:
            LOG.warning("the disk cache cannot be written: %s", error)

    def _write(self, path: Path, data: bytes) -> None:
        descriptor, name = tempfile.mkstemp(dir=self._folder, suffix=PART)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(data)
            os.replace(name, path)
        except OSError:
            with contextlib.suppress(OSError):
                os.unlink(name)
            raise

    def _evict(self) -> None:
        entries = sorted(self._found(SUFFIX))
        size = sum(entry[1] for entry in entries)
        for _, length, path in entries:
            if size <= self._capacity:
                break
            path.unlink(missing_ok=True)
            size -= length

    def _found(self, suffix: str) -> Iterator[tuple[float, int, Path]]:
        """Time of change, bytes and path of each file; another thread, or server, may remove some meanwhile."""
        for path in self._folder.glob(f"*{suffix}"):
            with contextlib.suppress(FileNotFoundError):
                about = path.stat()
                yield about.st_mtime, about.st_size, path

    def _path(self, key: str) -> Path:
        if not _KEY.fullmatch(key):
            raise ValueError("a key is 64 hexadecimal digits")
        return self._folder / f"{key}{SUFFIX}"
