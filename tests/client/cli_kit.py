"""Running the command `atelier` in a test."""

import json
from collections.abc import Callable
from typing import Any

Run = Callable[..., tuple[int, str, str]]
"""Runs the command with these words; exit code, stdout, stderr."""


def document(outcome: tuple[int, str, str], code: int = 0) -> Any:
    """The one JSON object on stdout."""
    assert (outcome[0], outcome[2]) == (code, ""), outcome
    return json.loads(outcome[1])
