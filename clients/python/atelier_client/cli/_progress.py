"""The progress bar: rich's where rich is installed, one plain line where it is not, nothing without a terminal."""

import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from importlib.util import find_spec
from typing import Any

from atelier_client._events import Event, Progress, Queued, Started
from atelier_client.cli._preview import Screen


class State:
    """How far a generation is: `done` of `total` steps over all its pictures, and a few words."""

    def __init__(self) -> None:
        self.done = 0
        self.total = 0
        self.words = "waiting"
        self._steps: dict[int, int] = {}
        self._pictures = 1

    def add(self, event: Event) -> None:
        """Takes the next event."""
        match event:
            case Queued():
                self.words = f"queued, {event.position} ahead{_time(event.estimated_wait_seconds, ', about ', '')}"
            case Started():
                self._pictures = max(len(event.seeds), 1)
                self._steps = {}
                self.done, self.total = 0, event.num_inference_steps * self._pictures
                self.words = event.model
            case Progress():
                self._steps[event.image_index] = event.step
                self.done, self.total = sum(self._steps.values()), event.total_steps * self._pictures
                attempt = f", attempt {event.attempt}" if event.attempt > 1 else ""
                self.words = f"step {event.step}/{event.total_steps}{attempt}{_time(event.estimated_remaining_seconds)}"
            case _:
                pass


def _time(seconds: float | None, before: str = ", ", after: str = " left") -> str:
    if seconds is None:
        return ""
    minutes, rest = divmod(round(seconds), 60)
    return f"{before}{minutes} min {rest} s{after}" if minutes else f"{before}{rest} s{after}"


@contextmanager
def progress_bar(*, quiet: bool, screen: Screen | None = None) -> Iterator[Callable[[Event], None]]:
    """A function that shows events on the terminal behind stderr while the block runs, previews above the bar."""
    if quiet or not sys.stderr.isatty():
        yield lambda event: None
        return
    with screen or nullcontext():
        yield from _plain(screen) if find_spec("rich") is None else _rich(screen)


def _plain(screen: Screen | None) -> Iterator[Callable[[Event], None]]:
    state = State()

    def show(event: Event) -> None:
        state.add(event)
        _line(state.words)
        if screen is not None:
            screen.show(event)

    try:
        yield show
    finally:
        _line("")


def _line(words: str) -> None:
    # Back to the line's begin, and clear what was there.
    print(f"\r\x1b[K{words}", end="", file=sys.stderr, flush=True)


def _rich_bar(*more: Any, refresh: bool = True) -> Any:
    """rich's bar of one line on stderr, gone at its end."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
    from rich.table import Column

    words = TextColumn("{task.description}", markup=False, table_column=Column(no_wrap=True))
    columns = (BarColumn(), words, TimeElapsedColumn(), *more)
    return Progress(
        *columns,
        console=Console(stderr=True),
        transient=True,
        auto_refresh=refresh,
        redirect_stderr=False,  # rich would take what a screen writes for text and wrap it
    )


def _rich(screen: Screen | None) -> Iterator[Callable[[Event], None]]:
    state = State()
    # rich's own thread would write into the middle of a picture.
    with _rich_bar(refresh=screen is None) as bar:
        task = bar.add_task(state.words, total=None)

        def show(event: Event) -> None:
            state.add(event)
            bar.update(task, description=state.words, completed=state.done, total=state.total or None)
            if screen is not None:
                bar.refresh()
                screen.show(event)

        yield show


class BatchBar:
    """How far a batch is: a finished row counts 1, a running one the share of its steps."""

    def __init__(self, total: int, done: int, draw: Callable[[float, str], None]) -> None:
        self._total, self._done, self._draw = total, done, draw
        self._running: dict[int, State] = {}
        self._lock = threading.Lock()
        self._show("")

    def heard(self, row: int, event: Event) -> None:
        """Takes the next event of a row."""
        with self._lock:
            self._running.setdefault(row, State()).add(event)
            self._show("")

    def finished(self, row: int) -> None:
        """A row has come to its end."""
        with self._lock:
            self._running.pop(row, None)
            self._done += 1
            self._show("")

    def say(self, words: str) -> None:
        """Shows a few words until the next event."""
        with self._lock:
            self._show(f", {words}")

    def _show(self, words: str) -> None:
        share = sum(state.done / state.total for state in self._running.values() if state.total)
        self._draw(self._done + share, f"{self._done}/{self._total} rows{words}")


@contextmanager
def batch_bar(total: int, done: int, *, quiet: bool) -> Iterator[BatchBar]:
    """A bar over the rows of a batch, on the terminal behind stderr while the block runs."""
    if quiet or not sys.stderr.isatty():
        yield BatchBar(total, done, lambda rows, words: None)
    elif find_spec("rich") is None:
        yield BatchBar(total, done, lambda rows, words: _line(words))
        _line("")
    else:
        from rich.progress import TimeRemainingColumn

        with _rich_bar(TimeRemainingColumn()) as bar:
            task = bar.add_task("", total=total)
            yield BatchBar(total, done, lambda rows, words: bar.update(task, description=words, completed=rows))
