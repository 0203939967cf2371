"""The lane: frames on a Unix socket beside the runner's gRPC one, for tensors only. Any number of calls share it.

A tensor of a picture through gRPC costs several copies and two more threads on each side; here the kernel's copy is the
only one, into memory that the arrays then use (docs/decisions/0006). A frame is a prefix, a protobuf header, and bytes.
"""

import asyncio
import socket
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import cast

import numpy as np
from numpy.typing import NDArray

from atelier_server.errors import InvalidArgument
from atelier_server.runner.tensor_messages import padded

SOCKET_NAME = "tensor.sock"
MAX_FRAME_BYTES = 256 * 2**20
SOCKET_BUFFER_BYTES = 2**20

_PREFIX = struct.Struct("<BxxxIQQ")
"""Kind, bytes of the header, call, bytes of the body."""


class Kind(IntEnum):
    """What a frame is. A call is one REQUEST, then one RESPONSE or ERROR, or a CANCEL from the asker."""

    REQUEST = 1
    RESPONSE = 2
    ERROR = 3
    CANCEL = 4


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
    """Reads frames straight into the memory that their receiver keeps, and writes frames.

    Args:
        receive: Called with every frame, on the event loop. It must not raise.
        lost: Called once when the connection is gone.
    """

    def __init__(self, receive: Callable[[Frame], None], lost: Callable[[], None]) -> None:
        self._receive = receive
        self._lost = lost
        self._transport: asyncio.Transport | None = None
        self._closed = False
        self._prefix: tuple[int, int, int, int] | None = None
        self._memory = bytearray(_PREFIX.size)
        self._filled = 0

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

    def connection_lost(self, exc: Exception | None) -> None:
        """See asyncio."""
        self._transport = None
        self._lost()

    def get_buffer(self, sizehint: int) -> memoryview:
        """See asyncio."""
        return memoryview(self._memory)[self._filled :]

    def buffer_updated(self, nbytes: int) -> None:
        """See asyncio."""
        self._filled += nbytes
        if self._filled < len(self._memory):
            return
        if self._prefix is None:
            self._prefix = _PREFIX.unpack(self._memory)
            _, header, _, body = self._prefix
            if header + body > MAX_FRAME_BYTES:
                self.close()
            elif header + body:
                self._await(padded(header) + body)
            if header + body:
                return
        kind, header, call, _ = self._prefix
        memory = memoryview(self._memory).toreadonly() if header else memoryview(b"")
        self._prefix = None
        self._await(_PREFIX.size)
        self._receive(Frame(kind, call, bytes(memory[:header]), memory[padded(header) :]))

    def send(self, kind: Kind, call: int, header: bytes = b"", parts: Sequence[NDArray[np.uint8]] = ()) -> None:
        """Sends a frame; a frame without a header has no body. A lost connection swallows it."""
        if self._transport is None:
            return
        size = sum(len(part) for part in parts)
        prefix = _PREFIX.pack(kind, len(header), call, size)
        self._transport.write(prefix + header.ljust(padded(len(header)), b"\0"))
        for part in parts:
            if len(part):
                self._transport.write(part.data)

    def close(self) -> None:
        """Ends the connection at once, or as soon as it is made."""
        self._closed = True
        if self._transport is not None:
            self._transport.abort()

    def _await(self, size: int) -> None:
        self._memory = bytearray(size)
        self._filled = 0
