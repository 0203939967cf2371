"""The parts of the openai backend that need no service: waits, breaker, money, places, parameters."""

import asyncio
import email.utils
import time

import pytest

from atelier_server.backends.openai.backoff import Backoff, retry_after_seconds
from atelier_server.backends.openai.breaker import CircuitBreaker
from atelier_server.backends.openai.parameters import Parameters, checked_key, read_parameters
from atelier_server.backends.openai.places import FIRST_GUESS_SECONDS, Places
from atelier_server.backends.openai.spending import Ledger
from atelier_server.errors import FailedPrecondition, InvalidArgument, ResourceExhausted, Unavailable


class Clock:
    """Time that passes on demand, in seconds."""

    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_jitter_is_full_and_doubles_up_to_its_end() -> None:
    limits = Parameters(max_retries=5, first_backoff_seconds=1.0, longest_backoff_seconds=5.0)
    assert [Backoff(limits, lambda: 1.0).seconds(retry, None) for retry in range(6)] == [1.0, 2.0, 4.0, 5.0, 5.0, None]
    assert [Backoff(limits, lambda: 0.0).seconds(retry, None) for retry in range(3)] == [0.0, 0.0, 0.0]


def test_the_service_s_wish_is_a_lower_bound() -> None:
    limits = Parameters(first_backoff_seconds=1.0, longest_retry_after_seconds=60.0)
    assert Backoff(limits, lambda: 0.5).seconds(0, 10.0) == 10.5
    assert Backoff(limits, lambda: 0.5).seconds(0, 61.0) is None


def test_retry_after_is_read_in_all_its_forms() -> None:
    assert retry_after_seconds({"retry-after-ms": "250", "retry-after": "9"}) == 0.25
    assert retry_after_seconds({"retry-after": "1.5"}) == 1.5
    assert retry_after_seconds({"retry-after": "-3"}) == 0.0
    date = email.utils.formatdate(time.time() + 100, usegmt=True)
    assert retry_after_seconds({"retry-after": date}) == pytest.approx(100, abs=2)
    for unreadable in ("soon", "inf", "nan", "1e999", "Fri, 31 Dec 99999 23:59:59 GMT"):
        assert retry_after_seconds({"retry-after": unreadable}) is None
    assert retry_after_seconds({"retry-after-ms": "inf", "retry-after": "9"}) == 9.0
    assert retry_after_seconds({}) is None


def test_the_breaker_opens_tries_one_and_closes(clock: Clock) -> None:
    breaker = CircuitBreaker(3, 30.0, clock)
    for _ in range(2):
        breaker.enter()
        breaker.failed()
    breaker.succeeded()  # the count is of failures in a row
    for _ in range(3):
        breaker.enter()
        breaker.failed()
    assert breaker.open_seconds == 30.0
    with pytest.raises(Unavailable) as caught:
        breaker.enter()
    assert caught.value.retry_after_seconds == 30.0
    clock.now += 30.0
    assert breaker.open_seconds == 0.0
    breaker.enter()
    with pytest.raises(Unavailable):
        breaker.enter()  # one trial at a time
    breaker.failed()
    assert breaker.open_seconds == 30.0
    clock.now += 31.0
    breaker.enter()
    breaker.abandoned()
    breaker.enter()
    breaker.succeeded()
    breaker.enter()
    breaker.enter()


def test_money_is_held_before_it_is_spent(clock: Clock) -> None:
    ledger = Ledger(per_call=1.0, per_day=2.0, clock=clock)
    with pytest.raises(ResourceExhausted, match="most for one call"), ledger.hold(1.01):
        pass
    with ledger.hold(0.9) as one, ledger.hold(0.9):
        with pytest.raises(ResourceExhausted) as caught, ledger.hold(0.3):
            pass
        assert caught.value.reason == "SPEND_LIMIT"
        assert caught.value.retry_after_seconds is not None
        assert 0 < caught.value.retry_after_seconds <= 86_400
        assert ledger.spent == 0.0, "what is held is not spent"
        ledger.spend(0.1)
        one.release(0.9)
        one.release(0.9)
        assert ledger.left_today == pytest.approx(2.0 - 0.9 - 0.1)
    assert ledger.left_today == pytest.approx(1.9)
    with ledger.hold(0.9) as over_midnight:
        clock.now += 86_400
        over_midnight.release(0.9)  # it failed and was not billed
    assert ledger.left_today == pytest.approx(2.0), "the new day has no more than its limit"
    assert ledger.spent == pytest.approx(0.1)


