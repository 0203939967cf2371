"""What config.pbtxt says of a model of this backend, and the key, which it never says."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from difflib import get_close_matches
from pathlib import Path

from atelier_server.errors import FailedPrecondition, InvalidArgument

DEFAULT_BASE_URL = "https://api.openai.com/v1"
KEY_VARIABLE, KEY_FILE_VARIABLE, BASE_URL_VARIABLE = "OPENAI_API_KEY", "OPENAI_API_KEY_FILE", "OPENAI_BASE_URL"
KEY_REFUSED = "UPSTREAM_KEY_REFUSED"
"""The reason of errors that no retry heals, only another key."""
_OF_EVERY_MODEL = {"role", "required_environment", "required_files", "dtype", "threads"}
_PLACEHOLDER = re.compile(r"<.*>|(.*[\W_])?(your|placeholder|changeme|example)([\W_].*)?|x{3,}|\.{3,}", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Parameters:
    """The `parameters {}` of a model; 0 means no limit where a limit is named, prices are US dollars.

    Args:
        upstream_model: The id that is sent.
        base_url: Where to; OPENAI_BASE_URL goes first.
        api_key_file: A file that holds the key; OPENAI_API_KEY goes first, OPENAI_API_KEY_FILE next.
        moderation: auto or low, for GPT image models.
        max_concurrency: Requests under way at once.
        max_waiting: Calls that may wait for one of these places.
        max_retries: How often a refused request is sent again.
        first_backoff_seconds: Upper end of the random wait before the first retry; doubled at each further one.
        longest_backoff_seconds: The doubling's end.
        longest_retry_after_seconds: A service that wants a longer pause than this is not asked again.
        connect_timeout_seconds: For the connection.
        stall_timeout_seconds: Longest silence of the service; pictures may take two minutes without a sign.
        request_timeout_seconds: For one request in all.
        max_reply_bytes: A longer reply is cut off.
        breaker_failures: So many failures in a row stop all requests.
        breaker_seconds: For so long; then one request is tried.
        max_cost_per_call_usd: A dearer call is refused, and AUTO does not choose the model for it.
        max_cost_per_day_usd: The same for all calls of a UTC day; counted since the model was loaded.
        input_price_usd: For a million tokens read.
        output_price_usd: For a million tokens written.
        price_per_image_usd: For services that count no tokens; 0: dall-e-3's list prices.
    """

    upstream_model: str = "gpt-image-2.6-flare"
    base_url: str = DEFAULT_BASE_URL
    api_key_file: str = ""
    moderation: str = "auto"
    max_concurrency: int = 4
    max_waiting: int = 32
    max_retries: int = 4
    first_backoff_seconds: float = 0.5
    longest_backoff_seconds: float = 20.0
    longest_retry_after_seconds: float = 60.0
    connect_timeout_seconds: float = 10.0
    stall_timeout_seconds: float = 150.0
    request_timeout_seconds: float = 300.0
    max_reply_bytes: int = 48 * 1024 * 1024
    breaker_failures: int = 5
    breaker_seconds: float = 30.0
    max_cost_per_call_usd: float = 0.0
    max_cost_per_day_usd: float = 0.0
    input_price_usd: float = 5.0
    output_price_usd: float = 30.0
    price_per_image_usd: float = 0.0


def read_parameters(given: Mapping[str, str], environment: Mapping[str, str]) -> Parameters:
    """Reads the parameters of config.pbtxt.

    Raises:
        InvalidArgument: One is unknown, no number or out of its range; the field names it.
    """
    known = {field.name: field.type for field in fields(Parameters)}
    values: dict[str, str | int | float] = {}
    for name, text in given.items():
        if name in _OF_EVERY_MODEL:
            continue
        if name not in known:
            nearest = get_close_matches(name, known, n=1)
            hint = f"; did you mean {nearest[0]}?" if nearest else ""
            raise InvalidArgument(f"parameters.{name} is not known{hint}", field=f"parameters.{name}")
        values[name] = _value(name, text, known[name])
    if environment.get(BASE_URL_VARIABLE):
        values["base_url"] = environment[BASE_URL_VARIABLE]
    return Parameters(**values)  # type: ignore[arg-type]


def _value(name: str, text: str, kind: object) -> str | int | float:
    if kind is str:
        return text
    least = 1 if name in ("max_concurrency", "max_reply_bytes", "breaker_failures") else 0
    try:
        number = int(text) if kind is int else float(text)
    except ValueError:
        number = -1
    if not least <= number < float("inf"):
        raise InvalidArgument(f"parameters.{name} is {text!r}; it must be a number from {least} on", field=name)
    return number


def read_key(parameters: Parameters, environment: Mapping[str, str]) -> str:
    """The key, from OPENAI_API_KEY, the file that OPENAI_API_KEY_FILE names, or the parameter's file.

    Raises:
        FailedPrecondition: There is none; the message says what to do.
    """
    file = environment.get(KEY_FILE_VARIABLE) or parameters.api_key_file
    key = environment.get(KEY_VARIABLE, "")
    if not key and file:
        try:
            key = Path(file).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError):
            raise FailedPrecondition(f"the key's file {file} cannot be read", reason="KEY_MISSING") from None
    return checked_key(key)


def checked_key(key: str) -> str:
    """The key without white space around it.

    Raises:
        FailedPrecondition: It is empty, or a placeholder from an example.
    """
    key = key.strip()
    if not key:
        raise FailedPrecondition(f"set {KEY_VARIABLE} or {KEY_FILE_VARIABLE}", reason="KEY_MISSING")
    if _PLACEHOLDER.fullmatch(key) or not re.fullmatch(r"[\x21-\x7e]+", key):
        raise FailedPrecondition(f"{KEY_VARIABLE} holds a placeholder, not a key", reason="KEY_MISSING")
    return key
