"""The contact sheet: complete in itself, safe to open, and shown by a browser."""

import base64
import io
import json
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from atelier_client.cli import main
from atelier_client.cli._sheet import write_sheet

EVIL = """<script>document.title = 'owned'</script><img src=x onerror="alert(1)"> "'&"""
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


class Elements(HTMLParser):
    """All elements of a page with their attributes, and its text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.found if name == tag]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder as a batch leaves it: a red, a green and a lost picture, and a row that failed."""
    lines: list[dict[str, Any]] = []
    for row, (name, colour) in enumerate([("red", (220, 20, 20)), ("green", (20, 200, 20)), ("lost", None)], start=1):
        if colour:
            Image.new("RGB", (640, 320), colour).save(tmp_path / f"{name}.png")
        image = {
            "path": f"{name}.png",
            "seed": 40 + row,
            "aesthetic_score": 5.0 + row,
            "passed": row != 2,
            "brand_consistency_score": 1.0,
            "brand_reference_missing": row == 1,
            "prompt_alignment": None,
        }
        lines.append({"row": row, "prompt": f"a {name} {EVIL}", "model_used": "starter", "images": [image]})
    lines.append({"row": 4, "prompt": EVIL, "error": {"code": "INTERNAL", "message": f"It broke. {EVIL}"}})
    (tmp_path / "results.jsonl").write_text("\n".join(map(json.dumps, lines)) + "\n")
    return tmp_path


def test_it_holds_everything_and_loads_nothing(folder: Path) -> None:
    page = Elements(write_sheet(folder).read_text("utf-8"))
    images = page.all("img")
    assert [image["alt"] for image in images] == [f"a red {EVIL}", f"a green {EVIL}"]
    for image in images:
        kind, _, data = str(image["src"]).partition(",")
        assert kind == "data:image/jpeg;base64"
        with Image.open(io.BytesIO(base64.b64decode(data))) as picture:
            assert picture.size == (320, 160) == (int(str(image["width"])), int(str(image["height"])))
    assert not page.all("script")
    assert not page.all("link")
    assert "lost.png is missing" in page.text
    assert "3 pictures · 1 failed · mean aesthetic 7.00 · starter" in page.text
    assert page.text.count(EVIL) == 5
    assert re.search(r"seed41aesthetic6.00brand-alignment-passedyes", page.text)
    assert re.search(r"seed42aesthetic7.00brand1.00alignment-passedno", page.text)


def test_equal_results_make_equal_pages(folder: Path) -> None:
    assert write_sheet(folder, str(folder / "a.html")).read_bytes() == write_sheet(folder).read_bytes()


def test_the_command(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sheet", str(folder), "-o", str(folder / "my.html"), "--title", "<b>", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found == {"sheet": str(folder / "my.html"), "size_bytes": (folder / "my.html").stat().st_size}
    assert "<title>&lt;b&gt;</title>" in (folder / "my.html").read_text()
    assert main(["sheet", str(folder / "none")]) == 2
    assert "no results.jsonl" in capsys.readouterr().err


@pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")
def test_a_browser_shows_the_pictures_and_runs_nothing(folder: Path, tmp_path: Path) -> None:
    shot = tmp_path / "shot.png"
    flags = (
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        f"--user-data-dir={tmp_path}/profile",
    )
    page = write_sheet(folder).as_uri()
    screen = ("--window-size=1000,800", f"--screenshot={shot}", page)
    subprocess.run([str(CHROMIUM), *flags, *screen], capture_output=True, check=True, timeout=120)
    with Image.open(shot) as picture:
        colours = {colour for count, colour in picture.convert("RGB").getcolors(2**24) or () if count > 5000}
    assert any(r > 180 and g < 60 and b < 60 for r, g, b in colours), "the red picture is not there"
    assert any(g > 160 and r < 60 and b < 60 for r, g, b in colours), "the green picture is not there"
    done = subprocess.run([str(CHROMIUM), *flags, "--dump-dom", page], capture_output=True, check=True, timeout=120)
    dom = Elements(done.stdout.decode())
    assert not dom.all("script")
    assert len(dom.all("img")) == 2
    assert f"<title>{folder.name}</title>" in done.stdout.decode()