def test_without_limits_nothing_is_refused() -> None:
    with Ledger(0.0, 0.0).hold(1e9) as held:
        assert held.left == 1e9


async def test_places_are_bounded_and_learn_their_pace() -> None:
    places = Places(2)
    assert places.wait_seconds == 0.0
    async with places.one(), places.one():
        third = asyncio.create_task(_take(places))
        await asyncio.sleep(0)
        assert (places.waiting, places.running) == (1, 2)
        assert places.wait_seconds == pytest.approx(2 * FIRST_GUESS_SECONDS / 2)
        third.cancel()
        await asyncio.gather(third, return_exceptions=True)
        assert places.waiting == 0
    assert places.running == 0
    assert places.seconds_per_picture < FIRST_GUESS_SECONDS


async def _take(places: Places) -> None:
    async with places.one():
        pass


def test_parameters_are_numbers_in_their_range() -> None:
    given = {"role": "diffusion", "max_retries": "2", "stall_timeout_seconds": "1.5", "upstream_model": "x"}
    parameters = read_parameters(given, {"OPENAI_BASE_URL": "http://here/v1"})
    assert (parameters.max_retries, parameters.stall_timeout_seconds, parameters.upstream_model) == (2, 1.5, "x")
    assert parameters.base_url == "http://here/v1"


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        ("max_retry", "2", "did you mean max_retries"),
        ("max_retries", "many", "must be a number"),
        ("max_retries", "1.5", "must be a number"),
        ("breaker_seconds", "-1", "must be a number"),
        ("breaker_seconds", "nan", "must be a number"),
        ("breaker_seconds", "inf", "must be a number"),
        ("max_concurrency", "0", "must be a number from 1"),
    ],
)
def test_wrong_parameters_are_named(name: str, text: str, told: str) -> None:
    with pytest.raises(InvalidArgument, match=told) as caught:
        read_parameters({name: text}, {})
    assert name in caught.value.field


@pytest.mark.parametrize("key", ["sk-proj-a1b2", "local", "yourself-7", "EMPTY"])
def test_a_key_is_taken_as_it_is(key: str) -> None:
    assert checked_key(f" {key}\n") == key


@pytest.mark.parametrize(
    "key", ["", "  ", "your-api-key", "YOUR_API_KEY", "sk-your-key", "<key>", "...", "changeme", "a b"]
)
def test_a_placeholder_is_no_key(key: str) -> None:
    with pytest.raises(FailedPrecondition):
        checked_key(key)


async def test_clients_take_turns_at_the_places() -> None:
    places, order = Places(1), []

    async def use(client: str, share: float = 1.0) -> None:
        async with places.one(client, share):
            order.append(client)
            await asyncio.sleep(0)

    async with asyncio.TaskGroup() as group, places.one("first"):
        for _ in range(20):
            group.create_task(use("greedy"))
        await asyncio.sleep(0)
        assert places.is_full("greedy", 20)
        assert not places.is_full("modest", 20)
        for _ in range(3):
            group.create_task(use("modest"))
            group.create_task(use("large", 4.0))
        await asyncio.sleep(0)
        assert (places.waiting, places.running) == (26, 1)
    assert (places.waiting, places.running) == (0, 0)
    assert len(order) == 26
    assert order[:8].count("modest") >= 2
    assert order[:8].count("large") == 3
    assert set(order[8:]) <= {"greedy", "modest"}
    assert not places.is_full("greedy", 0), "a place is free"
    async with places.one("greedy"):
        assert places.is_full("greedy", 0)


async def test_who_gives_up_waiting_leaves_no_place_behind() -> None:
    places = Places(1)
    entered = asyncio.Event()

    async def use(client: str) -> None:
        async with places.one(client):
            entered.set()
            await asyncio.sleep(0)

    async with places.one("a"):
        waiting = [asyncio.create_task(use(name)) for name in ("b", "c")]
        await asyncio.sleep(0)
        waiting[0].cancel()
        await asyncio.wait([waiting[0]])
        assert places.waiting == 1
    waiting[1].cancel()  # it was given the place that "a" left, and has not run since
    await asyncio.wait([waiting[1]])
    assert not entered.is_set()
    assert (places.waiting, places.running) == (0, 0)
    await asyncio.wait_for(use("d"), 20)
    assert entered.is_set()
