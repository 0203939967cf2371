"""Files of prompts: CSV with a heading, or JSON Lines. Each row is a call; its columns are generate's options."""

import argparse
import csv
import hashlib
import io
import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from atelier_client._errors import InvalidArgument
from atelier_client.cli._generate import request_fields
from atelier_client.cli._parser import parse_row, row_columns

_YES, _NO = {"yes", "true", "1"}, {"no", "false", "0"}
_ROWS_LIMIT = 100_000


@dataclass(frozen=True, slots=True)
class Row:
    """One call of a file of prompts.

    Args:
        number: From 1, without the heading.
        name: Its pictures' file name without an extension; no other row has it.
        key: The same for the same request, wherever its row stands; equal rows differ by their order.
        prompt: What the picture shows.
        fields: Keyword arguments of Atelier.generate.
    """

    number: int
    name: str
    key: str
    prompt: str
    fields: Mapping[str, Any]


def read_rows(path: str, options: argparse.Namespace) -> tuple[Row, ...]:
    """All rows of a file of prompts, each laid over the options of the command line.

    Raises:
        InvalidArgument: The file cannot be read, or a row is wrong; the message names it.
    """
    rows: list[Row] = []
    names: dict[str, int] = {}
    seen: Counter[str] = Counter()
    for number, cells in enumerate(_cells(path), start=1):
        where = f"{path}, row {number}"
        if number > _ROWS_LIMIT:
            raise InvalidArgument(f"{path} has more than {_ROWS_LIMIT} rows; split it.", field="from")
        row = _row(where, number, cells, options, seen)
        if (earlier := names.setdefault(row.name.lower(), number)) != number:
            raise InvalidArgument(f"{where}: row {earlier} has the name {row.name!r} already.", field="name")
        rows.append(row)
    if not rows:
        raise InvalidArgument(f"{path} has no rows.", field="from")
    return tuple(rows)


def _row(where: str, number: int, cells: Mapping[str, Any], options: argparse.Namespace, seen: Counter[str]) -> Row:
    cells = {key.strip().lower().replace("-", "_"): value for key, value in cells.items() if value not in (None, "")}
    prompt, name = cells.pop("prompt", None), cells.pop("name", None)
    if not isinstance(prompt, str) or not prompt.strip():
        raise InvalidArgument(f"{where} has no prompt.", field="prompt")
    if name is not None and not re.fullmatch(r"[^\W_][\w .-]{0,99}", str(name)):
        message = f"{where}: {name!r:.80} is no file name; use letters, digits, '-', '_' and '.'."
        raise InvalidArgument(message, field="name")
    try:
        fields = request_fields(parse_row(list(_words(cells)), options))
    except InvalidArgument as error:
        raise InvalidArgument(f"{where}: {error.message}", field=error.field) from error
    fields = {key: value for key, value in fields.items() if value is not None}
    asked = {key: value for key, value in fields.items() if key not in {"timeout", "request_id"}}
    content = json.dumps([prompt, asked], sort_keys=True)
    seen[content] += 1
    key = hashlib.sha256(f"{content} {seen[content]}".encode("utf-8", "surrogateescape")).hexdigest()[:16]
    words = re.sub(r"\W+", "-", prompt.lower())[:40].strip("-_") or "picture"
    return Row(number, str(name) if name is not None else f"{words}-{key[:6]}", key, prompt, fields)


def _words(cells: Mapping[str, Any]) -> Iterator[str]:
    """A row as words of a command line, so that rows and command lines obey the same rules."""
    columns = row_columns()
    for column, value in cells.items():
        if column == "metadata" and isinstance(value, Mapping):
            yield from (f"--metadata={key}={text}" for key, text in value.items())
        elif column.startswith("metadata."):
            yield f"--metadata={column.removeprefix('metadata.')}={value}"
        elif column == "no_brand_check":
            yield from ["--no-brand-check"] * _is_yes(column, value)
        elif column in columns:
            if not isinstance(value, str | int | float) or isinstance(value, bool):
                raise InvalidArgument(f"{column} cannot be {json.dumps(value):.80}.", field=column)
            yield f"{columns[column]}={value}"
        else:
            known = ", ".join(sorted({"prompt", "name", "metadata.KEY", *columns} - {"metadata"}))
            raise InvalidArgument(f"there is no column {column!r}; the columns are {known}.", field=column)


def _is_yes(column: str, value: object) -> bool:
    word = str(value).lower()
    if word not in _YES | _NO:
        raise InvalidArgument(f"{column} is yes or no, not {word!r:.80}.", field=column)
    return word in _YES


def _cells(path: str) -> Iterator[Mapping[str, Any]]:
    try:
        text = Path(path).read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise InvalidArgument(f"{path} cannot be read: {error.strerror}.", field="from") from error
    except UnicodeDecodeError as error:
        raise InvalidArgument(f"{path} is not UTF-8 text; save it as CSV UTF-8.", field="from") from error
    match Path(path).suffix.lower():
        case ".csv":
            return _csv_cells(path, text)
        case ".jsonl" | ".ndjson":
            return _json_cells(path, text)
    raise InvalidArgument(f"{path} is no file of prompts; name it .csv or .jsonl.", field="from")


def _csv_cells(path: str, text: str) -> Iterator[Mapping[str, Any]]:
    heading = text.partition("\n")[0]
    # Spreadsheets write semicolons where the comma is the decimal sign.
    delimiter = max(",;\t", key=heading.count)
    try:
        lines = [line for line in csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True) if line]
    except csv.Error as error:
        raise InvalidArgument(f"{path} is no CSV: {error}.", field="from") from error
    names = [name.strip() for name in lines[0]] if lines else []
    if "prompt" not in [name.lower() for name in names]:
        raise InvalidArgument(f"{path} has no column prompt in its first line.", field="prompt")
    if twice := [name for name, count in Counter(names).items() if count > 1]:
        raise InvalidArgument(f"{path} has the column {twice[0]!r} twice.", field="from")
    for number, cells in enumerate(lines[1:], start=1):
        if len(cells) > len(names):
            message = (
                f"{path}, row {number}: {len(cells)} cells under {len(names)} columns; quote cells that hold a comma."
            )
            raise InvalidArgument(message, field="from")
        yield {name: cell.strip() for name, cell in zip(names, cells, strict=False)}


def _json_cells(path: str, text: str) -> Iterator[Mapping[str, Any]]:
    # Only \n ends a line: str.splitlines would also break at characters that a prompt may hold.
    for line in filter(str.strip, text.split("\n")):
        try:
            cells = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise InvalidArgument(f"{path}: {line:.40} … is no JSON: {error}.", field="from") from error
        if not isinstance(cells, dict):
            raise InvalidArgument(f"{path}: {line:.40} … is no JSON object.", field="from")
        yield cells
