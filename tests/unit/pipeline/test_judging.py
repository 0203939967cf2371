"""Room for pictures that wait to be judged: bounded in all, and for each client."""

import asyncio
from typing import Any

import pytest

from atelier_server.errors import ResourceExhausted
from atelier_server.pipeline.caller import Caller
from atelier_server.pipeline.judging import Judging
from atelier_server.security.quotas import Account
from atelier_server.types import ScoreRequest, Scores

PICTURE = b"\x89PNG\r\n\x1a\n" + bytes(92)
"""100 bytes that are not decoded here."""


class Held:
    """A scorer that judges when it is let."""

    def __init__(self) -> None:
        self.go = asyncio.Event()
        self.standards = self

    async def of(self, criteria: Any) -> None:
        await self.go.wait()

    async def judge(self, *words: Any) -> Scores:
        return Scores()


async def test_one_client_does_not_fill_the_room() -> None:
    scorer: Any = Held()
    judging = Judging(scorer, max_waiting_bytes=1000)

    def ask(client: str, pictures: int) -> asyncio.Task[tuple[Scores, ...]]:
        request = ScoreRequest(images=(PICTURE,) * pictures)
        return asyncio.create_task(judging.judge(request, Caller(account=Account(client))))

    inside = [ask("greedy", 3), ask("greedy", 2)]
    await asyncio.sleep(0)
    with pytest.raises(ResourceExhausted):
        await ask("greedy", 1)
    inside += [ask("modest", 3)]
    await asyncio.sleep(0)
    with pytest.raises(ResourceExhausted):
        await ask("third", 3)
    scorer.go.set()
    assert [len(scores) for scores in await asyncio.gather(*inside)] == [3, 2, 3]
    assert len(await ask("greedy", 5)) == 5
