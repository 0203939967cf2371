"""`atelier-server models …`: what the commands print."""

import json
import sys
from typing import Any

from atelier_server.errors import AtelierError
from atelier_server.repository.fetch import fetch
from atelier_server.repository.remote import RemoteRepository
from atelier_server.repository.repository import ModelEntry, Repository

READY_TO_LOAD, NOT_PROVIDED, WRONG = "ok", "not provided", "wrong"


def list_models(repository: Repository, *, as_json: bool) -> int:
    """Prints every model of the repository. Returns the exit code."""
    entries = repository.scan()
    if as_json:
        print(json.dumps({"model_repository": str(repository.root), "models": [_row(entry) for entry in entries]}))
    else:
        print(_table([_row(entry) for entry in entries]) or f"{repository.root} holds no models")
    return 0


def check_models(repository: Repository, *, as_json: bool) -> int:
    """Checks every model. What was never provided is no fault. Returns 1 when a model is wrong."""
    rows = [_row(entry) for entry in repository.scan()]
    wrong = [row for row in rows if row["status"] == WRONG]
    if as_json:
        print(json.dumps({"model_repository": str(repository.root), "ok": not wrong, "models": rows}))
    else:
        for row in wrong:
            print(f"{row['name']}: {row['problem']}", file=sys.stderr)
        print(f"{repository.root}: {len(rows)} models, {len(wrong)} wrong")
    return 1 if wrong else 0


def fetch_model(repository: Repository, name: str, *, again: bool) -> int:
    """Downloads a model's weights. Returns 1 when it fails."""
    if isinstance(repository, RemoteRepository):
        print("atelier-server: weights are fetched into a folder; copy it to its address then", file=sys.stderr)
        return 1
    try:
        folder = fetch(repository.find(name), again)
    except AtelierError as error:
        print(f"atelier-server: {error.message}", file=sys.stderr)
        return 1
    print(f"{name} lies in {folder}")
    return 0


def _row(entry: ModelEntry) -> dict[str, Any]:
    return {
        "name": entry.name,
        "backend": entry.backend,
        "role": entry.role,
        "versions": [str(version) for version in entry.versions],
        "serves": [str(version) for version in entry.chosen],
        "status": WRONG if entry.problem and entry.provided else NOT_PROVIDED if entry.problem else READY_TO_LOAD,
        "problem": entry.problem,
    }


def _table(rows: list[dict[str, Any]]) -> str:
    cells = [
        [row["name"], row["backend"], ",".join(row["serves"]) or "-", f"{row['status']}{_because(row['problem'])}"]
        for row in rows
    ]
    widths = [max(len(line[column]) for line in cells) for column in range(3)] if cells else []
    return "\n".join(
        "  ".join([*(cell.ljust(width) for cell, width in zip(line, widths, strict=False)), line[3]]) for line in cells
    )


def _because(problem: str) -> str:
    return f": {problem}" if problem else ""
