"""What the store keeps of a brand."""

import re
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from atelier_server.brand.palette import Swatch
from atelier_server.errors import InvalidArgument

BRAND_ID = re.compile(r"[a-z0-9_-]{1,64}")
REFERENCE_ID = re.compile(r"[0-9a-f]{64}")
MAX_NAME_CHARACTERS = 200
MAX_REFERENCES = 1000
"""References a brand may have; every one is compared with every picture."""

Vectors = NDArray[np.float32]
"""float32 [references, width], rows of length 1."""


@dataclass(frozen=True, slots=True)
class Space:
    """Where an embedding lives; vectors of two spaces are never compared.

    `digest` tells the weights' and the preprocessing's content, so that a model retrained in place is another space.
    """

    model: str
    version: str
    digest: str


@dataclass(frozen=True, slots=True)
class Reference:
    """A reference picture; `reference_id` is the SHA-256 of its file, `pixels_id` that of its pixels."""

    reference_id: str
    pixels_id: str
    size_bytes: int
    width: int
    height: int
    swatches: tuple[Swatch, ...]


@dataclass(frozen=True, slots=True)
class BrandRecord:
    """A brand. `uid` differs when a brand is made anew under the same id; `created` is seconds since the epoch."""

    brand_id: str
    uid: str
    name: str
    revision: int
    created: float
    reference_count: int
    embedded_count: int

    @property
    def pending(self) -> int:
        """References without an embedding in the space that was asked about."""
        return self.reference_count - self.embedded_count


@dataclass(frozen=True, slots=True)
class Embedded:
    """The references of a brand that are embedded in a space, in the order in which they were added."""

    reference_ids: tuple[str, ...]
    vectors: Vectors


def checked_brand_id(brand_id: str) -> str:
    """Returns the id.

    Raises:
        InvalidArgument: It is none.
    """
    if not BRAND_ID.fullmatch(brand_id):
        raise InvalidArgument(
            "a brand_id has 1 to 64 lower-case letters, digits, '-' and '_'", field="brand_id", reason="BAD_BRAND_ID"
        )
    return brand_id


def checked_name(name: str) -> str:
    """Returns a brand's name for people.

    Raises:
        InvalidArgument: It is too long or has control characters.
    """
    if len(name) > MAX_NAME_CHARACTERS or not name.isprintable():
        raise InvalidArgument(
            f"name has at most {MAX_NAME_CHARACTERS} characters, none of them control characters", field="name"
        )
    return name


def checked_reference_id(reference_id: str) -> str:
    """Returns the id.

    Raises:
        InvalidArgument: It is none.
    """
    if not REFERENCE_ID.fullmatch(reference_id):
        raise InvalidArgument("a reference_id has 64 hexadecimal digits; GetBrand lists them", field="reference_id")
    return reference_id
