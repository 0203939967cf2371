"""Dynamic batching without a clock or a model."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atelier_server.backends.onnx.batcher import Batcher, Item
from atelier_server.backends.onnx.queue_policy import BatchPolicy, QueuePolicy
from atelier_server.errors import ResourceExhausted

POLICY = BatchPolicy(max_rows=8, preferred_rows=frozenset({4}), delay_seconds=1.0)


def item(name: str, rows: int = 1, arrived: float = 0.0, key: str = "a", expires: float = math.inf) -> Item[str]:
    return Item(name, key, rows, arrived, expires, name)


def names(batch: list[Item[str]]) -> list[str]:
    return [entry.payload for entry in batch]


def test_triton_fields_are_read() -> None:
    policy = BatchPolicy.of(
        {
            "max_batch_size": 16,
            "dynamic_batching": {
                "preferred_batch_size": [4, 8],
                "max_queue_delay_microseconds": "2000",
                "default_queue_policy": {"max_queue_size": 7},
            },
        }
    )
    assert policy == BatchPolicy(16, frozenset({4, 8}), 0.002, QueuePolicy(7))
    assert BatchPolicy.of({"max_batch_size": 16}).max_rows == 1
    assert BatchPolicy.of({"dynamic_batching": {}}).max_rows == 1


def test_a_batch_leaves_when_it_has_a_preferred_size() -> None:
    batcher: Batcher[str] = Batcher(POLICY)
    for name in "abc":
        batcher.add(item(name))
    assert batcher.take(0.5) == []
    assert batcher.next_event(0.25) == 0.75
    batcher.add(item("d"))
    assert names(batcher.take(0.5)) == ["a", "b", "c", "d"]
    assert batcher.next_event(0.5) is None


def test_a_batch_leaves_when_the_oldest_waited_long_enough() -> None:
    batcher: Batcher[str] = Batcher(POLICY)
    batcher.add(item("a"))
    batcher.add(item("b", arrived=0.9))
    assert names(batcher.take(1.0)) == ["a", "b"]


def test_keys_are_not_mixed_and_the_oldest_goes_first() -> None:
    batcher: Batcher[str] = Batcher(POLICY)
    for name, key in (("a", "x"), ("b", "y"), ("c", "x")):
        batcher.add(item(name, key=key))
    assert names(batcher.take(5.0)) == ["a", "c"]
    assert names(batcher.take(5.0)) == ["b"]


def test_a_large_item_goes_alone() -> None:
    batcher: Batcher[str] = Batcher(POLICY)
    batcher.add(item("large", rows=20))
    batcher.add(item("small"))
    assert names(batcher.take(0.0)) == ["large"]


def test_expired_and_removed_items_never_leave_in_a_batch() -> None:
    batcher: Batcher[str] = Batcher(POLICY)
    batcher.add(item("late", expires=1.0))
    batcher.add(item("gone"))
    batcher.remove("gone")
    batcher.remove("never there")
    assert names(batcher.expired(1.0)) == ["late"]
    assert len(batcher) == 0
    assert batcher.take(9.0) == []


def test_a_full_queue_refuses() -> None:
    batcher: Batcher[str] = Batcher(BatchPolicy(max_rows=4, queue=QueuePolicy(1)))
    batcher.add(item("a"))
    with pytest.raises(ResourceExhausted):
        batcher.add(item("b"))


@given(st.lists(st.tuples(st.integers(1, 10), st.sampled_from("xyz")), max_size=40))
def test_everything_leaves_once_and_no_batch_is_too_large(rows: list[tuple[int, str]]) -> None:
    batcher: Batcher[str] = Batcher(POLICY)
    for index, (size, key) in enumerate(rows):
        batcher.add(item(str(index), rows=size, key=key))
    left: list[str] = []
    while batch := batcher.take(100.0):
        assert len({entry.key for entry in batch}) == 1
        assert sum(entry.rows for entry in batch) <= POLICY.max_rows or len(batch) == 1
        left += names(batch)
    assert sorted(left, key=int) == [str(index) for index in range(len(rows))]


def timed(name: str, times_out: float) -> Item[str]:
    return Item(name, "a", 1, 0.0, math.inf, name, times_out)


def test_what_waits_longer_than_the_policy_allows_is_refused_or_delayed() -> None:
    for delays, refused in ((False, ["late"]), (True, [])):
        batcher: Batcher[str] = Batcher(BatchPolicy(max_rows=1, queue=QueuePolicy(timeout_seconds=1.0, delays=delays)))
        batcher.add(timed("late", 1.0))
        batcher.add(timed("in time", 5.0))
        assert batcher.next_event(0.0) == 0.0
        assert names(batcher.expired(0.5)) == []
        assert names(batcher.expired(1.0)) == refused
        batcher.add(timed("new", 9.0))
        left = [names(batcher.take(2.0)) for _ in range(len(batcher))]
        assert left == [["in time"], ["new"]] + [["late"]] * delays


def test_a_delayed_item_can_still_expire_and_be_removed() -> None:
    batcher: Batcher[str] = Batcher(BatchPolicy(max_rows=1, queue=QueuePolicy(delays=True), delay_seconds=9.0))
    batcher.add(Item("a", "a", 1, 0.0, 3.0, "a", 1.0))
    batcher.add(timed("b", 1.0))
    assert batcher.expired(1.0) == []
    assert len(batcher) == 2
    assert batcher.next_event(1.0) == 2.0
    assert names(batcher.expired(3.0)) == ["a"]
    batcher.remove("b")
    assert batcher.next_event(3.0) is None


def test_a_caller_may_shorten_the_timeout_where_that_is_allowed() -> None:
    queue = {"default_timeout_microseconds": "2000000", "timeout_action": "DELAY"}
    config = {"max_batch_size": 4, "dynamic_batching": {"default_queue_policy": queue}}
    fixed = BatchPolicy.of(config).queue
    assert fixed.delays
    assert [fixed.patience(seconds) for seconds in (0.0, 1.0, 5.0)] == [2.0, 2.0, 2.0]
    queue["allow_timeout_override"] = True  # type: ignore[assignment]
    free = BatchPolicy.of(config).queue
    assert [free.patience(seconds) for seconds in (0.0, 1.0, 5.0)] == [2.0, 1.0, 2.0]
    assert BatchPolicy.of({"max_batch_size": 4, "dynamic_batching": {}}).queue.patience(0.0) == math.inf


def test_a_first_item_of_a_preferred_size_leaves_alone() -> None:
    batcher: Batcher[str] = Batcher(POLICY)
    batcher.add(item("preferred", rows=4))
    batcher.add(item("more", rows=2))
    assert names(batcher.take(0.0)) == ["preferred"]


LEVELS = BatchPolicy.of(
    {
        "dynamic_batching": {
            "priority_levels": "3",
            "default_priority_level": "2",
            "default_queue_policy": {"max_queue_size": 2},
            "priority_queue_policy": {"3": {"default_timeout_microseconds": "1000000", "timeout_action": "DELAY"}},
        }
    }
)


def of_level(name: str, level: int, times_out: float = math.inf) -> Item[str]:
    return Item(name, name, 1, 0.0, math.inf, name, times_out, level)


def test_what_a_caller_may_ask_for() -> None:
    assert [LEVELS.level(asked) for asked in (0, 1, 2, 3, 4)] == [2, 1, 2, 3, 2]
    assert BatchPolicy(max_rows=1).level(1) == 0
    assert LEVELS.of_level(1) == QueuePolicy(2)
    assert LEVELS.of_level(3) == QueuePolicy(timeout_seconds=1.0, delays=True)


def test_higher_levels_go_first_and_each_has_its_own_limits() -> None:
    batcher: Batcher[str] = Batcher(LEVELS)
    for name, level in (("c1", 3), ("b1", 2), ("a1", 1), ("b2", 2), ("a2", 1)):
        batcher.add(of_level(name, level))
    with pytest.raises(ResourceExhausted):
        batcher.add(of_level("b3", 2))
    batcher.add(of_level("c2", 3, times_out=math.inf))
    order = [names(batcher.take(0.0))[0] for _ in range(len(batcher))]
    assert order == ["a1", "a2", "b1", "b2", "c1", "c2"]
    assert len(batcher) == 0


def test_what_is_delayed_stays_before_lower_levels() -> None:
    batcher: Batcher[str] = Batcher(LEVELS)
    for name, times_out in (("late", 1.0), ("fresh", 9.0)):
        batcher.add(of_level(name, 3, times_out))
    assert batcher.expired(1.0) == []
    batcher.add(of_level("first", 1))
    assert [names(batcher.take(1.0))[0] for _ in range(3)] == ["first", "fresh", "late"]
