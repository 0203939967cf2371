"""A local copy of a folder on s3:// or gs://, kept by the objects' versions, through fsspec."""

import hashlib
import importlib
import json
import logging
import os
import shutil
import threading
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Protocol, cast

from atelier_server.errors import FailedPrecondition, Unavailable

LOG = logging.getLogger(__name__)
Versions = dict[str, str]
"""The version of every object by its path below the folder."""

_EXTRAS = {"s3": "s3", "gs": "gs"}
_MARKS = ("ETag", "etag", "md5Hash", "generation", "created", "mtime", "LastModified")
"""What file systems call a version, best first; the size is a part of it too."""
_INCOMING, _MANIFEST = ".incoming", ".manifest.json"
_LONGEST_NAME = 255


class FileSystem(Protocol):
    """What is used of an fsspec file system."""

    def find(self, path: str, *, detail: bool) -> dict[str, dict[str, Any]]:
        """Every object below a path."""

    def get(self, rpath: list[str], lpath: list[str]) -> object:
        """Fetches objects to files."""

    def invalidate_cache(self) -> None:
        """Forgets listings."""


class Mirror:
    """Copies a remote folder.

    Args:
        url: Such as s3://bucket/models. Credentials are the environment's, as the vendor's own tools have them.
        folder: Where the copy lies; made when missing.

    Raises:
        FailedPrecondition: The package for this kind of address is not installed.
    """

    def __init__(self, url: str, folder: Path) -> None:
        self.url = url.rstrip("/")
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self._files, self._root = _open(self.url)
        self._one_at_a_time = threading.Lock()

    @property
    def is_filled(self) -> bool:
        """Whether the folder was copied as a whole before, perhaps by an earlier process."""
        return (self.folder / _MANIFEST).is_file()

    def sync(self, below: str = "") -> None:
        """Fetches what is new or has another version, and removes what is gone.

        Args:
            below: Only this folder of it; "" is all.

        Raises:
            Unavailable: It cannot be read; what was copied before stays.
        """
        with self._one_at_a_time:
            self._sync(below)

    def _sync(self, below: str) -> None:
        known = self._read_manifest()
        try:
            found = self._listed(below)
            stale = [path for path, version in found.items() if not self._has(path, version, known)]
            self._fetch(stale)
        except Exception as error:  # every file system has errors of its own
            LOG.debug("cannot read %s", self.url, exc_info=error)
            told = f"the model repository {self.url} cannot be read: {type(error).__name__}: {str(error)[:200]}"
            raise Unavailable(told, reason="REPOSITORY_UNREACHABLE", retry_after_seconds=15.0) from error
        gone = [path for path in known if _is_below(path, below) and path not in found]
        self._remove(gone)
        kept = {path: version for path, version in known.items() if not _is_below(path, below)}
        if not below or self.is_filled:
            self._write_manifest(kept | found)
        if stale or gone:
            LOG.info("%s: %d files fetched, %d removed", self.url, len(stale), len(gone))

    def _listed(self, below: str) -> Versions:
        self._files.invalidate_cache()
        top = f"{self._root}/{below}" if below else self._root
        objects = self._files.find(top, detail=True)
        found: Versions = {}
        for name, facts in objects.items():
            path = name.lstrip("/").removeprefix(self._root.lstrip("/")).lstrip("/")
            if name.endswith("/") or facts.get("type") == "directory":
                continue
            if not _stays_inside(path):
                LOG.warning("%s: the object %r is left out: its name is none of a file", self.url, name[:200])
            elif not path.startswith("."):
                found[path] = _version(facts)
        return found

    def _has(self, path: str, version: str, known: Mapping[str, str]) -> bool:
        return known.get(path) == version and (self.folder / path).is_file()

    def _fetch(self, paths: Iterable[str]) -> None:
        """Every file appears at once and whole; configurations last, so that a model is there when it can be seen."""
        ordered = sorted(paths, key=lambda path: (path.count("/") < 2, path))
        incoming = self.folder / _INCOMING
        shutil.rmtree(incoming, ignore_errors=True)
        incoming.mkdir()
        arrived = [incoming / str(number) for number in range(len(ordered))]
        try:
            if ordered:
                self._files.get([f"{self._root}/{path}" for path in ordered], [str(file) for file in arrived])
            for path, file in zip(ordered, arrived, strict=True):
                (self.folder / path).parent.mkdir(parents=True, exist_ok=True)
                os.replace(file, self.folder / path)
        finally:
            shutil.rmtree(incoming, ignore_errors=True)

    def _remove(self, paths: Iterable[str]) -> None:
        for path in paths:
            file = self.folder / path
            file.unlink(missing_ok=True)
            for parent in file.relative_to(self.folder).parents:
                if parent.parts and not any((self.folder / parent).iterdir()):
                    (self.folder / parent).rmdir()

    def _read_manifest(self) -> Versions:
        try:
            return dict(json.loads((self.folder / _MANIFEST).read_text()))
        except (OSError, ValueError):
            return {}

    def _write_manifest(self, versions: Versions) -> None:
        fresh = self.folder / f"{_MANIFEST}.new"
        fresh.write_text(json.dumps(versions, indent=1, sort_keys=True))
        os.replace(fresh, self.folder / _MANIFEST)


def folder_of(url: str, cache: Path) -> Path:
    """Where the copy of an address lies in a cache."""
    return cache / hashlib.sha256(url.rstrip("/").encode()).hexdigest()[:16]


def _open(url: str) -> tuple[FileSystem, str]:
    scheme = url.partition("://")[0]
    try:
        url_to_fs = importlib.import_module("fsspec.core").url_to_fs
        files, root = url_to_fs(url, skip_instance_cache=True)  # a cached one keeps the environment it was made in
    except ImportError as error:
        extra = _EXTRAS.get(scheme, scheme)
        told = f"model repositories on {scheme}:// need the extra {extra}: pip install 'atelier-server[{extra}]'"
        raise FailedPrecondition(told, reason="EXTRA_MISSING", field="model_repository") from error
    return cast(FileSystem, files), str(root).rstrip("/")


def _version(facts: Mapping[str, Any]) -> str:
    mark = next((str(facts[name]) for name in _MARKS if facts.get(name)), "")
    return f"{mark}/{facts.get('size')}"


def _stays_inside(path: str) -> bool:
    pieces = path.split("/")
    return all(
        piece not in ("", ".", "..") and len(piece.encode()) <= _LONGEST_NAME and not {"\\", "\0"} & set(piece)
        for piece in pieces
    )


def _is_below(path: str, folder: str) -> bool:
    return not folder or path.startswith(f"{folder}/")
