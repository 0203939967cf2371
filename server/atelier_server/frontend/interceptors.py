"""What happens around every handler of every service, in one place.

A call gets its id, undecodable bytes become INVALID_ARGUMENT, errors become statuses with details, and one line is
logged. Streams are written by hand rather than yielded to gRPC: when a client leaves, gRPC cancels the task but does
not close a generator that waits at a yield, and the work behind it would go on until the garbage collector comes by.
"""

import asyncio
import inspect
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import aclosing, contextmanager, suppress
from dataclasses import dataclass
from typing import Any, TypeAlias

import grpc
from google.protobuf.message import DecodeError

from atelier_server.errors import AtelierError, Internal, InvalidArgument
from atelier_server.frontend.access import Access
from atelier_server.frontend.call import REQUEST_ID_KEY, begin_call
from atelier_server.frontend.error_table import DETAILS_KEY, rpc_status, status_code
from atelier_server.frontend.patience import Patience
from atelier_server.security.guard import Client
from atelier_server.telemetry.calls import CallMetrics
from atelier_server.telemetry.origin import read_headers, request_id
from atelier_server.telemetry.tracing import server_span

Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any] | None"
Context = grpc.aio.ServicerContext[Any, Any]
Behaviour = Callable[[Any, Context], Any]

logger = logging.getLogger(__name__)
_QUIET = ("/grpc.health.", "/grpc.reflection.")
"""Probes come every few seconds; their lines are for debugging only."""


_FAULTS = frozenset(
    {
        grpc.StatusCode.UNKNOWN,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.UNIMPLEMENTED,
        grpc.StatusCode.INTERNAL,
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.DATA_LOSS,
    }
)
"""Statuses that are the server's fault, as OpenTelemetry's conventions for RPC have it."""

_READ_OUT_SECONDS = 2.0
_READ_OUT_MESSAGES = 64
_USUAL_BYTES = 2**20
_LARGE_BYTES = 32 * 2**20
_LARGE = (
    "/atelier.v1.ImageGenerationService/Score",
    "/atelier.v1.BrandService/AddReferenceImages",
    "/inference.",
)
"""Methods whose requests hold whole pictures. Of the others no honest one needs as much, and a megabyte of tiny map
entries is the most that the event loop should have to decode at once."""


@dataclass(frozen=True, slots=True)
class _Refused:
    """Stands for request bytes that are no message, or too many."""

    error: InvalidArgument


@dataclass(slots=True)
class _Outcome:
    """How a call ended; `reason` is empty without an error."""

    code: grpc.StatusCode = grpc.StatusCode.INTERNAL
    reason: str = ""


