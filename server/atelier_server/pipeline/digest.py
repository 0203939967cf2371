"""Digests of plain data and of loaded models."""

import contextlib
import hashlib
import json
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

from atelier_server.executor.base import Executor

_known: WeakKeyDictionary[Executor, tuple[int, str]] = WeakKeyDictionary()


def digest(value: object) -> str:
    """SHA-256 of plain data and dataclasses in a canonical form, 64 hexadecimal digits."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=_plain).encode()).hexdigest()


def model_digest(instance: Executor) -> str:
    """Changes when a file of the version's folder does: names, sizes and times, not contents of gigabytes.

    The folder is looked at when the instance is first asked about, and again after a restart: until then it computes
    with what it has loaded, whatever lies on disk.
    """
    restarts = instance.status().restarts
    known = _known.get(instance)
    if known is None or known[0] != restarts:
        known = _known[instance] = (restarts, _folder_digest(instance.spec.folder))
    return known[1]


def _plain(value: Any) -> object:
    """As dataclasses.asdict, which copies everything below it too."""
    if is_dataclass(value):
        return {one.name: getattr(value, one.name) for one in fields(value)}
    return str(value)


def _folder_digest(folder: Path) -> str:
    found = []
    for path in folder.rglob("*") if folder.is_dir() else ():
        with contextlib.suppress(FileNotFoundError):  # somebody tidies up while this looks
            if path.is_file():
                about = path.stat()
                found.append((str(path.relative_to(folder)), about.st_size, about.st_mtime_ns))
    return digest(sorted(found)) if found else ""
