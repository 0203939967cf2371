"""Modules stay short enough to be read at a sitting."""

from pathlib import Path
from statistics import median

ROOT = Path(__file__).resolve().parents[2]
LONGEST = 300
REASONED = {
    "server/atelier_server/types.py": "the domain's vocabulary is read in one place",
}
"""Modules that are longer, and why."""


def line_counts() -> dict[str, int]:
    """Lines of each module of server and client that people wrote."""
    paths = [*(ROOT / "server").rglob("*.py"), *(ROOT / "clients" / "python").rglob("*.py")]
    return {
        str(path.relative_to(ROOT)): path.read_text().count("\n")
        for path in paths
        if "_generated" not in path.parts and path.name != "__init__.py"
    }


def test_no_module_is_too_long_without_a_reason() -> None:
    assert {name for name, lines in line_counts().items() if lines > LONGEST} - set(REASONED) == set()


def test_most_modules_are_short() -> None:
    counts = sorted(line_counts().values())
    assert median(counts) <= 100
    assert counts[int(len(counts) * 0.9)] <= 250
