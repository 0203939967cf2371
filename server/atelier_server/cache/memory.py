"""The newest results in memory, bounded by bytes."""

from collections import OrderedDict

from atelier_server.cache.result import KeptResult


class MemoryCache:
    """Least recently used results leave first.

    Args:
        capacity_bytes: Bytes of picture files that may be kept; 0 keeps nothing.
    """

    def __init__(self, capacity_bytes: int) -> None:
        self._capacity = capacity_bytes
        self._results: OrderedDict[str, KeptResult] = OrderedDict()
        self._size = 0

    def get(self, key: str) -> KeptResult | None:
        """The result of a key, now the most recently used."""
        result = self._results.get(key)
        if result is not None:
            self._results.move_to_end(key)
        return result

    def put(self, key: str, result: KeptResult) -> None:
        """Keeps a result, unless it alone is larger than the capacity."""
        self.drop(key)
        if result.size_bytes > self._capacity:
            return
        self._results[key] = result
        self._size += result.size_bytes
        while self._size > self._capacity:
            _, oldest = self._results.popitem(last=False)
            self._size -= oldest.size_bytes

    def drop(self, key: str) -> None:
        """Forgets a key."""
        old = self._results.pop(key, None)
        if old is not None:
            self._size -= old.size_bytes
