"""Answers of tensor models kept for equal requests, where their config.pbtxt says `response_cache { enable: true }`."""

import hashlib
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from atelier_server.frontend.kserve.tensors import BYTES, Array, to_raw
from atelier_server.repository.repository import ModelEntry

CAPACITY_BYTES = 64 * 2**20
"""Of all models together; what was not asked for longest goes first."""

_TEXT_BYTES = 33
"""What Python's own description of a text takes."""

Outputs = Mapping[str, Array]


@dataclass(frozen=True, slots=True)
class _Kept:
    entry: ModelEntry
    outputs: Outputs
    size: int


class ResponseCache:
    """Keeps outputs by model, version, inputs and wanted outputs. A model that is loaded anew starts without any."""

    def __init__(self, capacity_bytes: int = CAPACITY_BYTES) -> None:
        self._capacity = capacity_bytes
        self._kept: OrderedDict[bytes, _Kept] = OrderedDict()
        self._size = 0

    def get(self, key: bytes, entry: ModelEntry) -> Outputs | None:
        """What is kept of the model as it is loaded now; None when there is nothing."""
        kept = self._kept.get(key)
        if kept is None:
            return None
        if kept.entry is not entry:
            self._drop(key)
            return None
        self._kept.move_to_end(key)
        return kept.outputs

    def put(self, key: bytes, entry: ModelEntry, outputs: Outputs) -> None:
        """Keeps outputs; nothing that takes more than a quarter of the room."""
        size = sum(map(_size, outputs.values()))
        if size > self._capacity // 4:
            return
        self._drop(key)
        self._kept[key] = _Kept(entry, outputs, size)
        self._size += size
        while self._size > self._capacity:
            self._drop(next(iter(self._kept)))

    def _drop(self, key: bytes) -> None:
        kept = self._kept.pop(key, None)
        self._size -= kept.size if kept else 0


def request_key(model: str, version: str, inputs: Mapping[str, Array], outputs: Sequence[str]) -> bytes:
    """Equal for requests whose answers are."""
    digest = hashlib.sha256(repr((model, version, sorted(outputs))).encode())
    for name, array in sorted(inputs.items()):
        digest.update(repr((name, array.dtype.str, array.shape)).encode())
        digest.update(to_raw(array, BYTES) if array.dtype == object else array.tobytes())
    return digest.digest()


def _size(array: Array) -> int:
    """Bytes; an array of texts itself holds only where they are."""
    texts = sum(_TEXT_BYTES + len(text) for text in array.flat) if array.dtype == object else 0
    return array.nbytes + texts
