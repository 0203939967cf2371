"""Follows the repository under --model-control-mode poll: what appears is loaded, what changes is replaced."""

import asyncio
import logging
import os
from pathlib import Path

from atelier_server.errors import AtelierError
from atelier_server.repository.model_config import CONFIG_FILE
from atelier_server.repository.registry import Registry
from atelier_server.repository.repository import ModelEntry
from atelier_server.repository.state import InstanceT

LOG = logging.getLogger(__name__)
Fingerprint = tuple[tuple[str, int, int], ...]


class Poller:
    """Compares the repository with what it was.

    Args:
        registry: What loads and unloads.
    """

    def __init__(self, registry: Registry[InstanceT]) -> None:
        self._registry = registry
        self._seen: dict[str, Fingerprint] = {}

    async def begin(self) -> None:
        """Notes what is there. Called before the registry loads it, so that what changes meanwhile is loaded anew.

        Raises:
            AtelierError: The repository cannot be read.
        """
        self._seen = await asyncio.to_thread(self._found)

    async def run(self, seconds: float) -> None:
        """Looks every so many seconds until it is cancelled."""
        while True:
            await asyncio.sleep(seconds)
            try:
                await self.look()
            except (AtelierError, OSError) as error:  # the next look may find the repository again
                LOG.warning("the model repository cannot be read: %s", error)
            except (
                Exception
            ):  # a fault at one look must not end all later ones, nor be heard of at the server's end only
                LOG.exception("a look at the model repository failed")

    async def look(self) -> None:
        """Looks once. A model that could not be loaded is tried again only when its files change."""
        found = await asyncio.to_thread(self._found)
        for name in self._seen.keys() - found.keys():
            await self._registry.forget(name)
        changed = [name for name, files in found.items() if self._seen.get(name) != files]
        self._seen = found
        await asyncio.gather(*(self._registry.load_quietly(name) for name in changed))

    def _found(self) -> dict[str, Fingerprint]:
        return {entry.name: fingerprint(entry) for entry in self._registry.repository.scan()}


def fingerprint(entry: ModelEntry) -> Fingerprint:
    """Path, size and time of config.pbtxt and of every file of the versions that would be served.

    An ensemble is checked against the models that it chains, so their config.pbtxt count too.
    """
    folders = [entry.folder / str(version) for version in entry.chosen]
    parts = [entry.folder.parent / name / CONFIG_FILE for name in entry.parts]
    files = [entry.folder / CONFIG_FILE, *parts, *(file for folder in folders for file in _files(folder))]
    return tuple(_stamp(file) for file in files)


def _files(folder: Path) -> list[Path]:
    return sorted(Path(parent) / name for parent, _, names in os.walk(folder) for name in names)


def _stamp(file: Path) -> tuple[str, int, int]:
    try:
        stat = file.stat()
    except OSError:  # it is being replaced; the next look sees it
        return str(file), 0, 0
    return str(file), stat.st_size, stat.st_mtime_ns
