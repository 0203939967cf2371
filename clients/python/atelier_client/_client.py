"""The client for threads."""

import time
from collections.abc import Callable, Generator, Sequence
from types import TracebackType
from typing import Any, Self, TypeVar, Unpack

import grpc
from google.protobuf.message import Message

from atelier.v1.image_generation_pb2 import GenerateRequest, GenerateResponse
from atelier_client import _calls, _types
from atelier_client._assemble import Assembler
from atelier_client._calls import Call, ImageSource
from atelier_client._connection import Connection, FilePath
from atelier_client._events import Event, Progress
from atelier_client._fields import GenerateFields, ScoreFields
from atelier_client._groups import Brands, Models
from atelier_client._result import GenerationResult
from atelier_client._retry import Attempts, Retry
from atelier_client._status import error_of
from atelier_client._stream import Stream

T = TypeVar("T")


class Atelier:
    """A client of one server. One object serves many threads; close it, or use it in a `with`.

    Every method raises an AtelierError, and takes `timeout`, the seconds that all its attempts may take together
    (None: no end).

    Args:
        target: The server's address, HOST:PORT.
        tls: Speak TLS; implied by ca_file and cert_file.
        ca_file: Certificates to trust (PEM). Default with TLS: gRPC's own list of public authorities.
        cert_file: This client's certificate (PEM), for servers that ask for one; together with key_file.
        key_file: Its key (PEM).
        token: Bearer token.
        token_file: A file with the token, read again at every call.
        retry: How calls that ended UNAVAILABLE are tried again.
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
        self._channel = self._connection.open()
        self._closed = False
        self.brands = Brands(self._unary)
        self.models = Models(self._unary)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Ends the connection; calls that still run are cancelled."""
        self._closed = True
        self._channel.close()

    def generate_events(
        self, prompt: str, *, timeout: float | None = 600.0, **fields: Unpack[GenerateFields]
    ) -> Generator[Event, None, None]:
        """Generates pictures and yields every event as it comes. Leaving the loop early cancels the work.

        A stream that ends UNAVAILABLE before any picture bytes came is asked for again with the same request_id;
        its events then start over. With on_disconnect="continue" the server keeps the work meanwhile, and later
        streams are resumed too.

        Args:
            prompt: What the picture shows.
            timeout: Seconds for all attempts together; None: no end.
            fields: Any other field of atelier.v1.GenerateRequest, enums as lower-case words.

        Raises:
            InvalidArgument: Already here for an unknown field or word, otherwise by the server.
        """
        return self._events(_calls.generate(prompt, fields), timeout)

    def generate(
        self,
        prompt: str,
        *,
        on_progress: Callable[[Progress], None] | None = None,
        on_event: Callable[[Event], None] | None = None,
        timeout: float | None = 600.0,
        **fields: Unpack[GenerateFields],
    ) -> GenerationResult:
        """Generates pictures and waits for them.

        Args:
            prompt: What the picture shows.
            on_progress: Called with each denoising step, in this thread.
            on_event: Called with every event, in this thread.
            timeout: Seconds for all attempts together; None: no end.
            fields: Any other field of atelier.v1.GenerateRequest, enums as lower-case words.

        Raises:
            DataLoss: The pictures that arrived are not those that were sent.
        """
        assembler = Assembler()
        for event in self.generate_events(prompt, timeout=timeout, **fields):
            assembler.add(event)
            if on_event is not None:
                on_event(event)
            if on_progress is not None and isinstance(event, Progress):
                on_progress(event)
        return assembler.result()

    def score(
        self, image: ImageSource, *, timeout: float | None = 120.0, **fields: Unpack[ScoreFields]
    ) -> _types.Scores:
        """Judges one picture; see score_all."""
        return self.score_all([image], timeout=timeout, **fields)[0]

    def score_all(
        self, images: Sequence[ImageSource], *, timeout: float | None = 120.0, **fields: Unpack[ScoreFields]
    ) -> tuple[_types.Scores, ...]:
        """Judges pictures, in their order, by the same prompt and brand.

        Args:
            images: Paths, bytes of files, or Pillow pictures.
            timeout: Seconds for one message of pictures; many pictures go in several.
            fields: prompt (what they should show; without it there is no prompt_alignment), brand_id,
                aesthetic_threshold, brand_threshold.
        """
        return tuple(one for call in _calls.score(images, fields) for one in self._unary(call, timeout))

    def health(self, *, timeout: float | None = 30.0) -> _types.Health:
        """How the server and each of its models are."""
        return self._unary(_calls.health(), timeout)

    def metrics(self, *, timeout: float | None = 30.0) -> _types.Metrics:
        """What the server did in its rolling window."""
        return self._unary(_calls.metrics(), timeout)

    def _events(self, request: GenerateRequest, timeout: float | None) -> Generator[Event, None, None]:
        start = self._channel.unary_stream(_calls.GENERATE, _calls.serialize, GenerateResponse.FromString)
        stream = Stream(request, Attempts(self._retry, timeout))
        while True:
            call = start(request, timeout=stream.attempts.remaining(), metadata=self._connection.headers())
            try:
                for message in call:
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
            time.sleep(wait)

    def _unary(self, call: Call[T], timeout: float | None) -> T:
        attempts = Attempts(self._retry, timeout)
        while True:
            try:
                reply = self._start(call, attempts.remaining())
            except grpc.RpcError as failure:
                error = error_of(failure, self._connection.target, closed=self._closed)
                wait = attempts.wait_after(error) if call.repeatable else None
                if wait is None:
                    raise error from failure
                time.sleep(wait)
            else:
                return call.read(reply)

    def _start(self, call: Call[T], timeout: float | None) -> Any:
        headers = self._connection.headers()
        if isinstance(call.request, Message):
            unary = self._channel.unary_unary(call.path, _calls.serialize, call.reply.FromString)
            return unary(call.request, timeout=timeout, metadata=headers)
        stream = self._channel.stream_unary(call.path, _calls.serialize, call.reply.FromString)
        return stream(call.request, timeout=timeout, metadata=headers)
