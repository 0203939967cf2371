"""What the terminal can show: pictures by kitty's, iTerm2's or the sixel protocol, or coloured half-blocks."""

import os
import re
import select
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Literal

Protocol = Literal["kitty", "iterm2", "sixel", "blocks"]
# Terminals answer this with what they are (DA1); "4" among the numbers means sixel.
_WHO_ARE_YOU = b"\x1b[c"
_ANSWER_SECONDS = 1.0
_MOST_ROWS = 20
# Cells of most fonts are at least so large, so that a picture never covers more cells than it was given.
_CELL_PIXELS = (8, 16)


@dataclass(frozen=True, slots=True)
class Terminal:
    """A place for a picture on the terminal.

    Args:
        protocol: How it is sent.
        columns: Cells from left to right that it may cover.
        rows: Cells from top to bottom.
        cell: Width and height of a cell in pixels.
        true_colour: Whether 24-bit colours are understood, not 256 only.
    """

    protocol: Protocol
    columns: int
    rows: int
    cell: tuple[int, int]
    true_colour: bool


def find_terminal(wish: str) -> Terminal | None:
    """The terminal behind stderr; None when there is none, when it is too small, or when nobody wants pictures.

    Args:
        wish: A Protocol, auto or off.
    """
    if wish == "off" or not sys.stderr.isatty():
        return None
    size = os.get_terminal_size(sys.stderr.fileno())
    rows = min(_MOST_ROWS, size.lines - 4)
    if rows < 4 or size.columns < 16:
        return None
    protocol = _protocol(os.environ) if wish == "auto" else wish
    if protocol is None or (protocol in {"sixel", "blocks"} and find_spec("PIL") is None):
        return None
    true_colour = os.environ.get("COLORTERM") in {"truecolor", "24bit"}
    return Terminal(protocol, size.columns - 1, rows, _cell_pixels(), true_colour)  # type: ignore[arg-type]


def _protocol(environment: Mapping[str, str]) -> Protocol | None:
    term, program = environment.get("TERM", ""), environment.get("TERM_PROGRAM", "")
    if term in {"", "dumb"} or "NO_COLOR" in environment:
        return None
    # A multiplexer passes on the names of the terminal around it, but not that terminal's pictures.
    if "TMUX" not in environment and not term.startswith(("screen", "tmux")):
        if "KITTY_WINDOW_ID" in environment or term in {"xterm-kitty", "xterm-ghostty"} or program == "ghostty":
            return "kitty"
        if program in {"iTerm.app", "WezTerm"} or environment.get("LC_TERMINAL") == "iTerm2":
            return "iterm2"
    if re.search(rb"\x1b\[\?[\d;]*;4(;|c)", _ask()):
        return "sixel"
    return "blocks" if (sys.stderr.encoding or "").lower().replace("-", "") == "utf8" else None


def _ask() -> bytes:
    """What the terminal answers about itself; nothing where it cannot be asked."""
    try:
        import termios
        import tty
    except ModuleNotFoundError:
        return b""
    try:
        fd = os.open(os.ttyname(sys.stderr.fileno()), os.O_RDWR | os.O_NOCTTY)
    except OSError:
        return b""
    try:
        if os.tcgetpgrp(fd) != os.getpgrp():
            return b""  # in the background, where asking would stop this process
        before = termios.tcgetattr(fd)
        tty.setcbreak(fd, termios.TCSANOW)
        try:
            os.write(fd, _WHO_ARE_YOU)
            answer = b""
            while not answer.endswith(b"c") and select.select([fd], [], [], _ANSWER_SECONDS)[0]:
                answer += os.read(fd, 100)
            return answer
        finally:
            termios.tcsetattr(fd, termios.TCSANOW, before)
    except OSError:
        return b""
    finally:
        os.close(fd)


def _cell_pixels() -> tuple[int, int]:
    try:
        import fcntl
        import struct
        import termios

        packed = fcntl.ioctl(sys.stderr.fileno(), termios.TIOCGWINSZ, bytes(8))
        lines, columns, width, height = struct.unpack("HHHH", packed)
    except (ModuleNotFoundError, OSError):
        return _CELL_PIXELS
    return (width // columns, height // lines) if width and height else _CELL_PIXELS
