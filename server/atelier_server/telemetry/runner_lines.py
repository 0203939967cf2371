"""What a runner process writes, in the server's log: its own JSON lines, and whatever its libraries print."""

import json
import logging
from typing import Any

from atelier_server.telemetry.logging import FIELDS

PREFIX = "atelier.runner."
"""Before the model's name: the logger of a runner's lines."""

_RESERVED = vars(logging.makeLogRecord({})).keys() | {"message", "asctime", *FIELDS}
"""Names that logging refuses or that are set otherwise."""


class RunnerLog:
    """Takes the lines of one runner.

    Args:
        model: The model's name.
    """

    def __init__(self, model: str) -> None:
        self._log = logging.getLogger(PREFIX + model)
        self._level = logging.INFO

    def take(self, line: str) -> None:
        """Logs a line. One that is no JSON object, such as a library's, gets the level of the line before."""
        text = line.rstrip()
        fields = _parsed(text)
        if fields is None:
            if text:
                self._log.log(self._level, "%s", text)
            return
        self._level = logging.getLevelNamesMapping().get(str(fields["level"]).upper(), logging.INFO)
        extra = {name: value for name, value in fields.items() if name not in _RESERVED}
        told = {name: str(fields.get(name, "")) for name in ("request_id", "trace_id", "exception")}
        self._log.log(self._level, "%s: %s", fields["logger"], fields["message"], extra=extra | told)


def _parsed(text: str) -> dict[str, Any] | None:
    if not text.startswith("{"):
        return None
    try:
        fields = json.loads(text)
    except ValueError:
        return None
    return fields if isinstance(fields, dict) and {"level", "logger", "message"} <= fields.keys() else None
