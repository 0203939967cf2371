"""When a refused request is sent again: full jitter, and what the service itself asks for."""

import email.utils
import math
import random
import time
from collections.abc import Callable, Mapping

from atelier_server.backends.openai.parameters import Parameters


class Backoff:
    """Draws waits. Full jitter: evenly from 0 to first × 2^retry, so that callers who were refused together part.

    Args:
        parameters: The bounds.
        draw: Evenly from 0 to 1.
    """

    def __init__(self, parameters: Parameters, draw: Callable[[], float] = random.random) -> None:
        self._parameters = parameters
        self._draw = draw

    def seconds(self, retry: int, asked: float | None) -> float | None:
        """Time to wait before a retry; None: do not retry.

        Args:
            retry: From 0.
            asked: What the service asked for, seconds; the jitter is added.
        """
        limits = self._parameters
        if retry >= limits.max_retries or (asked or 0.0) > limits.longest_retry_after_seconds:
            return None
        widest = min(limits.first_backoff_seconds * 2.0**retry, limits.longest_backoff_seconds)
        return (asked or 0.0) + self._draw() * widest


def retry_after_seconds(headers: Mapping[str, str]) -> float | None:
    """What retry-after-ms or Retry-After (seconds or a date) ask for; None where neither can be read."""
    milliseconds, text = _number(headers.get("retry-after-ms", "")), headers.get("retry-after", "")
    if milliseconds is not None:
        return max(0.0, milliseconds / 1000.0)
    seconds = _number(text)
    return max(0.0, seconds) if seconds is not None else _until(text)


def _number(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _until(date: str) -> float | None:
    """Seconds until a date; one that the calendar does not have is none."""
    parsed = email.utils.parsedate_tz(date)
    try:
        return None if parsed is None else max(0.0, email.utils.mktime_tz(parsed) - time.time())
    except (ValueError, OverflowError):
        return None
