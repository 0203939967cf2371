"""The documentation holds together: links, numbering, contract."""

import re
import subprocess
import sys
import unicodedata
from pathlib import Path

import pytest

from atelier.v1 import brand_pb2, image_generation_pb2, model_pb2
from tests.documents import PAGES, ROOT, prose

DOCS = ROOT / "docs"
LINK = re.compile(r"\]\(([^)\s]+)\)|^\[[^\]]+\]: (\S+)", flags=re.MULTILINE)


def links(page: Path) -> list[str]:
    """Where a page leads; its code is left out."""
    text = re.sub(r"`[^`\n]*`", "", prose(page))
    return [one or other for one, other in LINK.findall(text)]


def anchors(page: Path) -> set[str]:
    """What GitHub makes of a page's headings: lower case, no punctuation, hyphens for spaces."""
    found = set()
    for heading in re.findall(r"^#+ (.+)$", prose(page), flags=re.MULTILINE):
        plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).lower()
        kept = (char for char in plain if char in "-_ " or unicodedata.category(char)[0] in "LN")
        found.add("".join(kept).replace(" ", "-"))
    return found


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_leads_somewhere(page: Path) -> None:
    broken = []
    for link in links(page):
        target, _, anchor = link.partition("#")
        if "://" in target:
            assert re.fullmatch(r"https?://[\w.-]+(:\d+)?(/\S*)?", target), link
            continue
        file = (page.parent / target).resolve() if target else page
        if not file.exists() or (anchor and file.suffix == ".md" and anchor not in anchors(file)):
            broken.append(link)
    assert broken == []


def test_no_page_leads_out_of_the_repository() -> None:
    outside = [
        (page.name, link)
        for page in PAGES
        for link in links(page)
        if "://" not in link and not (page.parent / link.partition("#")[0]).resolve().is_relative_to(ROOT)
    ]
    assert outside == []


def test_every_page_is_found_from_the_readme() -> None:
    reached, waiting = set(), [ROOT / "README.md"]
    while waiting:
        page = waiting.pop()
        if page in reached or page.suffix != ".md":
            continue
        reached.add(page)
        waiting += [(page.parent / link.partition("#")[0]).resolve() for link in links(page) if "://" not in link]
    aside = {ROOT / "training" / "LOG.md"}
    assert [str(page.relative_to(ROOT)) for page in PAGES if page not in reached | aside] == []


def test_pages_are_numbered_without_gaps_and_listed_in_the_overview() -> None:
    pages = sorted(DOCS.glob("[0-9][0-9]-*.md"))
    assert [int(page.name[:2]) for page in pages] == list(range(len(pages)))
    overview = pages[0].read_text()
    assert re.findall(r"^(\d+)\. \[", overview, flags=re.MULTILINE)[: len(pages) - 1] == [
        str(number) for number in range(1, len(pages))
    ]
    others = [DOCS / "terminology.md", DOCS / "decisions" / "README.md", *(DOCS / "reference").glob("*.md")]
    listed = [str(page.relative_to(DOCS)) for page in [*pages[1:], *others]]
    assert [name for name in listed if f"({name})" not in overview] == []


def test_decisions_are_numbered_and_listed() -> None:
    folder = DOCS / "decisions"
    decisions = sorted(folder.glob("[0-9]*.md"))
    assert [int(page.name[:4]) for page in decisions] == list(range(1, len(decisions) + 1))
    index = (folder / "README.md").read_text()
    assert [page.name for page in decisions if f"({page.name})" not in index] == []


def test_the_readme_names_every_public_rpc() -> None:
    readme = (ROOT / "README.md").read_text()
    for module in (image_generation_pb2, brand_pb2, model_pb2):
        for service in module.DESCRIPTOR.services_by_name.values():
            assert f"`{service.full_name}`" in readme
            assert [method.name for method in service.methods if f"`{method.name}`" not in readme] == []


@pytest.mark.parametrize(
    ("script", "python"),
    [("command_reference.py", Path(sys.executable)), ("api_reference.py", ROOT / ".venv-protos/bin/python")],
)
def test_the_reference_is_what_the_code_says(script: str, python: Path) -> None:
    if not python.exists():
        pytest.skip("the stub compiler is not installed; `make check-reference` installs and runs it")
    command = [python, ROOT / "scripts" / script, "--check"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
