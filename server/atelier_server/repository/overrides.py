"""Models that come with a load request: another configuration, or all their files. They last until the next load.

The files lie under the state directory while their model is loaded, since a runner may have to start again.
"""

import re
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath

from atelier_server.errors import InvalidArgument, NotFound
from atelier_server.repository.model_config import CONFIG_FILE, parse_model_config_json
from atelier_server.repository.repository import NAME, VERSION, ModelEntry, Repository

FILE = "file:"
"""What the names of parameters begin with that carry a file."""
MOST_FILES = 1000
_PIECE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,199}")
_DEEPEST = 8


@dataclass(frozen=True, slots=True)
class Override:
    """What a load request brings: `config` a ModelConfig as JSON, `files` contents by path in the model's folder."""

    config: str
    files: Mapping[str, bytes] = field(default_factory=dict)


class Overrides:
    """Keeps what load requests brought.

    Args:
        folder: Where the files lie; what a server that crashed left there is removed. None: a temporary folder.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)

    def entry(self, repository: Repository, name: str, override: Override) -> ModelEntry:
        """The model as the request wants it.

        Raises:
            InvalidArgument: The configuration is wrong, or a file's path.
            NotFound: Without files the model must be one of the repository.
        """
        if not NAME.fullmatch(name):
            raise NotFound(f"there is no model {name[:100]!r}", reason="MODEL_NOT_FOUND", field="model_name")
        config = parse_model_config_json(override.config, name)
        if not override.files:
            return repository.overridden(repository.find(name).folder, config)
        for path in override.files:
            _check_path(path)
        if len(override.files) > MOST_FILES:
            raise InvalidArgument(f"a load brings {MOST_FILES} files at most", field="parameters")
        if self._folder is not None:
            self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        parent = Path(tempfile.mkdtemp(prefix="override-", dir=self._folder))
        try:
            _write(parent / name, override.files)
            return replace(repository.overridden(parent / name, config), temporary=parent)
        except BaseException:
            shutil.rmtree(parent, ignore_errors=True)
            raise


def discard(entry: ModelEntry) -> None:
    """Removes the files that came with a load request, if the model has such."""
    if entry.temporary is not None:
        shutil.rmtree(entry.temporary, ignore_errors=True)


def _check_path(path: str) -> None:
    """Refuses all but <version>/<path> and the name of a file beside the versions, such as labels.txt."""
    pieces = path.split("/")
    plain = all(_PIECE.fullmatch(piece) for piece in pieces) and len(pieces) <= _DEEPEST
    in_version = len(pieces) > 1 and VERSION.fullmatch(pieces[0])
    beside = len(pieces) == 1 and path != CONFIG_FILE and not path.isdecimal()
    if not plain or not (in_version or beside):
        raise InvalidArgument(
            f"{FILE}{path[:100]!r}: give {FILE}<version>/<path>, with letters, digits, '.', '_' and '-' in its parts",
            field=f"{FILE}{path[:100]}",
        )


def _write(folder: Path, files: Mapping[str, bytes]) -> None:
    folder.mkdir()
    for path, data in files.items():
        file = folder / PurePosixPath(path)
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(data)
        except (FileExistsError, NotADirectoryError, IsADirectoryError):
            told = f"{FILE}{path} is a file and a folder at once"
            raise InvalidArgument(told, field=f"{FILE}{path}") from None
