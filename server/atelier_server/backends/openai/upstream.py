"""Sends requests for pictures: one at a time a picture, again where that is safe, within the limits of the model.

This module loads the SDK (about a second); everything that is needed before a model is loaded lies elsewhere.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Any, Protocol

import openai

from atelier_server.backends.base import Pixels
from atelier_server.backends.openai.backoff import Backoff
from atelier_server.backends.openai.breaker import CircuitBreaker
from atelier_server.backends.openai.decode import damaged, decoded, from_base64
from atelier_server.backends.openai.failures import Failure, judged
from atelier_server.backends.openai.http import fetch, make_client, timeouts
from atelier_server.backends.openai.parameters import Parameters
from atelier_server.backends.openai.spending import Ledger
from atelier_server.errors import DeadlineExceeded
from atelier_server.telemetry.tracing import current_headers, span
from atelier_server.types import Usage

_log = logging.getLogger(__name__)

OnPartial = Callable[[str], Awaitable[None]]
"""Takes the base64 of an unfinished picture's file."""


class _Tokens(Protocol):
    input_tokens: int
    output_tokens: int
    total_tokens: int


@dataclass(frozen=True, slots=True)
class Answer:
    """A picture, uint8 [height, width, 3], and what it used; failed requests are counted in."""

    pixels: Pixels
    usage: Usage


@dataclass(slots=True)
class Counters:
    """Since the model was loaded."""

    requests: int = 0
    retries: int = 0
    failures: int = 0


class Upstream:
    """A connection to one service.

    Args:
        key: Never logged.
        parameters: The model's.
        breaker: Shared by all requests.
        ledger: Likewise.
    """

    def __init__(self, key: str, parameters: Parameters, breaker: CircuitBreaker, ledger: Ledger) -> None:
        self.counters = Counters()
        self._parameters = parameters
        self._breaker = breaker
        self._ledger = ledger
        self._backoff = Backoff(parameters)
        self._http = make_client(parameters)
        self._pictures = make_client(parameters)  # for URLs of pictures: it knows no key
        self._sdk = openai.AsyncOpenAI(
            api_key=key,
            base_url=parameters.base_url,
            max_retries=0,  # a hidden retry can bill twice and delays every sign of life
            timeout=timeouts(parameters),
            http_client=self._http,
        )

    async def close(self) -> None:
        """Closes the connections."""
        await self._http.aclose()
        await self._pictures.aclose()

    async def picture(
        self, arguments: dict[str, Any], estimate: float, deadline: float | None, on_partial: OnPartial
    ) -> Answer:
        """Asks for one picture, again after refusals that allow it.

        Args:
            arguments: Of `images.generate`.
            estimate: US dollars that it will cost; whoever calls holds them.
            deadline: time.monotonic() at which nobody waits any more; None: never.
            on_partial: Hears of unfinished pictures.

        Raises:
            AtelierError: There will be no picture.
        """
        sent = Usage()
        for retry in range(self._parameters.max_retries + 1):
            self._breaker.enter()
            outcome = await self._tried(arguments, estimate, deadline, on_partial)
            if isinstance(outcome, Answer):
                return replace(outcome, usage=outcome.usage + sent)
            sent += Usage(upstream_calls=1)
            wait = self._backoff.seconds(retry, outcome.after_seconds) if outcome.again else None
            if wait is None or (deadline is not None and time.monotonic() + wait >= deadline):
                raise outcome.error
            _log.info("the image service refused (%s); again in %.2f s", outcome.error.reason, wait)
            self.counters.retries += 1
            await asyncio.sleep(wait)
        raise AssertionError("the backoff ends the retries")

    async def _tried(
        self, arguments: dict[str, Any], estimate: float, deadline: float | None, on_partial: OnPartial
    ) -> Answer | Failure:
        """Sends one request; tells breaker and ledger how it ended."""
        self.counters.requests += 1
        left = self._parameters.request_timeout_seconds
        is_callers = deadline is not None and deadline - time.monotonic() < left
        try:
            async with asyncio.timeout(deadline - time.monotonic() if is_callers and deadline is not None else left):
                with span("upstream", kind="client", upstream_model=self._parameters.upstream_model):
                    passed_on = dict(current_headers())  # the SDK adds them to its own
                    answer = await self._sent(arguments | {"extra_headers": passed_on}, on_partial, estimate)
        except asyncio.CancelledError:
            self._abandoned(estimate)
            raise
        except Exception as error:
            if is_callers and isinstance(error, TimeoutError):
                self._abandoned(estimate)
                raise DeadlineExceeded("the deadline passed before the image service answered") from None
            return self._failed(judged(error, self._parameters.upstream_model), estimate)
        self._breaker.succeeded()
        self._ledger.spend(answer.usage.estimated_cost_usd)
        return answer

    def _failed(self, failure: Failure, estimate: float) -> Failure:
        self.counters.failures += 1
        if failure.is_fault:
            self._breaker.failed()
        else:
            self._breaker.succeeded()
        if failure.may_be_billed:
            self._ledger.spend(estimate)
        return failure

    def _abandoned(self, estimate: float) -> None:
        """Nobody waits any more. The service goes on all the same, and bills."""
        self._breaker.abandoned()
        self._ledger.spend(estimate)

    async def _sent(self, arguments: dict[str, Any], on_partial: OnPartial, estimate: float) -> Answer:
        if arguments.get("stream"):
            file, usage = await self._streamed(arguments, on_partial)
        else:
            file, usage = await self._replied(arguments)
        pixels = await asyncio.to_thread(decoded, file)
        return Answer(pixels, self._usage(usage, estimate))

    async def _replied(self, arguments: dict[str, Any]) -> tuple[bytes, _Tokens | None]:
        reply = await self._sdk.images.generate(**arguments)
        picture = reply.data[0] if reply.data else None
        if picture is not None and picture.b64_json:
            return await asyncio.to_thread(from_base64, picture.b64_json), reply.usage
        if picture is not None and picture.url:
            return await fetch(self._pictures, picture.url, self._parameters.base_url), reply.usage
        raise damaged()

    async def _streamed(self, arguments: dict[str, Any], on_partial: OnPartial) -> tuple[bytes, _Tokens | None]:
        async with await self._sdk.images.generate(**arguments) as stream:
            async for event in stream:
                if event.type == "image_generation.partial_image":
                    await on_partial(event.b64_json)
                elif event.type == "image_generation.completed":
                    return await asyncio.to_thread(from_base64, event.b64_json), getattr(event, "usage", None)
        raise damaged()

    def _usage(self, tokens: _Tokens | None, estimate: float) -> Usage:
        if tokens is None:
            return Usage(estimated_cost_usd=estimate, upstream_calls=1)
        prices = self._parameters
        cost = (tokens.input_tokens * prices.input_price_usd + tokens.output_tokens * prices.output_price_usd) / 1e6
        return Usage(
            tokens.input_tokens, tokens.output_tokens, tokens.total_tokens, prices.price_per_image_usd or cost, 1
        )
