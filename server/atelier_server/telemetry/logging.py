"""Log lines on stderr, as text or JSON, each with the request id and trace id of the call that caused it.

Never a prompt. Runner processes log JSON to their own stderr; the server writes those lines into its log in its form.
"""

import json
import logging
import sys
import time
from typing import Any, TextIO

from atelier_server.telemetry.origin import request_id as request_id
from atelier_server.telemetry.tracing import current_trace_id

OUR_LOGGERS = ("atelier_server", "atelier")
"""The server's own modules, and the runners' lines that it passes on."""

FIELDS = ("time", "level", "logger", "message", "request_id", "trace_id", "exception")
"""Of a JSON line, beside what `extra` adds; docs/12-observability.md explains them."""

_OF_A_CALL = ("request_id", "trace_id")
_STANDARD_FIELDS = frozenset(vars(logging.makeLogRecord({}))) | {
    "message",
    "asctime",
    "taskName",
    "exception",
    *_OF_A_CALL,
}


class CallFilter(logging.Filter):
    """Gives every record the request id and the trace id of its context, unless it has them."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Always True: it adds, it drops nothing."""
        if not hasattr(record, "request_id"):
            record.request_id = request_id.get()
        if not hasattr(record, "trace_id"):
            record.trace_id = current_trace_id()
        return True


class TextFormatter(logging.Formatter):
    """`2026-01-31T12:00:00.123Z INFO atelier_server.frontend.app [request id] message key=value`."""

    def format(self, record: logging.LogRecord) -> str:
        """One line, and the traceback below it where there is one."""
        words = [_timestamp(record), record.levelname, record.name]
        if getattr(record, "request_id", ""):
            words.append(f"[{record.__dict__['request_id']}]")
        words.append(record.getMessage())
        words += [f"{key}={value}" for key, value in _extra(record).items()]
        if getattr(record, "trace_id", ""):
            words.append(f"trace_id={record.__dict__['trace_id']}")
        line = " ".join(words).replace("\n", "\\n")
        traceback = _traceback(self, record)
        return f"{line}\n{traceback}" if traceback else line


class JsonFormatter(logging.Formatter):
    """One JSON object a line: the FIELDS that are known, and what `extra` holds."""

    def format(self, record: logging.LogRecord) -> str:
        """One line, always; a traceback is the field `exception`."""
        fields: dict[str, Any] = {
            "time": _timestamp(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        fields |= {name: record.__dict__[name] for name in _OF_A_CALL if getattr(record, name, "")}
        fields |= _extra(record)
        if traceback := _traceback(self, record):
            fields["exception"] = traceback
        return json.dumps(fields, default=str, ensure_ascii=False)


def configure_logging(log_format: str = "text", log_level: str = "info", stream: TextIO | None = None) -> None:
    """Sends the process's log, and Python's warnings, to `stream`. A second call replaces the first.

    Args:
        log_format: text or json.
        log_level: debug, info, warning or error; other people's libraries speak from warning on.
        stream: None: stderr.
    """
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(JsonFormatter() if log_format == "json" else TextFormatter())
    handler.addFilter(CallFilter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    level = logging.getLevelNamesMapping()[log_level.upper()]
    root.setLevel(max(level, logging.WARNING))
    for ours in OUR_LOGGERS:
        logging.getLogger(ours).setLevel(level)
    logging.captureWarnings(True)


def _timestamp(record: logging.LogRecord) -> str:
    seconds = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
    return f"{seconds}.{int(record.msecs):03d}Z"


def _traceback(formatter: logging.Formatter, record: logging.LogRecord) -> str:
    """Of this process, or the one that a runner's line brought along."""
    return formatter.formatException(record.exc_info) if record.exc_info else str(getattr(record, "exception", ""))


def _extra(record: logging.LogRecord) -> dict[str, Any]:
    return {key: value for key, value in vars(record).items() if key not in _STANDARD_FIELDS}
