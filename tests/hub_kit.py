"""A small Hub: the part of the Hugging Face Hub's HTTP protocol that downloads need, on this machine."""

import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

REVISION = "0123456789abcdef0123456789abcdef01234567"
LARGE = (".safetensors", ".onnx", ".bin")


@dataclass
class Hub:
    """One repository at one revision.

    Args:
        repo: Its name.
        files: Its files.
        cut_at: The byte of a file at which the connection is cut; None: never.
        damage: Files whose content is sent with a byte changed.
        requests: "METHOD path range" of everything that was asked.
    """

    repo: str
    files: dict[str, bytes] = field(default_factory=dict)
    cut_at: int | None = None
    damage: set[str] = field(default_factory=set)
    requests: list[str] = field(default_factory=list)
    url: str = ""

    def tree(self) -> list[dict[str, object]]:
        """What the Hub tells of the files."""
        return [self._entry(path, data) for path, data in self.files.items()]

    def _entry(self, path: str, data: bytes) -> dict[str, object]:
        entry: dict[str, object] = {"type": "file", "path": path, "size": len(data), "oid": git_blob(data)}
        if path.endswith(LARGE):
            entry["lfs"] = {"oid": hashlib.sha256(data).hexdigest(), "size": len(data), "pointerSize": 134}
        return entry

    def etag(self, path: str) -> str:
        """SHA-256 of large files, git's digest of small ones."""
        data = self.files[path]
        return hashlib.sha256(data).hexdigest() if path.endswith(LARGE) else git_blob(data)


def git_blob(data: bytes) -> str:
    """The digest by which git knows a file."""
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


@contextmanager
def running_hub(repo: str, files: dict[str, bytes]) -> Iterator[Hub]:
    """Serves a repository for the time of the block; set HF_ENDPOINT to its `url`."""
    hub = Hub(repo, dict(files))
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": hub}))
    server.daemon_threads = True
    hub.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    hub: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: object) -> None: ...

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def _answer(self, *, with_body: bool) -> None:
        path = self.path.partition("?")[0]
        self.hub.requests.append(f"{self.command} {path} {self.headers.get('Range', '')}".strip())
        api = f"/api/models/{self.hub.repo}"
        if path.startswith(f"{api}/tree/{REVISION}"):
            self._json(self.hub.tree())
        elif path in (api, f"{api}/revision/{REVISION}"):
            names = [{"rfilename": name} for name in self.hub.files]
            self._json({"id": self.hub.repo, "sha": REVISION, "siblings": names, "private": False, "tags": []})
        elif (match := re.fullmatch(f"/{self.hub.repo}/resolve/{REVISION}/(.+)", path)) and match[1] in self.hub.files:
            self._file(match[1], with_body)
        else:
            self._json({"error": "Repository not found"}, 404, {"X-Error-Code": "RepoNotFound"})

    def _json(self, value: object, status: int = 200, headers: dict[str, str] | None = None) -> None:
        body = json.dumps(value).encode()
        self.send_response(status)
        for name, text in (headers or {}).items():
            self.send_header(name, text)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _file(self, name: str, with_body: bool) -> None:
        data = self.hub.files[name]
        if name in self.hub.damage:
            data = bytes([data[0] ^ 1]) + data[1:]
        asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        start = int(asked[1]) if asked else 0
        self.send_response(206 if asked else 200)
        self.send_header("ETag", f'"{self.hub.etag(name)}"')
        self.send_header("X-Repo-Commit", REVISION)
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("Content-Length", str(len(data) - start))
        if asked:
            self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
        self.end_headers()
        if with_body:
            body = data[start:]
            end = len(body) if self.hub.cut_at is None else max(0, self.hub.cut_at - start)
            self.wfile.write(body[:end])
            if end < len(body):
                self.close_connection = True
                self.connection.close()
