"""A wait that takes too long ends its block; nothing else does."""

import asyncio

import pytest

from atelier_server.errors import Cancelled
from atelier_server.frontend.patience import Patience


async def read_nothing(seconds: float, after: float = 0.0) -> None:
    """Waits for ever, from some time on."""
    with Patience(seconds) as patience:
        await asyncio.sleep(after)
        patience.begin()
        await asyncio.sleep(60)


async def test_a_wait_that_takes_too_long_ends_the_block() -> None:
    with pytest.raises(Cancelled, match=r"nothing was read for 0.05 s") as caught:
        await read_nothing(0.05)
    assert caught.value.reason == "SLOW_READER"
    await asyncio.sleep(0)  # the task is not cancelled any more


async def test_each_wait_has_its_own_time_and_what_lies_between_them_has_none() -> None:
    with Patience(0.1) as patience:
        for _ in range(4):
            patience.begin()
            await asyncio.sleep(0.04)
            patience.end()
        await asyncio.sleep(0.25)


async def test_a_late_wait_gets_its_whole_time() -> None:
    began = asyncio.get_running_loop().time()
    with pytest.raises(Cancelled):
        await read_nothing(0.1, after=0.15)
    assert 0.25 <= asyncio.get_running_loop().time() - began < 10


async def test_another_cancellation_stays_one() -> None:
    task = asyncio.create_task(read_nothing(60))
    await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_errors_of_the_block_pass_through() -> None:
    with pytest.raises(ValueError, match="mine"), Patience(60):
        raise ValueError("mine")
