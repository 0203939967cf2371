"""Buckets and accounts, on a clock of their own."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from atelier_server.errors import ResourceExhausted
from atelier_server.security.quotas import Account, Bucket, Limits


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


amounts = st.floats(0.1, 50)


@given(st.lists(st.tuples(amounts, st.floats(0, 30)), max_size=60), st.floats(1, 100), st.floats(0.01, 10))
@settings(deadline=None, max_examples=60)
def test_nobody_gets_more_than_the_capacity_and_what_came_back(
    wishes: list[tuple[float, float]], capacity: float, per_second: float
) -> None:
    clock = Clock()
    bucket, taken, begun = Bucket(capacity, per_second, clock), 0.0, clock.now
    for amount, pause in wishes:
        wait = bucket.take(amount)
        if not wait:
            taken += amount
        else:
            clock.now += wait + 1e-6
            assert bucket.take(amount) == 0.0, "it is there when it was promised"
            taken += amount
        clock.now += pause
        # A wish larger than the bucket is lent; the debt is worked off before the next one.
        assert taken <= capacity + (clock.now - begun) * per_second + max(amount, capacity)


def test_a_wish_larger_than_the_bucket_is_granted_when_it_is_full_and_paid_off() -> None:
    clock = Clock()
    bucket = Bucket(10.0, 1.0, clock)
    assert bucket.take(25.0) == 0.0
    assert bucket.take(1.0) == pytest.approx(16.0)
    clock.now += 16.0
    assert bucket.take(1.0) == 0.0


def test_what_is_given_back_can_be_used_and_is_never_more_than_the_capacity() -> None:
    clock = Clock()
    account = Account("a", Limits(pixel_steps=100.0), clock)
    account.charge(80.0)
    with pytest.raises(ResourceExhausted):
        account.charge(30.0)
    account.give_back(40.0)
    account.charge(30.0)
    account.give_back(1e9)
    account.charge(100.0)
    with pytest.raises(ResourceExhausted) as caught:
        account.charge(1.0)
    assert caught.value.retry_after_seconds == pytest.approx(36.0)


def test_calls_leave_however_they_end() -> None:
    account = Account("a", Limits(concurrent_calls=1))
    for _ in range(3):
        with pytest.raises(RuntimeError), account.call():
            raise RuntimeError
    with account.call(), pytest.raises(ResourceExhausted) as caught, account.call():
        pass
    assert caught.value.metadata == {"quota": "concurrent_calls", "client": "a"}
    with account.call():
        pass


def test_new_limits_keep_what_was_used_of_those_that_stay() -> None:
    clock = Clock()
    account = Account("a", Limits(requests_per_minute=2, pixel_steps=10), clock)
    account.request()
    account.request()
    account.change(Limits(requests_per_minute=2, pixel_steps=20, share=3.0))
    assert account.share == 3.0
    with pytest.raises(ResourceExhausted):
        account.request()
    account.charge(20.0)
    account.change(Limits())
    for _ in range(100):
        account.request()
        account.charge(1e12)


def test_who_has_no_limits_is_never_refused() -> None:
    account = Account("a")
    for _ in range(1000):
        with account.call():
            account.request()
            account.charge(1e15)
    account.give_back(1.0)
