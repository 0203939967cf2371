"""Frames arrive whole and in order, whatever the socket does with their bytes."""

import asyncio
import errno
import os
import random
import socket
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import numpy as np
import pytest

from atelier_server.runner import lane
from atelier_server.runner.lane import MAX_FRAME_BYTES, UNREAD_BYTES, Frame, FrameProtocol, Kind
from atelier_server.runner.tensor_messages import padded
from tests.integration.executor_kit import wait_until


@dataclass
class End:
    """One side of a connection, and what it received."""

    frames: list[Frame] = field(default_factory=list)
    lost: asyncio.Event = field(default_factory=asyncio.Event)
    protocol: FrameProtocol = field(init=False)

    async def attach(self, connection: socket.socket) -> None:
        """Reads from now on."""
        self.protocol = FrameProtocol(self.frames.append, self.lost.set)
        await asyncio.get_running_loop().create_unix_connection(lambda: self.protocol, sock=connection)

    async def receive(self, count: int) -> None:
        """Waits for so many frames in all."""
        await wait_until(lambda: len(self.frames) >= count)


@asynccontextmanager
async def connected() -> AsyncIterator[tuple[End, socket.socket]]:
    """A protocol, and the socket at its other end."""
    ours, theirs = socket.socketpair()
    theirs.setblocking(False)
    end = End()
    await end.attach(ours)
    try:
        yield end, theirs
    finally:
        end.protocol.close()
        theirs.close()
        await end.lost.wait()


@asynccontextmanager
async def pair() -> AsyncIterator[tuple[End, End]]:
    async with connected() as (one, theirs):
        other = End()
        await other.attach(theirs)
        yield one, other


def raw(kind: int, call: int, header: bytes, body: bytes = b"") -> bytes:
    return lane._PREFIX.pack(kind, len(header), call, len(body)) + header.ljust(padded(len(header)), b"\0") + body


def content(frame: Frame) -> tuple[int, int, bytes, bytes]:
    return frame.kind, frame.call, frame.header, bytes(frame.body)


SIZES = [0, 1, 15, 16, 17, 100, 4_000, 65_000, 65_536, 70_000, 300_000]


@pytest.mark.parametrize("seed", range(4))
async def test_frames_are_put_together_from_any_pieces(seed: int) -> None:
    luck = random.Random(seed)
    sent = [
        (luck.choice(list(Kind)), call, luck.randbytes(luck.choice(SIZES[1:7])), luck.randbytes(luck.choice(SIZES)))
        for call in range(60)
    ]
    stream = b"".join(raw(*one) for one in sent)
    async with connected() as (end, theirs):
        begin = 0
        while begin < len(stream):
            piece = stream[begin : begin + luck.choice((1, 7, 24, 500, 66_000))]
            await asyncio.get_running_loop().sock_sendall(theirs, piece)
            await asyncio.sleep(0)
            begin += len(piece)
        await end.receive(len(sent))
        assert [content(one) for one in end.frames] == sent


async def test_a_body_is_aligned_and_read_only() -> None:
    async with pair() as (one, other):
        for size in (8, 100_000):
            one.protocol.send(Kind.INFER, 1, b"odd", [np.arange(size, dtype=np.float64).view(np.uint8)])
        await other.receive(2)
    for frame, size in zip(other.frames, (8, 100_000), strict=True):
        array = np.frombuffer(frame.body, np.float64)
        np.testing.assert_array_equal(array, np.arange(size))
        assert array.ctypes.data % 16 == 0
        assert not array.flags.writeable


async def test_frames_of_many_threads_arrive_whole_and_each_threads_in_order() -> None:
    """Large ones fill the socket's buffer again and again, so that most are sent by the loop later."""
    parts = {size: np.frombuffer(random.Random(size).randbytes(size), np.uint8) for size in (0, 10, 700_000)}
    async with pair() as (one, other):

        def work(call: int) -> None:
            for number in range(40):
                one.protocol.send(Kind.EVENT, call, b"%d" % number, [parts[(0, 10, 700_000)[number % 3]]])

        threads = [threading.Thread(target=work, args=(call,)) for call in range(4)]
        for thread in threads:
            thread.start()
        await other.receive(160)
        for thread in threads:
            thread.join()
    for call in range(4):
        mine = [frame for frame in other.frames if frame.call == call]
        assert [int(frame.header) for frame in mine] == list(range(40))
        for number, frame in enumerate(mine):
            np.testing.assert_array_equal(np.frombuffer(frame.body, np.uint8), parts[(0, 10, 700_000)[number % 3]])


async def test_it_is_noticed_when_nobody_reads_and_when_somebody_does_again() -> None:
    block = np.zeros(8 * 2**20, np.uint8)
    async with connected() as (end, theirs):
        count = UNREAD_BYTES // len(block) + 1
        for call in range(count):
            assert not end.protocol.unread
            end.protocol.send(Kind.RESPONSE, call, b"x", [block])
        assert end.protocol.unread
        left = count * (len(block) + 24 + 16)
        while left:
            left -= len(await asyncio.get_running_loop().sock_recv(theirs, 2**20))
        assert not end.protocol.unread
        assert end.protocol.open


async def test_a_frame_that_is_too_large_ends_the_connection() -> None:
    async with connected() as (end, theirs):
        theirs.send(lane._PREFIX.pack(Kind.INFER, 10, 1, MAX_FRAME_BYTES))
        await asyncio.wait_for(end.lost.wait(), 10)
        assert end.frames == []


async def test_a_lost_connection_swallows_what_is_sent() -> None:
    async with connected() as (end, theirs):
        end.protocol.send(Kind.RESPONSE, 1, b"x", [np.zeros(8 * 2**20, np.uint8)])
        theirs.close()
        end.protocol.send(Kind.RESPONSE, 2, b"y")
        await asyncio.wait_for(end.lost.wait(), 10)
        end.protocol.send(Kind.RESPONSE, 3, b"z")
        assert not end.protocol.open
        assert not end.protocol.unread


async def test_a_frame_that_cannot_be_sent_ends_the_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else its receiver would wait for it."""

    def fail(descriptor: int, pieces: object) -> int:
        raise OSError(errno.ENOBUFS, os.strerror(errno.ENOBUFS))

    async with connected() as (end, _):
        monkeypatch.setattr(os, "writev", fail)
        end.protocol.send(Kind.EVENT, 1, b"x")
        await asyncio.wait_for(end.lost.wait(), 10)


async def test_a_connection_that_breaks_while_something_waits_ends() -> None:
    async with connected() as (end, theirs):
        end.protocol.send(Kind.RESPONSE, 1, b"x", [np.zeros(8 * 2**20, np.uint8)])
        theirs.close()
        await asyncio.wait_for(end.lost.wait(), 10)
        assert not end.protocol.open


async def test_no_descriptor_is_left() -> None:
    before = threading.active_count(), len(_descriptors())
    for _ in range(20):
        async with pair() as (one, other):
            one.protocol.send(Kind.CANCEL, 1)
            await other.receive(1)
    await asyncio.sleep(0.05)
    assert (threading.active_count(), len(_descriptors())) == before


def _descriptors() -> list[str]:
    return os.listdir("/proc/self/fd")
