"""What the scripts that write pages of docs/reference share."""

import argparse
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

REFERENCE = Path(__file__).resolve().parent.parent / "docs" / "reference"


def table(heading: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> Iterator[str]:
    """The lines of a table; bars inside a cell are escaped."""
    yield "| " + " | ".join(heading) + " |"
    yield "|" + " --- |" * len(heading)
    for row in rows:
        yield "| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |"
    yield ""


def write_or_compare(name: str, make: Callable[[], str]) -> None:
    """Writes the page, or with --check ends with an error when it is not what `make` says."""
    page = REFERENCE / name
    parser = argparse.ArgumentParser(description=f"Writes docs/reference/{name}.")
    parser.add_argument("--check", action="store_true", help="only tell whether the committed page is up to date")
    check = parser.parse_args().check
    text = make()
    if not check:
        page.write_text(text)
    elif not page.is_file() or page.read_text() != text:
        sys.exit(f"docs/reference/{name} is not what the code says; run `make reference`")
