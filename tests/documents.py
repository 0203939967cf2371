"""The documentation as data: its pages, and their fenced blocks with what the first line says of each.

A block of commands or of a program says how it is tried; tests/project/test_commands.py holds it to that:

    ```sh run: tests/client/test_cookbook.py      every line is run by that test
    ```sh not-run: needs a container engine       no test runs it, and why
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted(
    path
    for pattern in ("*.md", "docs/**/*.md", "clients/**/*.md", "models/*/*.md", "training/*.md", "deploy/**/*.md")
    for path in ROOT.glob(pattern)
    if "node_modules" not in path.parts
)


@dataclass(frozen=True)
class Block:
    """A fenced block: its page, the number of its first line, its language, its mark, and what it holds."""

    page: Path
    line: int
    language: str
    mark: str
    text: str

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"

    @property
    def test(self) -> str:
        """The test that runs it; empty where none does."""
        return self.mark.removeprefix("run: ") if self.mark.startswith("run: ") else ""


def blocks(*pages: Path) -> list[Block]:
    """The fenced blocks of `pages`, in their order."""
    found = []
    for page in pages:
        text = page.read_text()
        for match in re.finditer(r"^```([^\n]*)\n(.*?)^```$", text, flags=re.MULTILINE | re.DOTALL):
            language, _, mark = match[1].partition(" ")
            found.append(Block(page, text[: match.start()].count("\n") + 1, language, mark, match[2]))
    return found


def lines(block: Block) -> Iterator[str]:
    """Its commands, each on one line, without comments at the end of a line."""
    for line in block.text.replace("\\\n", " ").splitlines():
        if command := re.sub(r"(^|\s+)# .*$", "", line).strip():
            yield command


def prose(page: Path) -> str:
    """A page without its fenced blocks."""
    return re.sub(r"^```[^\n]*\n.*?^```$", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
