"""Model repositories that lie elsewhere: the same folder, as a copy that follows its original."""

import logging
from collections.abc import Mapping
from pathlib import Path

from atelier_server.errors import Unavailable
from atelier_server.repository.mirror import Mirror, folder_of
from atelier_server.repository.repository import NAME, ModelEntry, Repository

LOG = logging.getLogger(__name__)


class RemoteRepository(Repository):
    """A repository on s3:// or gs://, copied before it is read.

    Args:
        url: Its address.
        cache: Where the copies of repositories lie.
        environment: As for Repository.
    """

    def __init__(self, url: str, cache: Path, environment: Mapping[str, str] | None = None) -> None:
        self._mirror = Mirror(url, folder_of(url, cache))
        super().__init__(self._mirror.folder, environment)

    def scan(self) -> list[ModelEntry]:
        """See Repository. While the original cannot be read, the copy made before is used, even by an earlier process.

        Raises:
            Unavailable: It cannot be read, and never was.
        """
        try:
            self._mirror.sync()
        except Unavailable as error:
            if not self._mirror.is_filled:
                raise
            LOG.warning("%s; the copy made before is used", error.message)
        return super().scan()

    def find(self, name: str) -> ModelEntry:
        """See Repository. What a request wants loaded is read anew.

        Raises:
            NotFound: There is none of this name.
            Unavailable: The original cannot be read.
        """
        if NAME.fullmatch(name):
            self._mirror.sync(name)
        entry = super().find(name)
        if entry.parts:  # an ensemble is read with the models that it chains
            self._mirror.sync()
            entry = super().find(name)
        return entry


def open_repository(location: Path | str, cache: Path, environment: Mapping[str, str] | None = None) -> Repository:
    """A repository in a folder, or at an address whose copy lies in `cache`.

    Raises:
        InvalidArgument: There is no such folder.
        FailedPrecondition: The package for this kind of address is not installed.
    """
    if isinstance(location, Path):
        return Repository(location, environment)
    return RemoteRepository(location, cache, environment)
