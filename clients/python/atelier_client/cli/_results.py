"""The record of a folder of pictures: one line of JSON a row, added as soon as the row's pictures are written."""

import hashlib
import json
import secrets
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, Any, Self

from atelier_client._errors import FailedPrecondition, InvalidArgument

NAME = "results.jsonl"
_LOCK = ".atelier-batch"


class Results:
    """Opens the record of a folder for one batch at a time; use it in a `with`.

    Args:
        folder: The pictures' folder; it is there.

    Raises:
        FailedPrecondition: Another batch writes into this folder.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / NAME
        self._folder = folder
        self._lock = _open_locked(folder / _LOCK)
        self._salt = _salt(self._lock)
        self._lines = read_results(folder)
        self._failures: Counter[str] = Counter()
        for line in self._lines:
            if "error" in line:
                self._failures[str(line.get("key"))] = int(line["error"].get("times", 1))
        self._file = self.path.open("ab")
        if self._lines and not self.path.read_bytes().endswith(b"\n"):
            self._file.write(b"\n")  # the line that a killed batch left half written ends here

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()
        self._lock.close()

    def request_id(self, key: str) -> str:
        """The name of a row's call: the same until the call has failed, so that a batch that was killed between the
        server's answer and its own record finds the pictures again."""
        return hashlib.sha256(f"{self._salt} {key} {self._failures[key]}".encode()).hexdigest()[:32]

    def done(self) -> Mapping[str, Mapping[str, Any]]:
        """The lines of rows whose pictures are all there, unchanged, by the rows' keys."""
        latest = {str(line["key"]): line for line in self._lines if "key" in line}
        return {key: line for key, line in latest.items() if self._is_whole(line)}

    def add(self, line: Mapping[str, Any]) -> None:
        """Writes the line of a row that came to its end; an error says how often the row has failed by now."""
        if "error" in line:
            line = {**line, "error": {**line["error"], "times": self._failures[str(line["key"])] + 1}}
        self._file.write(_encode(line))
        self._file.flush()
        self._lines.append(line)

    def finish(self, keys: Sequence[str]) -> None:
        """Puts the lines into the order of the rows, one each; lines of rows that are gone are left out."""
        latest = {str(line.get("key")): line for line in self._lines}
        unfinished = self.path.with_name(f"{self.path.name}.new")
        unfinished.write_bytes(b"".join(_encode(latest[key]) for key in keys))
        unfinished.replace(self.path)

    def _is_whole(self, line: Mapping[str, Any]) -> bool:
        try:
            files = [(self._folder / image["path"], image["sha256"]) for image in line.get("images", ())]
            return bool(files) and all(hashlib.sha256(path.read_bytes()).hexdigest() == sha for path, sha in files)
        except (OSError, KeyError, TypeError):
            return False


def read_results(folder: Path) -> list[Mapping[str, Any]]:
    """The lines of a folder's record; a half-written last one is left out.

    Raises:
        InvalidArgument: The record is there and cannot be read.
    """
    path = folder / NAME
    try:
        text = path.read_text("utf-8", errors="replace")
    except FileNotFoundError:
        return []
    except OSError as error:
        raise InvalidArgument(f"{path} cannot be read: {error.strerror}.", field="output") from error
    lines: list[Mapping[str, Any]] = []
    for text_line in text.split("\n"):
        with suppress(ValueError):
            found = json.loads(text_line)
            if isinstance(found, dict):
                lines.append(found)
    return lines


def _encode(line: Mapping[str, Any]) -> bytes:
    return json.dumps(line, default=str).encode() + b"\n"


def _open_locked(path: Path) -> IO[str]:
    file = path.open("a+")
    try:
        import fcntl
    except ModuleNotFoundError:  # Windows: two batches in one folder are not kept apart there
        return file
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        file.close()
        message = f"Another batch writes into {path.parent}; wait for its end or name another folder."
        raise FailedPrecondition(message, field="output") from error
    return file


def _salt(file: IO[str]) -> str:
    """A word of this folder's own, so that two folders never share a call."""
    file.seek(0)
    salt = file.read().strip()
    if not salt:
        salt = secrets.token_hex(16)
        file.write(f"{salt}\n")
        file.flush()
    return salt
