"""The lane: frames on a Unix socket beside the runner's gRPC one, for all its work. Any number of calls share it.

Through gRPC a picture costs several copies, and an event as much time as a tenth of a small model's step; here the
kernel's copy is the only one, into memory that the arrays then use (docs/decisions/0006). A frame is a prefix, a
protobuf header, and bytes.
"""

import asyncio
import os
import socket
import struct
import threading
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import cast

import numpy as np
from numpy.typing import NDArray

from atelier_server.errors import InvalidArgument
from atelier_server.runner.tensor_messages import padded

SOCKET_NAME = "lane.sock"
MAX_FRAME_BYTES = 256 * 2**20
SOCKET_BUFFER_BYTES = 2**20
UNREAD_BYTES = 64 * 2**20
"""So much that the other side does not read may wait here before what can be left out is left out."""

_CHUNK_BYTES = 64 * 2**10
_MOST_PIECES = 512
"""Of one call of the system, which takes 1,024."""

_PREFIX = struct.Struct("<BxxxIQQ")
"""Kind, bytes of the header, call, bytes of the body."""


class Kind(IntEnum):
    """What a frame is.

    A call begins with INFER or DIFFUSE. It ends with RESPONSE (tensors), the EVENT that is JobDone, or ERROR, or by a
    CANCEL from the asker.
    """

    INFER = 1
    DIFFUSE = 2
    EVENT = 3
    RESPONSE = 4
    ERROR = 5
    CANCEL = 6


@dataclass(frozen=True, slots=True)
class Frame:
    """A frame as it came; `body` is read-only and aligned for every number format."""

    kind: int
    call: int
    header: bytes
    body: memoryview


def lane_beside(runner_socket: Path) -> Path:
    """The lane's socket, in the folder of the runner's other one."""
    return runner_socket.with_name(SOCKET_NAME)


def check_size(what: str, header: bytes, parts: Sequence[NDArray[np.uint8]]) -> None:
    """Refuses tensors whose frame the other side would not read: it ends the connection, and all calls on it.

    Args:
        what: "inputs" or "outputs".
        header: The frame's.
        parts: The frame's.

    Raises:
        InvalidArgument: They are too large.
    """
    size = len(header) + sum(len(part) for part in parts)
    if size > MAX_FRAME_BYTES:
        message = f"the {what} have {size} bytes together; at most {MAX_FRAME_BYTES} go to or from a model at once"
        raise InvalidArgument(message, field=what)


