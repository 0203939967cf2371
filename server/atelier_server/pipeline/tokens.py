"""How many tokens a text has for a model's text encoders, without loading the encoders."""

import math
import re
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

from tokenizers import Tokenizer

ROOM = 75
"""Of the 77 tokens that CLIP's encoders read, without the begin and end tokens."""

Count = Callable[[str], int]

_PIECES = re.compile(r"[^\W\d_]+|\d|[^\w\s]+|_")
_LETTERS_PER_TOKEN = 6


def token_counter(folder: Path) -> Count:
    """Counts by the tokenizer.json of a checkpoint in the diffusers layout, or estimates where there is none."""
    file = folder / "tokenizer" / "tokenizer.json"
    try:
        return _exact(file, file.stat().st_mtime_ns)
    except OSError:
        return estimated_tokens


def estimated_tokens(text: str) -> int:
    """Rather too many than too few: CLIP reads most English words as one token, and single digits.

    Other scripts fall back to bytes.
    """
    count = 0
    for piece in _PIECES.findall(text):
        count += math.ceil(len(piece) / _LETTERS_PER_TOKEN) if piece.isascii() else len(piece.encode())
    return count


@lru_cache(maxsize=8)
def _exact(file: Path, _changed_ns: int) -> Count:
    try:
        tokenizer = Tokenizer.from_file(str(file))
    except Exception:  # the library raises nothing more precise; a damaged file is the loading's to report
        return estimated_tokens
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return lambda text: len(tokenizer.encode(text, add_special_tokens=False).ids)
