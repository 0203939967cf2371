"""ModelStreamInfer: any number of requests at once on one stream; responses carry the id of their request."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncGenerator, AsyncIterable, Callable
from contextlib import aclosing

from atelier_server._generated.atelier.kserve import grpc_service_pb2 as pb
from atelier_server.errors import AtelierError, Internal

MOST_AT_ONCE = 64
"""Requests of one stream that are under way; the stream is not read further until one has ended."""
MOST_UNREAD = 8
"""Responses that wait for a slow reader; the requests' own logs hold the rest, within their bounds."""

Answer = Callable[[pb.ModelInferRequest], AsyncGenerator[pb.ModelInferResponse, None]]
Requests = AsyncIterable[pb.ModelInferRequest]
Message = pb.ModelStreamInferResponse

logger = logging.getLogger(__name__)


class InferStream:
    """One stream.

    Args:
        answer: Gives the responses of a request; closing it cancels the request.
        fail_on_error: The first error becomes the stream's status, rather than a message.
    """

    def __init__(self, answer: Answer, *, fail_on_error: bool) -> None:
        self._answer = answer
        self._fail_on_error = fail_on_error
        self._ready: asyncio.Queue[Message | AtelierError | None] = asyncio.Queue(MOST_UNREAD)
        self._places = asyncio.Semaphore(MOST_AT_ONCE)
        self._tasks: set[asyncio.Task[None]] = set()

    async def run(self, requests: Requests) -> AsyncGenerator[Message, None]:
        """Yields responses as they come, until every request is answered. Closing it cancels what is under way.

        Raises:
            AtelierError: A request failed, and errors are to be the stream's status; or its bytes were no request.
        """
        reading = asyncio.create_task(self._read(requests))
        try:
            while (message := await self._ready.get()) is not None:
                if isinstance(message, AtelierError):
                    raise message
                yield message
        finally:
            tasks = [reading, *self._tasks]
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)

    async def _read(self, requests: Requests) -> None:
        try:
            async for request in requests:
                await self._places.acquire()
                task = asyncio.create_task(self._serve(request))
                self._tasks.add(task)
                task.add_done_callback(self._done)
        except AtelierError as error:
            await self._ready.put(error)
            return
        except Exception:
            logger.exception("a stream of inferences could not be read")
            await self._ready.put(Internal("the server failed; its log has the reason"))
            return
        if self._tasks:
            await asyncio.wait(set(self._tasks))
        await self._ready.put(None)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._places.release()
        self._tasks.discard(task)
        with contextlib.suppress(asyncio.CancelledError):
            task.result()

    async def _serve(self, request: pb.ModelInferRequest) -> None:
        try:
            async with aclosing(self._answer(request)) as responses:
                async for response in responses:
                    await self._ready.put(Message(infer_response=response))
        except AtelierError as error:
            await self._ready.put(self._told(error, request))
        except Exception:
            logger.exception("a streamed inference failed")
            await self._ready.put(self._told(Internal("the server failed; its log has the reason"), request))

    def _told(self, error: AtelierError, request: pb.ModelInferRequest) -> Message | AtelierError:
        if self._fail_on_error:
            return error
        message = Message(error_message=error.message)
        message.infer_response.id = request.id
        message.infer_response.model_name = request.model_name
        message.infer_response.parameters["triton_final_response"].bool_param = True
        return message
