"""What an exception of the SDK means: for the caller, for a retry, for the circuit breaker.

A request is only sent again when the service answered that it did not carry it out, or when no connection was made.
After a timeout or in the middle of a reply nobody knows, and the picture may be billed already.
"""

from dataclasses import dataclass

import httpx2
import openai

from atelier_server import errors
from atelier_server.backends.openai.backoff import retry_after_seconds
from atelier_server.backends.openai.parameters import KEY_REFUSED

_MODERATION = {"moderation_blocked", "content_policy_violation"}
_QUOTA = {"insufficient_quota", "billing_hard_limit_reached"}
_AGAIN = {408, 409, 429}
_NOT_CONNECTED = (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.PoolTimeout)


@dataclass(frozen=True, slots=True)
class Failure:
    """One failed request.

    Args:
        error: For the caller.
        again: Whether it may be sent again.
        after_seconds: The pause that the service asked for.
        is_fault: Whether the service is to blame; counts at the circuit breaker.
        may_be_billed: Whether the service may have made the picture.
    """

    error: errors.AtelierError
    again: bool = False
    after_seconds: float | None = None
    is_fault: bool = False
    may_be_billed: bool = False


def judged(error: Exception, model: str) -> Failure:
    """Judges whatever a request raised.

    Args:
        model: The upstream's id, for messages.
    """
    if isinstance(error, openai.APIError):
        answer = _by_code(error.code or "", model)
        if answer is not None:
            return Failure(answer)
    if isinstance(error, openai.APIStatusError):
        return _by_status(error, model)
    if isinstance(error, errors.AtelierError):
        return Failure(error, is_fault=True, may_be_billed=True)
    if isinstance(error, openai.APIConnectionError) and isinstance(error.__cause__, _NOT_CONNECTED):
        return Failure(_unavailable("cannot be reached", "UPSTREAM_UNREACHABLE"), again=True, is_fault=True)
    if isinstance(error, openai.APITimeoutError | TimeoutError):
        return Failure(_unavailable("did not answer in time", "UPSTREAM_TIMEOUT"), is_fault=True, may_be_billed=True)
    return Failure(_unavailable("broke off its answer", "UPSTREAM_BROKEN"), is_fault=True, may_be_billed=True)


def _by_code(code: str, model: str) -> errors.AtelierError | None:
    """Refusals that mean the same under every HTTP status, and inside a stream."""
    if code in _MODERATION:
        return errors.ModerationBlocked(
            "the image service refuses this prompt by its content rules; change what it asks for", field="prompt"
        )
    if code in _QUOTA:
        return errors.ResourceExhausted(
            "the account at the image service has no credit left; its owner must add some, or ask for a local model",
            reason="UPSTREAM_QUOTA_SPENT",
            metadata={"model": model},
        )
    if code == "invalid_api_key":
        return key_refused()
    return None


def _by_status(error: openai.APIStatusError, model: str) -> Failure:
    status, code = error.status_code, error.code or ""
    if status in (401, 403):
        return Failure(key_refused())
    again = status in _AGAIN or status >= 500
    wish = error.response.headers.get("x-should-retry", "").lower()
    again = wish == "true" if wish in ("true", "false") else again
    after = retry_after_seconds(error.response.headers)
    if status == 429:
        limited = errors.ResourceExhausted(
            "the image service's rate limit is reached; try again later or ask for a local model",
            reason="UPSTREAM_RATE_LIMITED",
            retry_after_seconds=after if after is not None else 5.0,
            metadata={"model": model},
        )
        return Failure(limited, again, after)
    if status >= 500 or status in _AGAIN:
        return Failure(
            _unavailable(f"failed with HTTP status {status}", "UPSTREAM_FAILED"), again, after, is_fault=True
        )
    if status == 404:
        unknown = f"the image service does not know the model {model}; set upstream_model in config.pbtxt"
        return Failure(errors.FailedPrecondition(unknown, reason="UPSTREAM_MODEL_UNKNOWN"), again, after)
    if error.param == "prompt":
        return Failure(errors.InvalidArgument("the image service refuses the prompt", field="prompt"), again, after)
    told = " ".join(part for part in (error.param, code) if part)
    refused = f"the image service refuses the request with HTTP status {status}{told and f' ({told[:80]})'}"
    return Failure(errors.FailedPrecondition(refused, reason="UPSTREAM_REFUSED"), again, after)


def key_refused() -> errors.FailedPrecondition:
    """What callers hear while the key is a wrong one."""
    return errors.FailedPrecondition(
        "the image service refuses the server's key: put a valid one into OPENAI_API_KEY and load the model again",
        reason=KEY_REFUSED,
    )


def _unavailable(what: str, reason: str) -> errors.Unavailable:
    return errors.Unavailable(f"the image service {what}; ask for a local model, or try again", reason=reason)
