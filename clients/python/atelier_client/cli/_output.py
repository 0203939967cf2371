"""What the command prints: one JSON object, or text for people. Errors are one line."""

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from atelier_client._errors import AtelierError


@dataclass(frozen=True, slots=True)
class Answer:
    """What a command found, for programs and for people, and the error that it nevertheless ends with."""

    document: Mapping[str, object]
    text: str
    error: AtelierError | None = None


def print_answer(answer: Answer, *, as_json: bool) -> None:
    """Prints to stdout."""
    print(to_json(answer.document) if as_json else answer.text, flush=True)


def print_error(error: AtelierError, *, as_json: bool) -> None:
    """One line to stderr, or one JSON object to stdout."""
    if as_json:
        facts = {
            "code": error.code,
            "message": error.message,
            "field": error.field or None,
            "reason": error.reason or None,
        }
        print(to_json({"error": facts}))
        return
    message = " ".join(error.message.split())
    field = f"{error.field}: " if error.field and error.field not in message else ""
    print(f"atelier: {field}{message} [{error.reason or error.code}]", file=sys.stderr)


def to_json(document: Mapping[str, object]) -> str:
    """One object on several lines, in plain ASCII so that any locale can print it."""
    return json.dumps(document, indent=2, default=_encode)


def _encode(value: object) -> object:
    if isinstance(value, datetime):
        return value.isoformat()
    raise TypeError(type(value).__name__)


def table(headings: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Columns under headings, each as wide as its widest cell."""
    cells = [list(headings), *([show(cell) for cell in row] for row in rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(headings))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in cells
    )


def show(value: object) -> str:
    """A value as people read it; "-" for what is missing."""
    match value:
        case None | "":
            return "-"
        case bool():
            return "yes" if value else "no"
        case float():
            return f"{value:.2f}"
        case _:
            return str(value)