class FrameProtocol(asyncio.BufferedProtocol):
    """Reads and writes frames. Large ones are read straight into the memory that their receiver keeps.

    Frames are received on the event loop. Any thread may send them, and the system's call is made at once: where the
    loop did it, an engine's thread would lose Python's lock to it between two steps.

    Args:
        receive: Called with every frame, on the event loop. It must not raise.
        lost: Called once when the connection is gone.
    """

    def __init__(self, receive: Callable[[Frame], None], lost: Callable[[], None]) -> None:
        self._receive = receive
        self._lost = lost
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._closed = False
        self._sending = threading.Lock()
        self._out = -1  # a descriptor of our own, since asyncio writes from its loop's thread only
        self._unsent: deque[memoryview] = deque()
        self._unsent_bytes = 0
        self._chunk, self._chunk_filled = bytearray(_CHUNK_BYTES), 0  # of many small frames
        self._large: bytearray | None = None  # one that does not fit into the chunk, as far as it is
        self._large_filled = 0
        self._prefix = (0, 0, 0, 0)  # of the large one

    @property
    def unread(self) -> bool:
        """Whether the other side has long read nothing."""
        return self._unsent_bytes > UNREAD_BYTES

    @property
    def open(self) -> bool:
        """Whether frames can be sent."""
        return self._transport is not None and not self._transport.is_closing()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See asyncio."""
        self._transport = cast(asyncio.Transport, transport)
        if self._closed:
            self._transport.abort()
            return
        connection = transport.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SOCKET_BUFFER_BYTES)
        self._out = os.dup(connection.fileno())

    def connection_lost(self, exc: Exception | None) -> None:
        """See asyncio."""
        self._transport = None
        with self._sending:
            out, self._out = self._out, -1
            self._unsent.clear()
            self._unsent_bytes = 0
        if out >= 0:
            self._loop.remove_writer(out)
            os.close(out)
        self._lost()

    def get_buffer(self, sizehint: int) -> memoryview:
        """See asyncio."""
        if self._large is not None:
            return memoryview(self._large)[self._large_filled :]
        return memoryview(self._chunk)[self._chunk_filled :]

    def buffer_updated(self, nbytes: int) -> None:
        """See asyncio."""
        if self._large is None:
            self._chunk_filled += nbytes
            self._take_small()
            return
        self._large_filled += nbytes
        if self._large_filled == len(self._large):
            memory, self._large = self._large, None
            self._deliver(self._prefix, memory)

    def _take_small(self) -> None:
        """Delivers the frames of the chunk, and begins a large one where it does not hold the last as a whole."""
        begin = 0
        while self._chunk_filled - begin >= _PREFIX.size:
            prefix = _PREFIX.unpack_from(self._chunk, begin)
            _, header, _, body = prefix
            if header + body > MAX_FRAME_BYTES:
                self.close()
                return
            first, size = begin + _PREFIX.size, padded(header) + body
            if first + size <= self._chunk_filled:
                begin = first + size
                self._deliver(prefix, self._chunk[first:begin])
                continue
            if size > _CHUNK_BYTES - _PREFIX.size:
                here = self._chunk_filled - first
                self._prefix, self._large, self._large_filled = prefix, bytearray(size), here
                self._large[:here] = memoryview(self._chunk)[first : self._chunk_filled]
                begin = self._chunk_filled
            break
        rest = self._chunk_filled - begin
        if begin and rest:
            self._chunk[:rest] = self._chunk[begin : self._chunk_filled]
        self._chunk_filled = rest

    def _deliver(self, prefix: tuple[int, int, int, int], memory: bytearray) -> None:
        kind, header, call, _ = prefix
        body = memoryview(memory).toreadonly()[padded(header) :]
        self._receive(Frame(kind, call, bytes(memory[:header]), body))

    def send(self, kind: Kind, call: int, header: bytes = b"", parts: Sequence[NDArray[np.uint8]] = ()) -> None:
        """Sends a frame; a frame without a header has no body. A lost connection swallows it.

        What the socket does not take at once is copied and sent later.
        """
        size = sum(len(part) for part in parts)
        head = _PREFIX.pack(kind, len(header), call, size) + header.ljust(padded(len(header)), b"\0")
        pieces = [memoryview(head), *(part.data for part in parts if len(part))]
        with self._sending:
            if self._out < 0:
                return
            waiting, then = bool(self._unsent), None
            try:
                self._keep(pieces if waiting else _unwritten(self._out, pieces))
                if self._unsent and not waiting:
                    then = self._send_later
            except OSError:  # a frame that is lost would be waited for
                then = self.close
        if then is not None:
            with suppress(RuntimeError):  # the loop is closed, so the connection is gone too
                self._loop.call_soon_threadsafe(then)

    def _keep(self, pieces: Sequence[memoryview]) -> None:
        self._unsent.extend(memoryview(bytes(piece)) for piece in pieces)
        self._unsent_bytes += sum(len(piece) for piece in pieces)

    def _send_later(self) -> None:
        with self._sending:
            if self._out >= 0:
                self._loop.add_writer(self._out, self._send_on)

    def _send_on(self) -> None:
        with self._sending:
            if self._out < 0:
                return
            pieces = [self._unsent.popleft() for _ in range(min(_MOST_PIECES, len(self._unsent)))]
            before = sum(len(piece) for piece in pieces)
            try:
                rest = _unwritten(self._out, pieces)
            except OSError:
                self.close()
                rest = []
            self._unsent.extendleft(reversed(rest))
            self._unsent_bytes -= before - sum(len(piece) for piece in rest)
            if not self._unsent:
                self._loop.remove_writer(self._out)

    def close(self) -> None:
        """Ends the connection at once, or as soon as it is made."""
        self._closed = True
        if self._transport is not None:
            self._transport.abort()


def _unwritten(descriptor: int, pieces: Sequence[memoryview]) -> list[memoryview]:
    """Writes what the socket takes, and returns the rest.

    Raises:
        OSError: The connection is gone, or broken.
    """
    try:
        sent = os.writev(descriptor, pieces[:_MOST_PIECES])
    except BlockingIOError:
        sent = 0
    rest = list(pieces)
    while rest and sent >= len(rest[0]):
        sent -= len(rest.pop(0))
    if sent:
        rest[0] = rest[0][sent:]
    return rest
