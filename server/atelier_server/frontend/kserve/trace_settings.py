"""TraceSetting: which inference requests leave a line in the log that tells what became of them, and spans.

A trace is a log line rather than a file of Triton's format: a path that a caller chooses has no place on a server.
Where nobody has set a level, OpenTelemetry's sampler alone decides about spans.
"""

import logging
from collections.abc import Iterable
from dataclasses import dataclass, field

from atelier_server._generated.atelier.kserve import grpc_service_pb2 as pb
from atelier_server.errors import InvalidArgument, NotImplementedYet

DEFAULTS: dict[str, tuple[str, ...]] = {
    "trace_level": ("OFF",),
    "trace_rate": ("1000",),
    "trace_count": ("-1",),
    "log_frequency": ("0",),
    "trace_file": ("",),
    "trace_mode": ("triton",),
}
LEVELS = ("OFF", "TIMESTAMPS")
MOST_DIGITS = 18

logger = logging.getLogger(__name__)


@dataclass(slots=True)
class _Sampling:
    """Requests seen since the last trace, and traces left (-1: without end)."""

    seen: int = 0
    left: int = -1


@dataclass(slots=True)
class TraceSettings:
    """Settings of all models, and of some over them; a setting that is cleared follows the wider one again."""

    _changed: dict[str, dict[str, tuple[str, ...]]] = field(default_factory=dict)
    _sampling: dict[str, _Sampling] = field(default_factory=dict)

    def change(self, model: str, settings: Iterable[tuple[str, tuple[str, ...]]]) -> None:
        """Applies all settings, or none; "" is all models, no values clear a setting.

        Raises:
            InvalidArgument: A setting is unknown or its value wrong.
            NotImplementedYet: Where traces go is not decided by callers.
        """
        changed = dict(self._changed.get(model, {}))
        for name, values in settings:
            _check(name, values)
            changed[name] = values
            if not values:
                del changed[name]
        if changed != self._changed.get(model, {}):
            self._changed[model] = changed
            self._sampling.clear()

    def effective(self, model: str) -> dict[str, tuple[str, ...]]:
        """The settings that hold for a model; "" for the ones that hold where a model has none of its own."""
        return DEFAULTS | self._changed.get("", {}) | self._changed.get(model, {})

    def response(self, model: str) -> pb.TraceSettingResponse:
        """The same as a message."""
        response = pb.TraceSettingResponse()
        for name, values in self.effective(model).items():
            response.settings[name].value.extend(values)
        return response

    def rules(self, model: str) -> bool:
        """Whether anybody has set a level for a model's requests."""
        return any("trace_level" in self._changed.get(name, {}) for name in ("", model))

    def wants(self, model: str) -> bool:
        """Whether this request of a model is one to trace; counts it."""
        if not self._changed:
            return False
        settings = self.effective(model)
        if "TIMESTAMPS" not in settings["trace_level"]:
            return False
        sampling = self._sampling.setdefault(model, _Sampling(left=int(settings["trace_count"][0])))
        sampling.seen += 1
        if sampling.seen < int(settings["trace_rate"][0]) or sampling.left == 0:
            return False
        sampling.seen = 0
        sampling.left -= sampling.left > 0
        return True


def log_trace(request: pb.ModelInferRequest, milliseconds: float, outcome: str) -> None:
    """Writes the line of one request."""
    logger.info(
        "trace model=%s version=%s id=%s outcome=%s inputs=%d took=%.3f ms",
        request.model_name[:100],
        request.model_version[:20] or "newest",
        request.id[:100],
        outcome,
        len(request.inputs),
        milliseconds,
    )


def _check(name: str, values: tuple[str, ...]) -> None:
    if name not in DEFAULTS:
        raise InvalidArgument(f"there is no trace setting '{name[:40]}'", field="settings")
    if name in ("trace_file", "trace_mode") and values and values != DEFAULTS[name]:
        raise NotImplementedYet(f"{name} cannot be changed: traces go to the server's log", field=name)
    if name == "trace_level" and any(value not in LEVELS for value in values):
        raise InvalidArgument(f"trace_level must be of {', '.join(LEVELS)}", field=name)
    lowest = {"trace_rate": 1, "trace_count": -1, "log_frequency": 0}.get(name)
    if lowest is not None and values:
        text = values[0]
        if len(values) > 1 or len(text) > MOST_DIGITS or not text.removeprefix("-").isdecimal() or int(text) < lowest:
            raise InvalidArgument(f"Unable to parse '{name}', got: {text[:40]}", field=name)
