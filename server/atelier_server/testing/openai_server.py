"""A real HTTP server that plays OpenAI's image API, for tests without a network or an account.

    async with OpenAIServer() as service:
        service.script(refusal(429, "rate_limit_exceeded", {"Retry-After": "0"}), picture())
        ... use service.base_url ...
        assert len(service.requests) == 2

Each request takes the next reply of the script; when that is used up, it gets a picture, streamed if asked for.
"""

import asyncio
import base64
import contextlib
import io
import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from PIL import Image

USAGE = {
    "input_tokens": 20,
    "input_tokens_details": {"image_tokens": 0, "text_tokens": 20},
    "output_tokens": 1000,
    "total_tokens": 1020,
}
_COLOUR = (200, 30, 40)


@dataclass(frozen=True, slots=True)
class Received:
    """One request, as it came."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: Mapping[str, Any] = field(default_factory=dict)

    @property
    def size(self) -> tuple[int, int]:
        """Width and height that were asked for."""
        width, height = str(self.body.get("size", "1024x1024")).split("x")
        return int(width), int(height)


Reply = Callable[[Received, asyncio.StreamWriter], Awaitable[None]]


class OpenAIServer:
    """Listens on a free port of loopback for the time of a block."""

    def __init__(self) -> None:
        self.requests: list[Received] = []
        self.aborted = 0
        self.most_at_once = 0
        self._at_once = 0
        self._script: list[Reply] = []
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._server is not None:
            self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    @property
    def base_url(self) -> str:
        """What the SDK calls base_url."""
        if self._server is None:
            raise RuntimeError("the server is not started")
        return f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}/v1"

    def script(self, *replies: Reply) -> None:
        """Adds replies for the next requests."""
        self._script += replies

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is not None:
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            while True:
                received = await _read(reader)
                self.requests.append(received)
                self._at_once += 1
                self.most_at_once = max(self.most_at_once, self._at_once)
                try:
                    await self._answer(received, reader, writer)
                finally:
                    self._at_once -= 1
        writer.close()

    async def _answer(self, received: Received, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Replies, and notices a client that leaves meanwhile."""
        streams = bool(received.body.get("stream"))
        reply = self._script.pop(0) if self._script else (streamed() if streams else picture())
        answering = asyncio.ensure_future(reply(received, writer))
        leaving = asyncio.ensure_future(_left(reader))
        try:
            done, _ = await asyncio.wait([answering, leaving], return_when=asyncio.FIRST_COMPLETED)
            if answering not in done:
                self.aborted += 1
                raise ConnectionResetError("the client left")
            await answering
        finally:
            answering.cancel()
            leaving.cancel()
            await asyncio.gather(answering, leaving, return_exceptions=True)


def picture(colour: tuple[int, int, int] = _COLOUR, **fields: Any) -> Reply:
    """A picture of one colour in the size asked for; `fields` go into the answer, such as usage=None."""

    async def reply(received: Received, writer: asyncio.StreamWriter) -> None:
        data = [{"b64_json": encoded(received.size, colour)}]
        await _send_json(writer, 200, {"created": 1, "data": data, "usage": USAGE} | fields)

    return reply


def picture_url(url: str) -> Reply:
    """An answer that gives an address in place of a picture; {base} in it is the server's own."""

    async def reply(received: Received, writer: asyncio.StreamWriter) -> None:
        address = url.replace("{base}", f"http://{received.headers['host']}")
        await _send_json(writer, 200, {"created": 1, "data": [{"url": address}]})

    return reply


def file(data: bytes, status: int = 200, headers: Mapping[str, str] | None = None) -> Reply:
    """Plain bytes."""

    async def reply(_: Received, writer: asyncio.StreamWriter) -> None:
        await _send(writer, status, data, {"Content-Type": "application/octet-stream", **(headers or {})})

    return reply


def refusal(status: int, code: str | None = None, headers: Mapping[str, str] | None = None, **error: Any) -> Reply:
    """An error in OpenAI's form; `error` adds fields such as param."""

    async def reply(_: Received, writer: asyncio.StreamWriter) -> None:
        body = {"error": {"message": "refused", "type": "error", "param": None, "code": code} | error}
        await _send_json(writer, status, body, headers)

    return reply


