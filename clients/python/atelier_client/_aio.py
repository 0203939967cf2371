"""The client for asyncio."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import aclosing
from types import TracebackType
from typing import Any, Self, TypeVar, Unpack

import grpc
import grpc.aio
from google.protobuf.message import Message

from atelier.v1.image_generation_pb2 import GenerateRequest, GenerateResponse
from atelier_client import _calls, _types
from atelier_client._assemble import Assembler
from atelier_client._calls import Call, ImageSource
from atelier_client._connection import Connection, FilePath
from atelier_client._events import Event, Progress
from atelier_client._fields import GenerateFields, ScoreFields
from atelier_client._groups import AsyncBrands, AsyncModels
from atelier_client._result import GenerationResult
from atelier_client._retry import Attempts, Retry
from atelier_client._status import error_of
from atelier_client._stream import Stream

T = TypeVar("T")


class AsyncAtelier:
    """As Atelier, for one event loop: make it, use it and close it there. Cancelling a task cancels its call.

    Arguments are those of Atelier.
    """

    def __init__(
        self,
        target: str = "127.0.0.1:8001",
        *,
        tls: bool = False,
        ca_file: FilePath | None = None,
        cert_file: FilePath | None = None,
        key_file: FilePath | None = None,
        token: str | None = None,
        token_file: FilePath | None = None,
        retry: Retry | None = None,
    ) -> None:
        self._connection = Connection(target, tls, ca_file, cert_file, key_file, token, token_file)
        self._retry = retry or Retry()
        self._channel = self._connection.open_aio()
        self._closed = False
        self.brands = AsyncBrands(self._unary)
        self.models = AsyncModels(self._unary)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Ends the connection; calls that still run are cancelled."""
        self._closed = True
        await self._channel.close()

    def generate_events(
        self, prompt: str, *, timeout: float | None = 600.0, **fields: Unpack[GenerateFields]
    ) -> AsyncGenerator[Event, None]:
        """See Atelier.generate_events; use `async for`. Leaving the loop early cancels the work."""
        return self._events(_calls.generate(prompt, fields), timeout)

    async def generate(
        self,
        prompt: str,
        *,
        on_progress: Callable[[Progress], None] | None = None,
        on_event: Callable[[Event], None] | None = None,
        timeout: float | None = 600.0,
        **fields: Unpack[GenerateFields],
    ) -> GenerationResult:
        """See Atelier.generate; the callbacks run on the event loop."""
        assembler = Assembler()
        async with aclosing(self._events(_calls.generate(prompt, fields), timeout)) as events:
            async for event in events:
                assembler.add(event)
                if on_event is not None:
                    on_event(event)
                if on_progress is not None and isinstance(event, Progress):
                    on_progress(event)
        return assembler.result()

    async def score(
        self, image: ImageSource, *, timeout: float | None = 120.0, **fields: Unpack[ScoreFields]
    ) -> _types.Scores:
        """See Atelier.score."""
        return (await self.score_all([image], timeout=timeout, **fields))[0]

    async def score_all(
        self, images: Sequence[ImageSource], *, timeout: float | None = 120.0, **fields: Unpack[ScoreFields]
    ) -> tuple[_types.Scores, ...]:
        """See Atelier.score_all."""
        return tuple([one for call in _calls.score(images, fields) for one in await self._unary(call, timeout)])

    async def health(self, *, timeout: float | None = 30.0) -> _types.Health:
        """See Atelier.health."""
        return await self._unary(_calls.health(), timeout)

    async def metrics(self, *, timeout: float | None = 30.0) -> _types.Metrics:
        """See Atelier.metrics."""
        return await self._unary(_calls.metrics(), timeout)

    async def _events(self, request: GenerateRequest, timeout: float | None) -> AsyncGenerator[Event, None]:
        start = self._channel.unary_stream(_calls.GENERATE, _calls.serialize, GenerateResponse.FromString)
        stream = Stream(request, Attempts(self._retry, timeout))
        while True:
            call = start(request, timeout=stream.attempts.remaining(), metadata=self._connection.headers())
            try:
                async for message in call:
                    event = stream.read(message)
                    if event is not None:
                        yield event
                return
            except grpc.RpcError as failure:
                error = error_of(failure, self._connection.target, closed=self._closed)
                wait = stream.wait_after(error)
                if wait is None:
                    raise error from failure
            finally:
                call.cancel()
            await asyncio.sleep(wait)

    async def _unary(self, call: Call[T], timeout: float | None) -> T:
        attempts = Attempts(self._retry, timeout)
        while True:
            try:
                reply = await self._start(call, attempts.remaining())
            except grpc.RpcError as failure:
                error = error_of(failure, self._connection.target, closed=self._closed)
                wait = attempts.wait_after(error) if call.repeatable else None
                if wait is None:
                    raise error from failure
                await asyncio.sleep(wait)
            else:
                return call.read(reply)

    def _start(self, call: Call[T], timeout: float | None) -> Awaitable[Any]:
        headers = self._connection.headers()
        if isinstance(call.request, Message):
            unary = self._channel.unary_unary(call.path, _calls.serialize, call.reply.FromString)
            return unary(call.request, timeout=timeout, metadata=headers)
        stream = self._channel.stream_unary(call.path, _calls.serialize, call.reply.FromString)
        return stream(call.request, timeout=timeout, metadata=headers)
