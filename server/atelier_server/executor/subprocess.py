"""The executor of one machine: a supervised process per model instance, reached by a Unix socket.

    LOADING → READY → (crash, hang, stall) UNAVAILABLE → LOADING → READY …

A model that says it cannot be loaded, or whose process dies in its first loading, stays UNAVAILABLE until `start` is
called again; a runner that was READY once is started again with a growing delay until it crashes too often.
"""

import asyncio
import dataclasses
import logging
import time
from typing import NoReturn

from atelier_server.backends.base import ModelSpec
from atelier_server.errors import AtelierError, Unavailable
from atelier_server.executor.base import LOADING, READY, UNAVAILABLE, UNLOADING
from atelier_server.executor.connected import ConnectedExecutor, OnChange
from atelier_server.executor.environment import threads_of
from atelier_server.executor.limits import Limits
from atelier_server.executor.process import RunnerProcess
from atelier_server.executor.stall import StallWatch

_POLL_SECONDS = 0.05
_LAST_WORDS_SECONDS = 0.5
_log = logging.getLogger(__name__)


class _LoadRefused(Exception):
    """The runner itself said that the model cannot be loaded, so trying again is no use."""


class _RunnerDied(Exception):
    """The process ended, or had to be ended."""


class SubprocessExecutor(ConnectedExecutor):
    """Runs a model in a process of its own.

    Args:
        spec: The model; `threads` 0 means as many as suit the backend.
        backend: The name of the backend's module in atelier_server.backends.
        limits: How patient it is.
        on_change: Called in the event loop whenever the state or its reason changes.
    """

    def __init__(
        self, spec: ModelSpec, backend: str, *, limits: Limits | None = None, on_change: OnChange | None = None
    ) -> None:
        super().__init__(dataclasses.replace(spec, threads=threads_of(backend, spec.threads)), on_change)
        self._backend = backend
        self._limits = limits or Limits()
        self._supervision: asyncio.Task[None] | None = None
        self._doubts = asyncio.Event()
        self._load_seconds = 0.0  # of the last life that got so far

    async def start(self) -> None:
        """See Executor. May be called again after a failure.

        Raises:
            Unavailable: It could not be loaded (LOAD_FAILED).
            RuntimeError: It is running.
        """
        if self._supervision is not None and not self._supervision.done():
            raise RuntimeError(f"{self.spec.name} is started already")
        loaded: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._set_state(LOADING)
        self._supervision = asyncio.create_task(self._supervise(loaded), name=f"supervise {self.spec.name}")
        try:
            await loaded
        except asyncio.CancelledError:
            await self.stop()
            raise

    async def stop(self) -> None:
        """See Executor."""
        if self._supervision is not None and not self._supervision.done():
            self._set_state(UNLOADING)
            if not self._supervision.cancelling():  # somebody else may be stopping it; once is enough
                self._supervision.cancel()
            await asyncio.wait([self._supervision])
        self._set_state(UNAVAILABLE, "stopped")

    async def _supervise(self, loaded: asyncio.Future[None]) -> None:
        try:
            reason = await self._lives(loaded)
        except asyncio.CancelledError:
            reason = "stopped"
        except Exception:
            _log.exception("the supervision of %s failed", self.spec.name)
            reason = "its supervision failed; the log has the details"
        self._set_state(UNAVAILABLE, reason)
        if not loaded.done():
            message = f"Model {self.spec.name} could not be loaded: {reason}"
            loaded.set_exception(Unavailable(message, reason="LOAD_FAILED"))

    async def _lives(self, loaded: asyncio.Future[None]) -> str:
        """Starts the runner again and again; gives back why it stops doing so."""
        quick_crashes = 0
        while True:
            began, calls_done = time.monotonic(), self._calls_done
            try:
                await self._one_life(loaded)
            except _LoadRefused as refusal:
                return str(refusal)
            except _RunnerDied as death:
                reason = str(death)
            if not loaded.done():
                return reason
            lived, worked = time.monotonic() - began, self._calls_done > calls_done
            quick_crashes = 1 if worked or lived >= self._limits.quick_crash_seconds else quick_crashes + 1
            if quick_crashes >= self._limits.most_quick_crashes:
                return f"crash loop: {reason}, {quick_crashes} times in a row"
            delay = self._limits.backoff_seconds(quick_crashes)
            self._set_state(UNAVAILABLE, f"{reason}; restarting in {delay:g} s", delay + self._load_seconds)
            await asyncio.sleep(delay)
            self._status = dataclasses.replace(self._status, restarts=self._status.restarts + 1)
            self._set_state(LOADING, f"restarted because {reason}", self._load_seconds)

    async def _one_life(self, loaded: asyncio.Future[None]) -> NoReturn:
        """Starts a process, follows it to its end, and always raises."""
        try:
            process = RunnerProcess(self.spec, self._backend)
        except OSError as error:
            raise _RunnerDied(f"its socket cannot be made: {error.strerror}") from error
        grace = 0.0
        try:
            began = time.monotonic()
            await self._load(process)
            self._load_seconds = time.monotonic() - began
            process.client.retry_after_seconds = round(self._limits.first_backoff_seconds + self._load_seconds, 1)
            self._doubts.clear()
            self._client = process.client
            self._set_state(READY)
            if not loaded.done():
                loaded.set_result(None)
            reason = await self._watch(process)
            self._fall(reason)  # at once; what follows takes a moment
            raise _RunnerDied(reason)
        except asyncio.CancelledError:
            grace = self._limits.stop_seconds
            raise
        finally:
            self._client = None
            await process.end(grace)

    def _fall(self, reason: str) -> None:
        """The runner is lost; that it will be restarted is likely, and decided later."""
        self._set_state(UNAVAILABLE, reason, self._limits.first_backoff_seconds + self._load_seconds)

    def _doubt(self) -> None:
        self._fall("its connection broke")
        self._doubts.set()

    async def _load(self, process: RunnerProcess) -> None:
        """Waits until the runner says READY."""
        try:
            await process.start()
        except OSError as error:
            raise _RunnerDied(f"its process cannot be started: {error.strerror}") from error
        self._status = dataclasses.replace(self._status, pid=process.pid)
        deadline = time.monotonic() + self._limits.load_seconds
        while time.monotonic() < deadline:
            if await process.wait_for_exit(_POLL_SECONDS):
                raise _RunnerDied(f"{process.exit_reason} while loading")
            if not process.listens:
                continue
            try:
                answer = await process.client.get_status(self._limits.silence_seconds)
            except AtelierError:  # still starting, or busy importing; the process and the clock decide
                continue
            self._learn(answer)
            if answer.state == UNAVAILABLE:
                raise _LoadRefused(answer.reason)
            if answer.state == READY:
                return
        raise _RunnerDied(f"it did not load within {self._limits.load_seconds:g} s")

    async def _watch(self, process: RunnerProcess) -> str:
        """Follows a READY runner until it fails, and says how."""
        limits, stall = self._limits, StallWatch(self._limits)
        while not await process.wait_for_exit(limits.heartbeat_seconds, self._doubts):
            if self._doubts.is_set():
                await process.wait_for_exit(_LAST_WORDS_SECONDS)
                return process.exit_reason or await self._why_in_doubt(process)
            try:
                answer = await process.client.get_status(limits.silence_seconds)
            except AtelierError as error:
                if await process.wait_for_exit(_POLL_SECONDS):
                    break
                silent = f"it has not answered for {limits.silence_seconds:g} s"
                return silent if error.reason == "DEADLINE_EXCEEDED" else "its connection broke"
            self._learn(answer)
            if answer.state == UNAVAILABLE:
                return answer.reason
            overdue = stall.overdue(answer.facts)
            if overdue is not None:
                return f"one step has taken more than {overdue:.3g} s"
        return process.exit_reason or "its process ended"

    async def _why_in_doubt(self, process: RunnerProcess) -> str:
        """A runner that lives on after a call failed as if it were gone may know why."""
        try:
            answer = await process.client.get_status(_LAST_WORDS_SECONDS)
        except AtelierError:
            return "its connection broke"
        return answer.reason or "its connection broke"
