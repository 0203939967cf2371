"""A private folder for one Unix socket."""

import shutil
import tempfile
import weakref
from pathlib import Path

_LONGEST_PATH = 107  # bytes; sockaddr_un holds 108 with the closing zero


class SocketFolder:
    """A new folder of mode 0700 with a short name; `socket` is the path inside it. It is gone when the process ends."""

    def __init__(self) -> None:
        self.path = Path(tempfile.mkdtemp(prefix="atelier-"))
        if len(bytes(self.path / "runner.sock")) > _LONGEST_PATH:
            self.path.rmdir()
            self.path = Path(tempfile.mkdtemp(prefix="atelier-", dir="/tmp"))
        self.socket = self.path / "runner.sock"
        self._remove = weakref.finalize(self, shutil.rmtree, self.path, ignore_errors=True)

    def remove(self) -> None:
        """Deletes it; it may be gone already."""
        self._remove()
