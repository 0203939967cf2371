"""Ctrl-C during a call."""

from collections.abc import Callable
from concurrent.futures import Future
from threading import Thread
from typing import TypeVar

from atelier_client._client import Atelier

T = TypeVar("T")
_TIDY_SECONDS = 2.0


def interruptible(atelier: Atelier, work: Callable[[], T]) -> T:
    """Does the work on a thread of its own while this one, the main one, waits for it or for Ctrl-C.

    Python raises KeyboardInterrupt wherever the main thread stands. Inside gRPC's start of a call that leaves a call
    which nobody ends, and closing the channel then waits for it without end.

    Raises:
        KeyboardInterrupt: After the calls that ran were cancelled and the work had a moment to tidy the terminal.
    """
    outcome: Future[T] = Future()

    def run() -> None:
        try:
            outcome.set_result(work())
        except BaseException as error:  # handed to the waiting thread, whatever it is
            outcome.set_exception(error)

    thread = Thread(target=run, name="command", daemon=True)
    thread.start()
    try:
        return outcome.result()
    except KeyboardInterrupt:
        atelier.close()
        thread.join(_TIDY_SECONDS)
        raise
