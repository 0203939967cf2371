"""What is kept of a generation, and its form on disk: a JSON header with sizes and digests, then the files."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from atelier_server.types import (
    Completed,
    Dimensions,
    ImageCompleted,
    NearestReference,
    Reproducibility,
    Scores,
    Started,
    TruncatedTokens,
    Usage,
)

FORMAT = 1
"""Changes with the form on disk; entries of another form are misses."""


class DamagedError(ValueError):
    """The bytes are not what was written."""


@dataclass(frozen=True, slots=True)
class KeptPicture:
    """A picture's file and its last event."""

    data: bytes
    completed: ImageCompleted


@dataclass(frozen=True, slots=True)
class KeptResult:
    """A generation that succeeded; `completed` holds the first caller's own time, metadata and date."""

    started: Started
    pictures: tuple[KeptPicture, ...]
    completed: Completed

    @property
    def size_bytes(self) -> int:
        """Of the files."""
        return sum(len(picture.data) for picture in self.pictures)


def to_bytes(result: KeptResult) -> bytes:
    """The form on disk."""
    header = {
        "format": FORMAT,
        "started": asdict(result.started),
        "completed": asdict(result.completed),
        "pictures": [asdict(picture.completed) | {"size": len(picture.data)} for picture in result.pictures],
    }
    text = json.dumps(header).encode()
    body = b"".join(picture.data for picture in result.pictures)
    return hashlib.sha256(text).digest() + len(text).to_bytes(8, "little") + text + body


def from_bytes(data: bytes) -> KeptResult:
    """Reads the form on disk and checks every digest.

    Raises:
        DamagedError: The bytes are cut, changed or of another format.
    """
    size = int.from_bytes(data[32:40], "little")
    text = data[40 : 40 + size]
    if len(data) < 40 or hashlib.sha256(text).digest() != data[:32]:
        raise DamagedError("the header is damaged")
    header: dict[str, Any] = json.loads(text)
    if header["format"] != FORMAT:
        raise DamagedError(f"format {header['format']}")
    pictures, offset = [], 40 + size
    for entry in header["pictures"]:
        length = entry.pop("size")
        file = data[offset : offset + length]
        offset += length
        if hashlib.sha256(file).hexdigest() != entry["sha256"]:
            raise DamagedError("a picture is damaged")
        pictures.append(KeptPicture(file, _image_completed(entry)))
    return KeptResult(_started(header["started"]), tuple(pictures), _completed(header["completed"]))


def _started(data: Mapping[str, Any]) -> Started:
    return Started(
        **{
            **data,
            "seeds": tuple(data["seeds"]),
            "dimensions": Dimensions(**data["dimensions"]),
            "native_dimensions": Dimensions(**data["native_dimensions"]),
            "truncated_tokens": tuple(TruncatedTokens(**entry) for entry in data["truncated_tokens"]),
        }
    )


def _image_completed(data: Mapping[str, Any]) -> ImageCompleted:
    scores = data["scores"]
    nearest = tuple(NearestReference(**entry) for entry in scores["nearest_references"])
    return ImageCompleted(
        **{
            **data,
            "dimensions": Dimensions(**data["dimensions"]),
            "native_dimensions": Dimensions(**data["native_dimensions"]),
            "scores": Scores(**{**scores, "nearest_references": nearest, "warnings": tuple(scores["warnings"])}),
        }
    )


def _completed(data: Mapping[str, Any]) -> Completed:
    return Completed(
        **{
            **data,
            "reproducibility": Reproducibility(data["reproducibility"]),
            "ignored_fields": tuple(data["ignored_fields"]),
            "accelerations": tuple(data.get("accelerations", ())),
            "usage": Usage(**data["usage"]) if data.get("usage") else None,
        }
    )