def streamed(
    partial_images: int | None = None,
    error: Mapping[str, Any] | None = None,
    end: bool = True,
    partial_picture: str = "",
) -> Reply:
    """Partial pictures as many as asked for (or as given), then the picture, an error, or (end=False) nothing.

    `partial_picture` is base64 to send in their place.
    """

    async def reply(received: Received, writer: asyncio.StreamWriter) -> None:
        count = received.body.get("partial_images", 0) if partial_images is None else partial_images
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n: keepalive\n\n")
        common = {"created_at": 1, "size": "auto", "quality": "low", "background": "opaque", "output_format": "png"}
        for index in range(count):
            partial = partial_picture or encoded(received.size, (60 * index, 0, 0))
            data = {"b64_json": partial, "partial_image_index": index, **common}
            await _send_event(writer, "image_generation.partial_image", data)
        if error is not None:
            writer.write(f"data: {json.dumps({'error': error})}\n\n".encode())
        elif end:
            data = {"b64_json": encoded(received.size, _COLOUR), "usage": USAGE, **common}
            await _send_event(writer, "image_generation.completed", data)
        await writer.drain()
        raise ConnectionResetError("the reply ends with its connection")

    return reply


def stalled(after_bytes: int = 20) -> Reply:
    """The beginning of a reply that never goes on."""

    async def reply(_: Received, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 100000\r\n\r\n")
        writer.write(b"{" + b" " * (after_bytes - 1))
        await writer.drain()
        await asyncio.Event().wait()

    return reply


def silence() -> Reply:
    """No reply at all."""

    async def reply(_: Received, writer: asyncio.StreamWriter) -> None:
        await asyncio.Event().wait()

    return reply


def long_reply(size_bytes: int) -> Reply:
    """A reply in the right form whose picture is `size_bytes` of base64."""

    async def reply(received: Received, writer: asyncio.StreamWriter) -> None:
        head, tail = b'{"created": 1, "data": [{"b64_json": "', b'"}]}'
        length = len(head) + size_bytes + len(tail)
        writer.write(f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n".encode())
        writer.write(head)
        for _ in range(size_bytes // 65536):
            writer.write(b"A" * 65536)
            await writer.drain()
        writer.write(b"A" * (size_bytes % 65536) + tail)
        await writer.drain()

    return reply


def encoded(size: tuple[int, int], colour: tuple[int, int, int]) -> str:
    """A PNG of one colour, in base64."""
    buffer = io.BytesIO()
    Image.new("RGB", size, colour).save(buffer, "PNG", compress_level=1)
    return base64.b64encode(buffer.getvalue()).decode()


async def _read(reader: asyncio.StreamReader) -> Received:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    method, path, _ = head[0].split(" ", 2)
    headers = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:])}
    body = await reader.readexactly(int(headers.get("content-length", "0")))
    return Received(method, path, headers, json.loads(body) if body else {})


async def _left(reader: asyncio.StreamReader) -> None:
    """Returns when the client has closed its side. Nothing is read: requests do not overlap on a connection."""
    while not reader.at_eof():  # noqa: ASYNC110 - a StreamReader tells of its end only to who reads
        await asyncio.sleep(0.01)


async def _send_event(writer: asyncio.StreamWriter, kind: str, data: Mapping[str, Any]) -> None:
    writer.write(f"event: {kind}\ndata: {json.dumps({'type': kind, **data})}\n\n".encode())
    await writer.drain()


async def _send_json(
    writer: asyncio.StreamWriter, status: int, body: object, headers: Mapping[str, str] | None = None
) -> None:
    await _send(writer, status, json.dumps(body).encode(), {"Content-Type": "application/json", **(headers or {})})


async def _send(writer: asyncio.StreamWriter, status: int, body: bytes, headers: Mapping[str, str]) -> None:
    lines = [f"HTTP/1.1 {status} -", *(f"{name}: {value}" for name, value in headers.items())]
    writer.write("\r\n".join([*lines, f"Content-Length: {len(body)}", "", ""]).encode() + body)
    await writer.drain()
