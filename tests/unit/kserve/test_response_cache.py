"""Answers that are kept: for equal requests to the same load of a model, within their bound."""

from pathlib import Path

import numpy as np

from atelier_server.frontend.kserve.response_cache import ResponseCache, request_key
from atelier_server.frontend.kserve.tensors import bytes_array
from atelier_server.repository.repository import ModelEntry

ENTRY = ModelEntry("m", Path(), None)
X = np.array([[1.0, 2.0]], np.float32)


def test_equal_requests_have_one_key_and_others_have_their_own() -> None:
    same = request_key("m", "1", {"x": X, "y": X}, ("a", "b"))
    assert same == request_key("m", "1", {"y": X.copy(), "x": X}, ("b", "a"))
    others = [
        request_key("n", "1", {"x": X, "y": X}, ("a", "b")),
        request_key("m", "2", {"x": X, "y": X}, ("a", "b")),
        request_key("m", "1", {"x": X, "z": X}, ("a", "b")),
        request_key("m", "1", {"x": X, "y": X + 1}, ("a", "b")),
        request_key("m", "1", {"x": X, "y": X.reshape(2, 1)}, ("a", "b")),
        request_key("m", "1", {"x": X, "y": X.view(np.int32)}, ("a", "b")),
        request_key("m", "1", {"x": X, "y": X}, ("a",)),
    ]
    assert len({same, *others}) == 8


def test_texts_are_told_apart_by_what_they_say() -> None:
    texts = [[b"a bag", b""], [b"a", b" bag"], [b"a ba", b"g"], [b"another", b"one"]]
    keys = [request_key("m", "1", {"x": bytes_array(pair)}, ()) for pair in texts]
    assert len(set(keys)) == len(texts)
    same = bytes("a bag", "ascii") + b"", bytes(0)
    assert request_key("m", "1", {"x": bytes_array(same)}, ()) == keys[0]


def test_long_texts_take_their_room() -> None:
    cache = ResponseCache(capacity_bytes=4000)
    for key in (b"a", b"b", b"c", b"d", b"e"):
        cache.put(key, ENTRY, {"y": bytes_array([b"x" * 800])})
    assert sum(cache.get(key, ENTRY) is not None for key in (b"a", b"b", b"c", b"d", b"e")) == 4
    cache.put(b"large", ENTRY, {"y": bytes_array([b"x" * 3000])})
    assert cache.get(b"large", ENTRY) is None


def test_a_model_that_is_loaded_anew_starts_without_any() -> None:
    cache = ResponseCache()
    cache.put(b"k", ENTRY, {"y": X})
    assert cache.get(b"k", ENTRY) == {"y": X}
    assert cache.get(b"k", ModelEntry("m", Path(), None)) is None
    assert cache.get(b"k", ENTRY) is None


def test_what_was_not_asked_for_longest_goes_first() -> None:
    cache = ResponseCache(capacity_bytes=4 * X.nbytes)
    for key in (b"a", b"b", b"c", b"d"):
        cache.put(key, ENTRY, {"y": X})
    assert cache.get(b"a", ENTRY) is not None
    cache.put(b"e", ENTRY, {"y": X})
    assert [cache.get(key, ENTRY) is not None for key in (b"a", b"b", b"c", b"d", b"e")] == [
        True,
        False,
        True,
        True,
        True,
    ]
    cache.put(b"large", ENTRY, {"y": np.tile(X, 2)})
    assert cache.get(b"large", ENTRY) is None
    cache.put(b"a", ENTRY, {"y": X})
    assert sum(cache.get(key, ENTRY) is not None for key in (b"a", b"b", b"c", b"d", b"e")) == 4
