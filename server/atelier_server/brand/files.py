"""Reference pictures as files named by the SHA-256 of their content.

A picture's file is complete before any row names it, and goes after the last row that did. What a killed process left
in between is found at the next start. Writers hold a shared lock from the file to the commit, removers an exclusive
one, so that no process takes another's fresh file for a leftover; the system frees both when a process dies.
"""

import fcntl
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

_TEMPORARY = ".part-"


class PictureFiles:
    """A folder of pictures.

    Args:
        folder: Where they lie; it is made when the first one comes.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @contextmanager
    def adding(self) -> Iterator[None]:
        """Held from before a file is written until its row is committed."""
        with self._locked(fcntl.LOCK_SH):
            yield

    @contextmanager
    def removing(self) -> Iterator[None]:
        """Held while files are compared with rows and removed."""
        with self._locked(fcntl.LOCK_EX):
            yield

    def write(self, name: str, data: bytes) -> None:
        """Puts a file there, whole or not at all, and on the disk when this returns."""
        path = self._path(name)
        if path.exists():
            return
        path.parent.mkdir(exist_ok=True)
        temporary = self._folder / f"{_TEMPORARY}{uuid4().hex}"
        try:
            with temporary.open("xb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
        for folder in (path.parent, self._folder):
            _sync(folder)

    def read(self, name: str) -> bytes:
        """The file's content.

        Raises:
            OSError: It is not there.
        """
        return self._path(name).read_bytes()

    def remove(self, names: Iterable[str]) -> None:
        """Removes files; call it inside `removing`."""
        for name in names:
            self._path(name).unlink(missing_ok=True)

    def names(self) -> Iterator[str]:
        """All files."""
        for path in self._folder.glob("[0-9a-f][0-9a-f]/*"):
            yield path.name

    def remove_unfinished(self) -> None:
        """Removes what a killed process had begun to write; call it inside `removing`."""
        for path in self._folder.glob(f"{_TEMPORARY}*"):
            path.unlink(missing_ok=True)

    def _path(self, name: str) -> Path:
        return self._folder / name[:2] / name

    @contextmanager
    def _locked(self, kind: int) -> Iterator[None]:
        """Whoever waits for the lock keeps later ones behind: writers, who share it, would never let a remover in."""
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        with (self._folder / ".lock").open("ab") as file:
            with (self._folder / ".turn").open("ab") as turn:
                fcntl.flock(turn, fcntl.LOCK_EX)
                fcntl.flock(file, kind)
            yield


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
