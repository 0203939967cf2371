"""Between the event log of a computation and the cache: what is kept of a log, and how a kept result is told again."""

from collections.abc import Iterable, Iterator, Sequence

from atelier_server.cache.result import KeptPicture, KeptResult
from atelier_server.types import Completed, Event, ImageChunk, ImageCompleted, Started

CHUNK_BYTES = 1024 * 1024
"""Every language's default client takes messages up to 4 MiB; 1 MiB leaves room."""


def chunks(image_index: int, data: bytes) -> Iterator[ImageChunk]:
    """Cuts an encoded picture into pieces."""
    for offset in range(0, len(data), CHUNK_BYTES):
        piece = data[offset : offset + CHUNK_BYTES]
        yield ImageChunk(image_index, offset, len(data), piece, last=offset + CHUNK_BYTES >= len(data))


def kept(events: Iterable[Event]) -> KeptResult | None:
    """What to keep of a finished generation; None when it did not succeed."""
    started: Started | None = None
    completed: Completed | None = None
    files: dict[int, list[bytes]] = {}
    pictures: list[ImageCompleted] = []
    for event in events:
        match event:
            case Started():
                started = event
            case ImageChunk(image_index=index, data=data):
                files.setdefault(index, []).append(data)
            case ImageCompleted():
                pictures.append(event)
            case Completed():
                completed = event
    if started is None or completed is None:
        return None
    return KeptResult(started, tuple(KeptPicture(b"".join(files[one.image_index]), one) for one in pictures), completed)


def told(result: KeptResult) -> Sequence[Event]:
    """The events of a kept result, without the steps that nobody waits for now."""
    events: list[Event] = [result.started]
    for picture in result.pictures:
        events += [*chunks(picture.completed.image_index, picture.data), picture.completed]
    return [*events, result.completed]