class CallInterceptor(grpc.aio.ServerInterceptor):
    """Wraps every handler; see the module.

    Args:
        calls: What counts them.
        access: What lets them in.
        unread_seconds: How long a client may leave a message unread before its call is ended.
    """

    def __init__(self, calls: CallMetrics, access: Access, unread_seconds: float) -> None:
        self._calls = calls
        self._access = access
        self._unread_seconds = unread_seconds

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Handler]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Handler:
        """Returns the wrapped handler, or None for a method that nobody serves."""
        handler = await continuation(handler_call_details)
        if handler is None:
            return None
        method = handler_call_details.method
        try:
            client = self._access.check(method, handler_call_details.invocation_metadata or ())
        except AtelierError as error:
            return self._refusal(error, method)
        deserializer = _guarded(handler.request_deserializer, method)
        serializer = handler.response_serializer
        make: Callable[..., Handler]
        if handler.unary_unary:
            make, behaviour = grpc.unary_unary_rpc_method_handler, self._wrapped(handler.unary_unary, method, client)
        elif handler.unary_stream:
            make, behaviour = grpc.unary_stream_rpc_method_handler, self._wrapped(handler.unary_stream, method, client)
        elif handler.stream_unary:
            make, behaviour = grpc.stream_unary_rpc_method_handler, self._wrapped(handler.stream_unary, method, client)
        else:
            make, behaviour = (
                grpc.stream_stream_rpc_method_handler,
                self._wrapped(handler.stream_stream, method, client),
            )
        return make(behaviour, request_deserializer=deserializer, response_serializer=serializer)

    def _refusal(self, error: AtelierError, method: str) -> Handler:
        """A handler that refuses, whatever the method's kind, without reading a byte of the request."""

        return grpc.stream_stream_rpc_method_handler(self._wrapped(None, method, error))

    def _wrapped(self, behaviour: Any, method: str, client: Client | AtelierError) -> Behaviour:
        async def handle(request: Any, context: Context) -> Any:
            begin_call(context.invocation_metadata() or ())
            with self._observed(method, context) as outcome:
                try:
                    if isinstance(client, AtelierError):
                        raise client
                    with self._access.inside(method, client, context):
                        response = await _serve(behaviour, request, context, self._unread_seconds)
                    outcome.code = grpc.StatusCode.OK
                    context.set_trailing_metadata(((REQUEST_ID_KEY, request_id.get()),))
                    return response
                except grpc.aio.AbortError:
                    outcome.code = context.code()
                    raise
                except asyncio.CancelledError:
                    outcome.code = grpc.StatusCode.CANCELLED
                    raise
                except AtelierError as error:
                    outcome.code, outcome.reason = status_code(error), error.reason
                    await self._tell(context, error)
                except Exception:
                    outcome.reason = Internal.reason
                    logger.exception("unexpected error in %s", method)
                    message = f"the server failed; its log has the reason under request id {request_id.get()}"
                    await self._tell(context, Internal(message))

        return handle

    async def _tell(self, context: Context, error: AtelierError) -> None:
        """Ends the call with an error. One that nobody reads must not keep the call, and what it holds, for ever."""
        try:
            async with asyncio.timeout(self._unread_seconds):
                await _abort(context, error)
        except (TimeoutError, grpc.aio.InternalError):  # unread, or the client is gone
            raise asyncio.CancelledError from None

    @contextmanager
    def _observed(self, method: str, context: Context) -> Iterator[_Outcome]:
        """Follows a call: its span, its line in the log, its place in the metrics."""
        outcome, started = _Outcome(), time.monotonic()
        quiet = method.startswith(_QUIET)
        headers = read_headers(context.invocation_metadata() or ())
        with server_span(method.removeprefix("/"), headers, traced=not quiet) as opened:
            try:
                yield outcome
            finally:
                seconds = time.monotonic() - started
                opened.set(request_id=request_id.get(), **{"rpc.grpc.status_code": outcome.code.value[0]})
                if outcome.code is not grpc.StatusCode.OK:
                    opened.fail(outcome.reason or outcome.code.name, fault=outcome.code in _FAULTS)
                self._calls.observe(method, outcome.code.name, outcome.reason, seconds)
                level = logging.DEBUG if quiet else logging.INFO
                logger.log(level, "%s %s in %.1f ms", method, outcome.code.name, seconds * 1000.0)


def _guarded(deserializer: Callable[[bytes], Any] | None, method: str) -> Callable[[bytes], Any] | None:
    if deserializer is None:
        return None
    most = _LARGE_BYTES if method.startswith(_LARGE) else _USUAL_BYTES

    def decode(data: bytes) -> Any:
        if len(data) > most:
            message = f"the request has {len(data)} bytes; this method takes at most {most}"
            return _Refused(InvalidArgument(message, reason="REQUEST_TOO_LARGE"))
        try:
            return deserializer(data)
        except DecodeError:
            message = "the request's bytes are no message of this method, or a text in it is not UTF-8; check the stubs"
            return _Refused(InvalidArgument(message, reason="UNDECODABLE_REQUEST"))

    return decode


async def _serve(behaviour: Behaviour, request: Any, context: Context, unread_seconds: float) -> Any:
    if isinstance(request, _Refused):
        raise request.error
    is_stream = hasattr(request, "__aiter__")
    result = behaviour(_checked(request) if is_stream else request, context)
    if not inspect.isasyncgen(result):
        try:
            return await result
        except AtelierError:
            if is_stream:
                await _read_out(request)
            raise
    with Patience(unread_seconds) as patience:
        async with aclosing(result):
            async for message in result:
                patience.begin()
                try:
                    await context.write(message)
                except grpc.aio.InternalError:  # the client is gone; the cancellation of this task is on its way
                    raise asyncio.CancelledError from None
                patience.end()
    return None


async def _read_out(requests: Any) -> None:
    """Takes what the client is still sending, within bounds: some clients lose the status when they cannot send on."""
    with suppress(TimeoutError):
        async with asyncio.timeout(_READ_OUT_SECONDS):
            for _ in range(_READ_OUT_MESSAGES):
                if await anext(aiter(requests), None) is None:
                    return


async def _checked(requests: Any) -> AsyncIterator[Any]:
    async for request in requests:
        if isinstance(request, _Refused):
            raise request.error
        yield request


async def _abort(context: Context, error: AtelierError) -> None:
    status = rpc_status(error, request_id.get())
    metadata = ((DETAILS_KEY, status.SerializeToString()), (REQUEST_ID_KEY, request_id.get()))
    await context.abort(status_code(error), status.message, metadata)
