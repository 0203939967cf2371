import asyncio

import pytest

from atelier_server.frontend.call import adopt_request_id, begin_call, made_request_id
from atelier_server.telemetry.logging import request_id


def test_a_call_without_a_header_gets_an_id_of_its_own() -> None:
    begin_call(())
    first = request_id.get()
    begin_call([("other", "x")])
    assert request_id.get() not in ("", "x", first)
    assert made_request_id() == request_id.get()


def test_the_header_names_the_call_in_the_log_only() -> None:
    begin_call([("x-request-id", "trace-1")])
    assert request_id.get() == "trace-1"
    assert made_request_id() != "trace-1"


@pytest.mark.parametrize("text", ["", "a b", "a\nb", "é", "x" * 129, "\x1b[31m"])
def test_an_id_that_could_garble_the_log_is_not_taken(text: str) -> None:
    begin_call([("x-request-id", text)])
    adopt_request_id(text)
    assert request_id.get() == made_request_id()


def test_a_binary_header_is_no_id() -> None:
    begin_call([("x-request-id", b"trace")])
    assert request_id.get() == made_request_id()


async def test_calls_do_not_see_each_others_ids() -> None:
    async def call(name: str) -> str:
        begin_call([("x-request-id", name)])
        await asyncio.sleep(0)
        return request_id.get()

    assert await asyncio.gather(call("a"), call("b")) == ["a", "b"]
