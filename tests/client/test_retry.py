"""Waits between attempts, on a clock and a jitter that the test holds."""

import pytest

from atelier_client import Internal, Retry, Unavailable
from atelier_client._retry import Attempts

DOWN = Unavailable("down")


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_waits_double_up_to_the_longest() -> None:
    attempts = Attempts(Retry(attempts=6, first_seconds=1.0, longest_seconds=5.0), None, jitter=lambda: 1.0)
    assert [attempts.wait_after(DOWN) for _ in range(6)] == [1.0, 2.0, 4.0, 5.0, 5.0, None]
    assert attempts.remaining() is None


def test_waits_are_spread_down_to_zero() -> None:
    attempts = Attempts(Retry(first_seconds=1.0), None, jitter=lambda: 0.0)
    assert attempts.wait_after(DOWN) == 0.0


def test_the_server_names_the_shortest_wait() -> None:
    attempts = Attempts(Retry(first_seconds=1.0), None, jitter=lambda: 0.5)
    assert attempts.wait_after(Unavailable("down", retry_after=4.0)) == 4.5


@pytest.mark.parametrize("policy", [Retry(attempts=1), Retry(longest_seconds=3.0)])
def test_a_wait_that_is_too_long_is_none(policy: Retry) -> None:
    assert Attempts(policy, None, jitter=lambda: 0.5).wait_after(Unavailable("down", retry_after=4.0)) is None


def test_other_errors_are_final() -> None:
    assert Attempts(Retry(), None).wait_after(Internal("broken")) is None


def test_all_attempts_share_one_deadline() -> None:
    clock = Clock()
    attempts = Attempts(Retry(first_seconds=2.0), 10.0, clock=clock, jitter=lambda: 1.0)
    assert attempts.remaining() == 10.0
    clock.now += 7.0
    assert attempts.remaining() == 3.0
    assert attempts.wait_after(DOWN) == 2.0
    clock.now += 2.5
    assert attempts.wait_after(DOWN) is None
    clock.now += 2.5
    assert attempts.remaining() == 0.0


def test_a_patient_caller_does_not_lose_patience_while_the_server_names_waits() -> None:
    attempts = Attempts(Retry(attempts=2000, first_seconds=1.0, longest_seconds=9.0), None, jitter=lambda: 1.0)
    waits = [attempts.wait_after(Unavailable("loading", retry_after=5.0)) for _ in range(1500)]
    assert (waits[:4], set(waits[4:])) == ([6.0, 7.0, 9.0, 9.0], {9.0})
