"""The live preview: a place on the terminal, above the progress bar, where each step's small picture is shown."""

import random
import sys
import time
from types import TracebackType
from typing import Self

from atelier_client._events import Event, Progress
from atelier_client._fields import PreviewOptions
from atelier_client.cli._drawing import draw
from atelier_client.cli._terminal import Terminal

# At most this share of the time goes into drawing, so that a slow terminal does not slow the call.
_DRAWING_SHARE = 0.2


class Screen:
    """Shows the previews of a call's first picture; use it in a `with` around the progress bar, which is one line."""

    def __init__(self, terminal: Terminal) -> None:
        self._terminal = terminal
        self._picture_id = random.randrange(1, 2**31)
        self._drawn = 0
        self._not_before = 0.0

    @property
    def wish(self) -> PreviewOptions:
        """What the server shall send: no more pixels than are shown, and for kitty a format that it reads."""
        width, height = (1, 2) if self._terminal.protocol == "blocks" else self._terminal.cell
        side = min(max(self._terminal.columns * width, self._terminal.rows * height), self._terminal.rows * height * 2)
        return PreviewOptions(1, max(16, min(side, 256)), "png" if self._terminal.protocol == "kitty" else None)

    def __enter__(self) -> Self:
        self._write("\n" * self._terminal.rows)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self._drawn:
            self._write(f"\x1b[{self._terminal.rows}A\r\x1b[J")  # gives the place back

    def show(self, event: Event) -> None:
        """Draws the event's preview, if it has one and the last one did not take too long."""
        began = time.monotonic()
        if not isinstance(event, Progress) or event.preview is None or event.image_index or began < self._not_before:
            return
        size = (event.preview.dimensions.width, event.preview.dimensions.height)
        picture = draw(event.preview.data, size, self._terminal, self._picture_id)
        # Up from the bar's line, and back to where the cursor was.
        self._write(f"\x1b7\x1b[{self._terminal.rows}A\r{picture}\x1b8")
        self._drawn += 1
        spent = time.monotonic() - began
        self._not_before = began + spent / _DRAWING_SHARE

    @staticmethod
    def _write(text: str) -> None:
        sys.stderr.write(text)
        sys.stderr.flush()
