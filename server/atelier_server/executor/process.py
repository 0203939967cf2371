"""One incarnation of a runner process: its start, its output, its connection and its end."""

import asyncio
import logging
import os
import signal
import sys
from contextlib import suppress
from typing import Any

from atelier_server.backends.base import ModelSpec
from atelier_server.executor.client import RunnerClient
from atelier_server.executor.environment import runner_environment
from atelier_server.executor.socket_folder import SocketFolder
from atelier_server.runner.command import SPEC_VARIABLE, Command, arguments, spec_variable
from atelier_server.telemetry.runner_lines import RunnerLog

_LONGEST_LINE = 16 * 1024
_log = logging.getLogger(__name__)


class RunnerProcess:
    """A runner process and everything that belongs to it; `start` once, `end` once."""

    def __init__(self, spec: ModelSpec, backend: str) -> None:
        self._spec = spec
        self._backend = backend
        self._folder = SocketFolder()
        self._lifeline = -1  # closed by our death too, which is how the runner learns of it
        self._process: asyncio.subprocess.Process | None = None
        self._output: asyncio.Task[None] | None = None
        self._exited: asyncio.Task[int] | None = None
        self.client = RunnerClient(self._folder.socket, spec.name)

    @property
    def pid(self) -> int:
        """0 before the start."""
        return self._process.pid if self._process else 0

    @property
    def listens(self) -> bool:
        """Whether it can be called by now."""
        return self._folder.socket.exists()

    @property
    def exit_reason(self) -> str | None:
        """How it ended by itself, None while it lives."""
        if self._exited is None or not self._exited.done():
            return None
        code = self._exited.result()
        if code >= 0:
            return f"its process exited with code {code}"
        hint = "; perhaps memory was short" if -code == signal.SIGKILL else ""
        return f"its process was ended by {_signal_name(-code)}{hint}"

    async def start(self) -> None:
        """Starts the process; the model is not loaded yet.

        Raises:
            OSError: It cannot be started.
        """
        reading_end, self._lifeline = os.pipe()
        try:
            command = Command(self._spec, self._backend, self._folder.socket, reading_end)
            environment = runner_environment(os.environ, self._spec.threads)
            self._process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-P", "-m", "atelier_server.runner", *arguments(command)),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.STDOUT,
                pass_fds=(reading_end,),
                process_group=0,  # a signal to the server's group must not end runners before the drain
                env=environment | {SPEC_VARIABLE: spec_variable(self._spec)},
            )
        finally:
            os.close(reading_end)
        assert self._process.stdout is not None
        self._output = asyncio.create_task(_forward(self._process.stdout, self._spec.name))
        self._exited = asyncio.create_task(self._process.wait())

    async def wait_for_exit(self, timeout_seconds: float, or_event: asyncio.Event | None = None) -> bool:
        """Whether it ends, or has ended, within the time; waits no longer than until the event."""
        assert self._exited is not None
        if or_event is None:
            await asyncio.wait([self._exited], timeout=timeout_seconds)
            return self._exited.done()
        event = asyncio.create_task(or_event.wait())
        try:
            waited_for: list[asyncio.Task[Any]] = [self._exited, event]
            await asyncio.wait(waited_for, timeout=timeout_seconds, return_when=asyncio.FIRST_COMPLETED)
        finally:
            event.cancel()
        return self._exited.done()

    async def end(self, grace_seconds: float) -> None:
        """Ends the process, by force after the grace (0: at once), and removes all that belonged to it.

        It is not left half done: who is cancelled meanwhile still waits for the end.
        """
        ending = asyncio.create_task(self._end(grace_seconds))
        try:
            await asyncio.shield(ending)
        except asyncio.CancelledError:
            await asyncio.wait([ending])
            raise

    async def _end(self, grace_seconds: float) -> None:
        await self.client.close()
        if self._process is not None and self._exited is not None:
            for signal_number, patience in ((signal.SIGTERM, grace_seconds), (signal.SIGKILL, None)):
                if self._exited.done() or patience == 0:
                    continue
                with suppress(ProcessLookupError):
                    self._process.send_signal(signal_number)
                await asyncio.wait([self._exited], timeout=patience)
        if self._output is not None:
            await _finished(self._output, patience_seconds=2.0)
        if self._lifeline >= 0:
            os.close(self._lifeline)
            self._lifeline = -1
        self._folder.remove()


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # most real-time signals have none
        return f"signal {number}"


async def _finished(task: asyncio.Task[None], patience_seconds: float) -> None:
    """Lets the last lines through; a grandchild that holds the pipe open is not waited for."""
    await asyncio.wait([task], timeout=patience_seconds)
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


async def _forward(output: asyncio.StreamReader, model: str) -> None:
    """Writes the runner's lines into our log."""
    log = RunnerLog(model)
    rest = b""
    while True:
        piece = await output.read(_LONGEST_LINE)
        *lines, rest = (rest + piece).split(b"\n")
        if rest and (not piece or len(rest) > _LONGEST_LINE):
            lines, rest = [*lines, rest], b""
        for line in lines:
            _take(log, line.decode(errors="replace"))
        if not piece:
            return


def _take(log: RunnerLog, line: str) -> None:
    """A line that cannot be logged must not end the reading: the runner would stand still at a full pipe."""
    try:
        log.take(line)
    except Exception:
        _log.exception("a line of a runner could not be logged")
