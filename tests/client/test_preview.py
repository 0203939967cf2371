"""The live preview at a terminal: a pseudo-terminal that says what it can, and what it is then sent."""

import base64
import fcntl
import io
import os
import pty
import re
import struct
import subprocess
import sys
import termios
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from atelier_client.cli import _terminal
from atelier_client.cli._drawing import draw, fit
from atelier_client.cli._terminal import Terminal
from tests.client.scripted import ScriptedServer, generation

Run = Callable[..., tuple[str, Any]]
# The terminal becomes the process's own, as a shell would arrange it.
LAUNCH = "import fcntl, runpy, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); sys.argv[0] = 'atelier'; "
LAUNCH += "runpy.run_module('atelier_client', run_name='__main__')"


@pytest.fixture
def at_terminal(server: ScriptedServer, tmp_path: Path) -> Run:
    """Runs the command at a terminal of 80 by 24; what the terminal was sent, and the request that the server got."""
    server.scripts["Generate"] = lambda request, context: generation(request)

    def run(*words: str, answer: bytes = b"", environment: dict[str, str] | None = None) -> tuple[str, Any]:
        ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
        shown = bytearray()

        def be_a_terminal() -> None:
            try:
                while piece := os.read(ours, 65536):
                    shown.extend(piece)
                    if b"\x1b[c" in piece:
                        os.write(ours, answer)
            except OSError:  # the other end is closed
                pass

        thread = threading.Thread(target=be_a_terminal)
        thread.start()
        base = {key: value for key, value in os.environ.items() if key in {"PATH", "HOME"}}
        base |= {"ATELIER_SERVER": server.target, "TERM": "xterm-256color", "PYTHONUTF8": "1"} | (environment or {})
        command = [sys.executable, "-c", LAUNCH, "generate", "a bag", "-o", "out.png", *words]
        process = subprocess.Popen(
            command, cwd=tmp_path, env=base, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True
        )
        os.close(theirs)
        assert process.wait(60) == 0, shown.decode()
        thread.join(10)
        os.close(ours)
        (request,) = server.asked("Generate")
        return shown.decode(), request

    return run


def pictures(shown: str) -> list[str]:
    """What was drawn between leaving the bar and coming back to it."""
    return re.findall(r"\x1b7\x1b\[20A\r(.*?)\x1b8", shown, flags=re.S)


def colour(data: bytes) -> Any:
    with Image.open(io.BytesIO(data)) as picture:
        return picture.convert("RGB").getpixel((5, 5))


@pytest.mark.parametrize(
    ("environment", "answer", "protocol"),
    [
        ({"TERM": "xterm-kitty"}, b"", "kitty"),
        ({"KITTY_WINDOW_ID": "1"}, b"", "kitty"),
        ({"TERM_PROGRAM": "ghostty"}, b"", "kitty"),
        ({"TERM_PROGRAM": "iTerm.app"}, b"", "iterm2"),
        ({"LC_TERMINAL": "iTerm2"}, b"", "iterm2"),
        ({"TERM_PROGRAM": "WezTerm"}, b"\x1b[?65;4c", "iterm2"),
        ({}, b"\x1b[?62;4;22c", "sixel"),
        ({}, b"\x1b[?64;4c", "sixel"),
        ({}, b"\x1b[?64;22c", "blocks"),
        ({}, b"", "blocks"),
        ({"TMUX": "/tmp/tmux", "KITTY_WINDOW_ID": "1"}, b"\x1b[?1;2c", "blocks"),
        ({"TERM": "screen-256color", "LC_TERMINAL": "iTerm2"}, b"\x1b[?1;2;4c", "sixel"),
        ({"TERM": "dumb"}, b"\x1b[?64;4c", None),
        ({"NO_COLOR": "1"}, b"\x1b[?64;4c", None),
    ],
)
def test_what_a_terminal_says_of_itself(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], answer: bytes, protocol: str | None
) -> None:
    monkeypatch.setattr(_terminal, "_ask", lambda: answer)
    monkeypatch.setattr(sys, "stderr", io.TextIOWrapper(io.BytesIO(), "utf-8"))
    assert _terminal._protocol({"TERM": "xterm-256color"} | environment) == protocol


def test_kitty(at_terminal: Run) -> None:
    shown, request = at_terminal(environment={"TERM": "xterm-kitty"})
    assert request.preview.format == 1, "kitty reads PNG"
    found = pictures(shown)
    assert found
    ids = set()
    for picture in found:
        pieces = re.findall(r"\x1b_G([^;]*);([^\x1b]*)\x1b\\", picture)
        keys = dict(pair.split("=") for pair in pieces[0][0].split(","))
        ids.add(keys["i"])
        assert (keys["a"], keys["f"], keys["c"], keys["r"], keys["C"]) == ("T", "100", "40", "20", "1")
        assert [piece[0][-1] for piece in pieces] == ["1"] * (len(pieces) - 1) + ["0"]
        assert colour(base64.b64decode("".join(piece[1] for piece in pieces)))[1:] == (80, 120)
    assert len(ids) == 1


