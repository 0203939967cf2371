"""The process of one model instance: an engine thread that computes, an event loop that serves it on a Unix socket.

It ends at SIGTERM, and at once when its parent is gone, even if that was killed: the parent holds the other end of a
pipe. (PDEATHSIG would fire when the spawning thread ends, and code between fork and exec fights gRPC.)
"""

import asyncio
import ctypes
import logging
import os
import signal
import sys
import threading
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

from atelier_server.runner import command
from atelier_server.runner.engine import Engine
from atelier_server.runner.lane import lane_beside
from atelier_server.runner.loading import backend_factory
from atelier_server.runner.servicer import serve
from atelier_server.telemetry.logging import configure_logging
from atelier_server.telemetry.tracing import configure_tracing, shutdown_tracing

_PARENT_GONE = 3
_PR_SET_PDEATHSIG = 1
_OOM_SCORE = "500"
_log = logging.getLogger(__name__)


def main() -> None:
    """Runs until it is told to end; never returns."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the server decides
    configure_logging("json")  # the server writes the lines into its own log, in its form
    order = command.parse(sys.argv[1:], os.environ.get(command.SPEC_VARIABLE, ""))
    configure_tracing("atelier-runner", model=order.spec.name, model_version=order.spec.version)
    if order.parent_fd >= 0:
        _watch_parent(order.parent_fd, order.socket)
        _follow_parent()
    try:
        asyncio.run(_serve(order))
    except OSError as error:
        _log.error("%s", error)
        _exit(1)
    _exit(0)


async def _serve(order: command.Command) -> None:
    ended = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.set)
    engine = Engine(backend_factory(order.backend, order.spec))
    server = await serve(engine, order.socket)
    engine.start()
    await ended.wait()
    await server.stop()
    await asyncio.to_thread(shutdown_tracing)


def _watch_parent(fd: int, socket: Path) -> None:
    def wait_for_end() -> None:
        with suppress(OSError):
            while os.read(fd, 1):
                pass
        with suppress(OSError):  # nobody else is left to tidy up
            socket.unlink(missing_ok=True)
            lane_beside(socket).unlink(missing_ok=True)
            socket.parent.rmdir()
        os._exit(_PARENT_GONE)

    threading.Thread(target=wait_for_end, name="parent-watch", daemon=True).start()


def _follow_parent() -> None:
    """On Linux: is woken to see its parent's end even if it was stopped, and is ended before it when memory is short.

    The server can start a runner again, but nobody the server. SIGCONT does no harm when only a thread ended.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGCONT)
        with suppress(OSError):  # some containers forbid it
            Path("/proc/self/oom_score_adj").write_text(_OOM_SCORE)


def _exit(code: int) -> NoReturn:
    logging.shutdown()
    os._exit(code)  # the engine may be deep inside a step, and libraries' exit handlers take their time
