"""A small HTTP server that speaks as much of S3 and of Google Cloud Storage as reading a bucket takes."""

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape

BUCKET = "bucket"
_TIME = "2026-01-01T00:00:00.000Z"


@dataclass
class ObjectStore:
    """One bucket; `got` are the keys that were fetched, in order. While `broken`, every request fails."""

    objects: dict[str, bytes] = field(default_factory=dict)
    got: list[str] = field(default_factory=list)
    broken: bool = False
    url: str = ""

    def answer(self, target: str) -> tuple[int, str, bytes, dict[str, str]]:
        """Status, content type, body and headers for the target of a GET or HEAD."""
        parts = urlsplit(target)
        query = {name: values[0] for name, values in parse_qs(parts.query, keep_blank_values=True).items()}
        path = unquote(parts.path).lstrip("/")
        if self.broken:
            return 403, "application/xml", b"<Error><Code>AccessDenied</Code><Message>no</Message></Error>", {}
        for prefix in ("storage/v1/b/", "download/storage/v1/b/"):
            if path.startswith(prefix):
                return self._google(parts.path.removeprefix(f"/{prefix}"), query)
        if "list-type" in query or "prefix" in query:
            return 200, "application/xml", self._listing(query), {}
        return self._object(path.removeprefix(f"{BUCKET}/"))

    def _object(self, key: str) -> tuple[int, str, bytes, dict[str, str]]:
        if key not in self.objects:
            return 404, "application/xml", b"<Error><Code>NoSuchKey</Code><Message>none</Message></Error>", {}
        headers = {"ETag": f'"{_mark(self.objects[key])}"', "Last-Modified": "Thu, 01 Jan 2026 00:00:00 GMT"}
        return 200, "application/octet-stream", self.objects[key], headers

    def _listing(self, query: dict[str, str]) -> bytes:
        rows = "".join(
            f"<Contents><Key>{escape(key)}</Key><LastModified>{_TIME}</LastModified><ETag>&quot;{_mark(data)}&quot;</ETag>"
            f"<Size>{len(data)}</Size><StorageClass>STANDARD</StorageClass></Contents>"
            for key, data in sorted(self.objects.items())
            if key.startswith(query.get("prefix", ""))
        )
        return (
            '<?xml version="1.0" encoding="UTF-8"?><ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
            f"<Name>{BUCKET}</Name><IsTruncated>false</IsTruncated>{rows}</ListBucketResult>"
        ).encode()

    def _google(self, path: str, query: dict[str, str]) -> tuple[int, str, bytes, dict[str, str]]:
        _, _, key = path.partition("/o")
        key = unquote(key.lstrip("/"))
        if key and query.get("alt") == "media":
            return self._object(key)
        keys = [
            one for one in sorted(self.objects) if one == key or (not key and one.startswith(query.get("prefix", "")))
        ]
        items = [
            {"kind": "storage#object", "name": one, "bucket": BUCKET, "size": str(len(self.objects[one])),
             "etag": _mark(self.objects[one]), "generation": "1", "updated": _TIME, "timeCreated": _TIME}
            for one in keys
        ]  # fmt: skip
        if key and not items:
            return 404, "application/json", b'{"error": {"code": 404, "message": "none"}}', {}
        return 200, "application/json", json.dumps(items[0] if key else {"items": items}).encode(), {}


@contextmanager
def object_store() -> Iterator[ObjectStore]:
    """Serves a bucket on a free port of loopback."""
    store = ObjectStore()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self._send(with_body=True)

        def do_HEAD(self) -> None:
            self._send(with_body=False)

        def log_message(self, *_: object) -> None:
            pass

        def _send(self, *, with_body: bool) -> None:
            status, kind, body, headers = store.answer(self.path)
            if with_body and kind == "application/octet-stream":
                store.got.append(unquote(urlsplit(self.path).path))
            self.send_response(status)
            for name, value in (headers | {"Content-Type": kind, "Content-Length": str(len(body))}).items():
                self.send_header(name, value)
            self.end_headers()
            if with_body:
                self.wfile.write(body)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    store.url = f"http://127.0.0.1:{server.server_port}"
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield store
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def _mark(data: bytes) -> str:
    return hashlib.md5(data, usedforsecurity=False).hexdigest()