def test_iterm2(at_terminal: Run) -> None:
    (first, *_) = pictures(at_terminal(environment={"TERM_PROGRAM": "iTerm.app"})[0])
    match = re.fullmatch(r"\x1b]1337;File=inline=1;size=(\d+);width=40;height=20;preserveAspectRatio=1:(.*)\x07", first)
    assert match is not None
    data = base64.b64decode(match[2])
    assert len(data) == int(match[1])
    assert colour(data)[1:] == (80, 120)


def test_a_terminal_that_says_it_can_sixel(at_terminal: Run) -> None:
    shown, _ = at_terminal(answer=b"\x1b[?62;4;22c")
    for picture in pictures(shown):
        assert all(abs(a - b) < 6 for a, b in zip(_sixels(picture).getpixel((9, 9))[1:], (80, 120), strict=True))
    assert pictures(shown)


def test_others_get_half_blocks(at_terminal: Run) -> None:
    shown, _ = at_terminal(answer=b"\x1b[?62;22c", environment={"COLORTERM": "truecolor"})
    (first, *_) = pictures(shown)
    assert first.count("▀") == 40 * 20
    assert re.search(r"\x1b\[38;2;\d;80;120;48;2;\d;80;120m▀", first)


def test_a_terminal_that_answers_nothing(at_terminal: Run) -> None:
    (first, *_) = pictures(at_terminal()[0])
    assert re.search(r"\x1b\[38;5;\d+;48;5;\d+m▀", first)


@pytest.mark.parametrize("words", [["--preview-terminal", "off"], ["--json"]])
def test_who_does_not_want_it_does_not_get_it(at_terminal: Run, words: list[str]) -> None:
    shown, request = at_terminal(*words, environment={"TERM": "xterm-kitty"})
    assert not pictures(shown)
    assert not request.HasField("preview")


def test_a_call_without_previews_gives_the_place_back(server: ScriptedServer, at_terminal: Run) -> None:
    server.scripts["Generate"] = lambda request, context: generation(request, steps=0)
    shown, _ = at_terminal("--preview-terminal", "blocks")
    assert shown.index("\x1b[20A\r\x1b[J") < shown.index("seed")


def _sixels(text: str) -> Image.Image:
    """The picture of a sixel sequence."""
    head = re.match(r'\x1bP0;1q"1;1;(\d+);(\d+)', text)
    assert head is not None
    assert text.endswith("\x1b\\")
    picture = Image.new("RGB", (int(head[1]), int(head[2])), (255, 0, 255))
    palette: dict[int, tuple[int, ...]] = {}
    x = y = now = 0
    for token in re.finditer(r"#(\d+);2;(\d+);(\d+);(\d+)|#(\d+)|!(\d+)(.)|(\$)|(-)|([?-~])", text[head.end() : -2]):
        if token[1]:
            palette[int(token[1])] = tuple(round(int(part) * 2.55) for part in token.groups()[1:4])
        elif token[5]:
            now = int(token[5])
        elif token[8] or token[9]:
            x, y = 0, y + (6 if token[9] else 0)
        else:
            bits, run = ord(token[7] or token[10]) - 63, int(token[6] or 1)
            for row in (row for row in range(6) if bits >> row & 1):
                picture.paste(palette[now], (x, y + row, x + run, y + row + 1))  # type: ignore[arg-type]
            x += run
    return picture


def test_sixels_are_the_picture() -> None:
    source = Image.effect_noise((40, 40), 90).convert("RGB").resize((96, 64), Image.Resampling.BICUBIC)
    buffer = io.BytesIO()
    source.save(buffer, "PNG")
    terminal = Terminal("sixel", 12, 4, (8, 16), True)
    decoded = _sixels(draw(buffer.getvalue(), (96, 64), terminal, 1))
    assert decoded.size == (96, 64)
    pairs = zip(source.tobytes(), decoded.tobytes(), strict=True)
    assert sum(abs(a - b) for a, b in pairs) / len(source.tobytes()) < 8


@pytest.mark.parametrize(
    ("protocol", "size", "cells"),
    [
        ("blocks", (100, 100), (40, 20)),
        ("blocks", (400, 100), (79, 9)),
        ("kitty", (100, 400), (10, 20)),
        ("sixel", (1000, 10), (79, 1)),
    ],
)
def test_pictures_are_not_stretched(protocol: Any, size: tuple[int, int], cells: tuple[int, int]) -> None:
    assert fit(size, Terminal(protocol, 79, 20, (8, 16), True)) == cells
