"""Servers in processes of their own for the shows of faults: started, looked at, hurt and started again."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from atelier_client import AsyncAtelier, AtelierError
from atelier_client import Health as HealthReport

ROOT = Path(__file__).resolve().parent.parent
START_SECONDS = 240.0


@dataclass
class Server:
    """`atelier-server serve` as an operator starts it. A second start takes the same ports."""

    repository: Path
    state: Path
    flags: Sequence[str] = ()
    address: str = "127.0.0.1:0"
    process: asyncio.subprocess.Process | None = field(default=None, init=False)

    @property
    def temporary(self) -> Path:
        """Where its sockets are."""
        return self.state / "tmp"

    async def start(self) -> None:
        """Returns when it says READY."""
        self.temporary.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", "atelier_server", "serve", "--model-repository", str(self.repository)]
        command += ["--listen", self.address, "--metrics-listen", "127.0.0.1:0", "--state-dir", str(self.state)]
        with (self.state / "log.txt").open("ab") as log:
            self.process = await asyncio.create_subprocess_exec(
                *command,
                "--log-level",
                "warning",
                *self.flags,
                stdout=asyncio.subprocess.PIPE,
                stderr=log,
                env=os.environ | {"TMPDIR": str(self.temporary)},
            )
        assert self.process.stdout is not None
        async with asyncio.timeout(START_SECONDS):
            line = (await self.process.stdout.readline()).decode()
        if not line.startswith("READY"):
            raise SystemExit(f"the server did not start; see {self.state / 'log.txt'}")
        self.address = line.split()[1].removeprefix("grpc=")

    async def end(self, number: int = signal.SIGTERM) -> int:
        """Sends a signal and waits for the end; gives the exit status."""
        assert self.process is not None
        if self.process.returncode is None:
            self.process.send_signal(number)
        return await self.process.wait()

    def tree(self) -> list[psutil.Process]:
        """The server and its runners."""
        assert self.process is not None
        try:
            server = psutil.Process(self.process.pid)
            return [server, *server.children(recursive=True)]
        except psutil.NoSuchProcess:
            return []

    def runner(self, model: str) -> psutil.Process:
        """The process of a model's first instance, told by its command line as in `ps`.

        Raises:
            LookupError: There is none now.
        """
        for process in self.tree()[1:]:
            try:
                words = process.cmdline()
            except psutil.Error:
                continue
            if "atelier_server.runner" in words and words[words.index("atelier_server.runner") + 1] == model:
                return process
        raise LookupError(model)


@asynccontextmanager
async def running(server: Server) -> AsyncIterator[Server]:
    """The server for the time of the block."""
    await server.start()
    try:
        yield server
    finally:
        if server.process is not None and server.process.returncode is None:
            await server.end()


async def health(atelier: AsyncAtelier) -> HealthReport | None:
    """How the server is; None when nobody answers."""
    try:
        return await atelier.health(timeout=5.0)
    except AtelierError:
        return None


async def seconds_until(atelier: AsyncAtelier, status: str, patience: float) -> float | None:
    """How long it takes until Health says so; None when it does not within the patience."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    while loop.time() - began < patience:
        report = await health(atelier)
        if report is not None and report.status == status:
            return loop.time() - began
        await asyncio.sleep(0.05)
    return None


def report(rows: Iterable[dict[str, Any]], columns: Sequence[str], file: Path) -> None:
    """Writes rows as JSON lines and prints them as a table."""
    rows = list(rows)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    cells = [[_cell(row.get(column)) for column in columns] for row in rows]
    widths = [max(len(column), *(len(line[place]) for line in cells)) for place, column in enumerate(columns)]
    for line in (columns, ["-" * width for width in widths], *cells):
        print("  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip())
    print(f"\n{file}")


def _cell(value: object) -> str:
    if value is None:
        return "-"
    return f"{value:.2f}" if isinstance(value, float) else str(value)
