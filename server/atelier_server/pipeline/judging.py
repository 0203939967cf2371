"""The Score call: a client's pictures, judged like generated ones."""

import asyncio
from collections import Counter
from functools import partial

from atelier_server.errors import DeadlineExceeded, ResourceExhausted
from atelier_server.pipeline.caller import Caller
from atelier_server.pipeline.criteria import of_score_request
from atelier_server.pipeline.score import ModelScorer
from atelier_server.scoring.intake import check_file, decode
from atelier_server.types import ScoreRequest, Scores

MAX_WAITING_BYTES = 512 * 1024 * 1024
"""Files of all calls that wait or are judged; more would fill the memory while decoding is slower than the network."""
CLIENT_PART = 0.5
"""Of them that one client may have."""


class Judging:
    """Judges pictures by one prompt and brand."""

    def __init__(self, scorer: ModelScorer, max_waiting_bytes: int = MAX_WAITING_BYTES) -> None:
        self._scorer = scorer
        self._max_bytes = max_waiting_bytes
        self._held: Counter[str] = Counter()  # bytes by client

    async def judge(self, request: ScoreRequest, caller: Caller) -> tuple[Scores, ...]:
        """Scores pictures, in their order.

        Raises:
            InvalidArgument: A field or a picture is wrong; the first wrong picture is named.
            NotFound: There is no such brand.
            ResourceExhausted: Too many pictures wait, of this client or in all.
            DeadlineExceeded: The caller's time was too short.
        """
        criteria = of_score_request(request)
        for index, data in enumerate(request.images):
            check_file(data, _field(index))
        size = sum(map(len, request.images))
        client = caller.account.name
        self._take(client, size)
        try:
            async with asyncio.timeout(caller.remaining_seconds()):
                standard = await self._scorer.standards.of(criteria)
                judged = await asyncio.gather(
                    *(
                        self._scorer.judge(partial(decode, data, _field(index)), criteria, standard)
                        for index, data in enumerate(request.images)
                    ),
                    return_exceptions=True,
                )
        except TimeoutError:
            raise DeadlineExceeded("the deadline passed before all pictures were judged") from None
        finally:
            self._held[client] -= size
            self._held += Counter()  # forgets those who hold nothing
        scores: list[Scores] = []
        for result in judged:
            if isinstance(result, BaseException):
                raise result
            scores.append(result)
        return tuple(scores)

    def _take(self, client: str, size: int) -> None:
        """Counts a call's files; one client does not fill the whole room while others may come."""
        if size > self._max_bytes - self._held.total() or self._held[client] + size > CLIENT_PART * self._max_bytes:
            raise ResourceExhausted(
                "too many pictures wait to be scored; try again later", reason="QUEUE_FULL", retry_after_seconds=1.0
            )
        self._held[client] += size


def _field(index: int) -> str:
    return f"images[{index}]"
