"""The stream's own rules, with answers that do as they are told."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing

import pytest

from atelier_server._generated.atelier.kserve import grpc_service_pb2 as pb
from atelier_server.errors import Internal, NotFound
from atelier_server.frontend.kserve.stream import MOST_AT_ONCE, InferStream


class Answers:
    """Gives each request one response when it may."""

    def __init__(self) -> None:
        self.may_answer = asyncio.Event()
        self.running = self.most_running = self.cancelled = 0

    async def __call__(self, request: pb.ModelInferRequest) -> AsyncGenerator[pb.ModelInferResponse, None]:
        self.running += 1
        self.most_running = max(self.most_running, self.running)
        try:
            await self.may_answer.wait()
            if request.model_name == "nobody":
                raise NotFound("there is none")
            if request.model_name == "broken":
                raise ZeroDivisionError("a secret")
            yield pb.ModelInferResponse(id=request.id)
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        finally:
            self.running -= 1


async def requests(count: int, model: str = "") -> AsyncIterator[pb.ModelInferRequest]:
    for index in range(count):
        yield pb.ModelInferRequest(id=str(index), model_name=model)


async def test_only_so_many_requests_are_under_way() -> None:
    answers = Answers()
    stream = InferStream(answers, fail_on_error=False)
    ids = set()
    async with aclosing(stream.run(requests(MOST_AT_ONCE * 2))) as messages:
        first = asyncio.ensure_future(anext(messages))
        while answers.running < MOST_AT_ONCE:  # noqa: ASYNC110 - it tells nobody
            await asyncio.sleep(0)
        answers.may_answer.set()
        ids.add((await first).infer_response.id)
        ids |= {message.infer_response.id async for message in messages}
    assert len(ids) == MOST_AT_ONCE * 2
    assert answers.most_running == MOST_AT_ONCE


async def test_a_stream_that_cannot_be_read_on_ends(caplog: pytest.LogCaptureFixture) -> None:
    async def broken() -> AsyncIterator[pb.ModelInferRequest]:
        yield pb.ModelInferRequest(id="first")
        raise ZeroDivisionError("a secret")

    stream = InferStream(Answers(), fail_on_error=False)
    with pytest.raises(Internal) as caught:
        async with asyncio.timeout(5), aclosing(stream.run(broken())) as messages:
            await anext(messages)
    assert "secret" not in caught.value.message
    assert "could not be read" in caplog.text


async def test_closing_a_stream_cancels_what_is_under_way() -> None:
    answers = Answers()
    stream = InferStream(answers, fail_on_error=False)
    async with aclosing(stream.run(requests(5))) as messages:
        waiting = asyncio.ensure_future(anext(messages))
        while answers.running < 5:  # noqa: ASYNC110 - it tells nobody
            await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
    assert (answers.running, answers.cancelled) == (0, 5)


@pytest.mark.parametrize(("model", "told"), [("nobody", "there is none"), ("broken", "the server failed")])
async def test_errors_are_messages_without_internals(model: str, told: str) -> None:
    answers = Answers()
    answers.may_answer.set()
    stream = InferStream(answers, fail_on_error=False)
    (message,) = [message async for message in stream.run(requests(1, model))]
    assert message.error_message.startswith(told)
    assert "secret" not in message.error_message
    assert message.infer_response.id == "0"


async def test_errors_may_end_the_stream() -> None:
    answers = Answers()
    answers.may_answer.set()
    stream = InferStream(answers, fail_on_error=True)
    with pytest.raises(NotFound):
        _ = [message async for message in stream.run(requests(1, "nobody"))]
