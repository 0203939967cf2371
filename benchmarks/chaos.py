"""Causes faults for real, while calls run, and prints what became of the calls.

    python benchmarks/chaos.py [--only WORD]… [--kills 20] [--calls 200] [--starter] [--json FILE]

Every row is one fault: calls sent, finished with the right bytes, failed with a status that callers can act on, and
lost, which must be 0: wrong bytes, no answer, INTERNAL or UNKNOWN. `again` counts calls that the server did once more
by itself, `healthy` the seconds until Health says healthy again. The calls are EXACT, so that their bytes are known.
Most faults are not about computing, and are caused in the echo backend, whose steps take as long as they are told.
Exit status 1 when anything was lost.
"""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
from servers import ROOT, Server, health, report, running, seconds_until

from atelier_client import AsyncAtelier, AtelierError, GenerationResult, Progress, Queued, Retry
from atelier_server.testing import write_echo_model

ALONE = Retry(attempts=1)
"""What a caller without retries sees: the server's own doing."""
PATIENT = Retry(attempts=20, first_seconds=0.5)
ACTIONABLE = {"UNAVAILABLE", "RESOURCE_EXHAUSTED", "DEADLINE_EXCEEDED", "CANCELLED"}
CALL_SECONDS = 120.0
HEALTHY_SECONDS = 120.0
SEEDS = 8
STEPS = 25
COLUMNS = ("fault", "sent", "finished", "failed", "statuses", "lost", "again", "healthy")

Fault = Callable[[Server, AsyncAtelier], Awaitable[None]]


@dataclass
class Tally:
    """What became of the calls of one fault."""

    fault: str
    expected: dict[int, str]
    sent: int = 0
    finished: int = 0
    again: int = 0
    lost: int = 0
    statuses: Counter[str] = field(default_factory=Counter)
    examples: dict[str, str] = field(default_factory=dict)
    healthy: float | None = None

    async def call(self, atelier: AsyncAtelier, number: int, timeout: float = CALL_SECONDS, **fields: Any) -> None:
        """One call; its bytes must be those of an undisturbed one."""
        seed = number % SEEDS
        self.sent += 1
        try:
            async with asyncio.timeout(timeout + 30):
                result = await generate(atelier, seed, timeout=timeout, **fields)
        except AtelierError as error:
            self.statuses[error.code] += 1
            self.examples.setdefault(error.code, error.message[:300])
            self.lost += error.code not in ACTIONABLE
        except TimeoutError:
            self.statuses["no answer"] += 1
            self.lost += 1
        else:
            self.note(result, seed)

    def note(self, result: GenerationResult, seed: int) -> None:
        """A call that finished."""
        right = result.images[0].sha256 == self.expected[seed]
        self.finished += right
        self.lost += not right
        self.again += result.restarts

    def row(self) -> dict[str, Any]:
        """Of the table."""
        told = " ".join(f"{code}:{count}" for code, count in sorted(self.statuses.items()))
        failed = sum(self.statuses.values())
        return {
            "fault": self.fault,
            "sent": self.sent,
            "finished": self.finished,
            "failed": failed,
            "statuses": told,
            "lost": self.lost,
            "again": self.again,
            "healthy": self.healthy,
            "examples": self.examples,
        }


async def generate(atelier: AsyncAtelier, seed: int, **fields: Any) -> GenerationResult:
    """One small EXACT picture that no cache answers."""
    given = {"width": 128, "height": 128, "num_inference_steps": STEPS, "brand_consistency_check": False} | fields
    prompt = given.pop("prompt", "a red handbag on marble")
    return await atelier.generate(prompt, seed=seed, style="none", reproducibility="exact", cache="bypass", **given)


async def expected_bytes(atelier: AsyncAtelier) -> dict[int, str]:
    """The hash of each seed's picture, made one after another without disturbance."""
    return {seed: (await generate(atelier, seed)).images[0].sha256 for seed in range(SEEDS)}


async def under_calls(
    name: str, server: Server, expected: dict[int, str], fault: Fault, calls: int = 8, retry: Retry = ALONE
) -> Tally:
    """Causes a fault while all calls are inside and at least one is at step 10."""
    tally = Tally(name, expected)
    async with AsyncAtelier(server.address, retry=retry) as atelier:
        at_ten = asyncio.Event()

        def look(progress: Progress) -> None:
            if progress.step >= 10:
                at_ten.set()

        work = [asyncio.create_task(tally.call(atelier, number, on_progress=look)) for number in range(calls)]
        await asyncio.wait_for(at_ten.wait(), CALL_SECONDS)
        await fault(server, atelier)
        healing = asyncio.create_task(healed(atelier))
        await asyncio.gather(*work)
        tally.healthy = await healing
    return tally


async def healed(atelier: AsyncAtelier) -> float | None:
    """Seconds until Health, after having noticed the fault, says healthy again."""
    began = time.monotonic()
    while time.monotonic() - began < 15:  # a silent runner is noticed after 10 s
        seen = await health(atelier)
        if seen is None or seen.status != "healthy":
            break
        await asyncio.sleep(0.05)
    if await seconds_until(atelier, "healthy", HEALTHY_SECONDS) is None:
        return None
    return round(time.monotonic() - began, 2)


def hit(model: str, number: int) -> Fault:
    """Sends a signal to a model's runner."""

    async def fault(server: Server, atelier: AsyncAtelier) -> None:
        server.runner(model).send_signal(number)

    return fault


async def lose_device(server: Server, atelier: AsyncAtelier) -> None:
    """A call at which the backend raises what torch raises when a CUDA context is broken; it leaves when it did."""
    fields: dict[str, Any] = {"width": 128, "height": 128, "brand_consistency_check": False, "cache": "bypass"}
    began = False
    async with aclosing(atelier.generate_events("lose the device", style="none", **fields)) as events:
        async for event in events:
            began = began or isinstance(event, Progress)
            if began and isinstance(event, Queued):
                return


async def signalled(folder: Path, only: Sequence[str]) -> list[Tally]:
    """What can befall a runner."""
    faults: dict[str, Fault] = {
        "runner SIGKILL at step 10 of 25": hit("echo", signal.SIGKILL),
        "runner out of memory (the kernel's SIGKILL, sent by us)": hit("echo", signal.SIGKILL),
        "runner SIGSEGV": hit("echo", signal.SIGSEGV),
        "runner SIGSTOP (hangs)": hit("echo", signal.SIGSTOP),
        "CUDA error in a step": lose_device,
    }
    write_echo_model(
        folder / "models", step_seconds=0.02, max_rows=16, lose_device_at_step=5, on_prompt="lose the device"
    )
    tallies = []
    async with running(Server(folder / "models", folder / "state")) as server:
        async with AsyncAtelier(server.address) as atelier:
            expected = await expected_bytes(atelier)
        for name, fault in faults.items():
            if _wanted(name, only):
                tallies.append(_said(await under_calls(name, server, expected, fault)))
    return tallies


async def two_instances(folder: Path) -> Tally:
    """One of two is killed: the other one takes over at once."""
    model = write_echo_model(folder / "models", step_seconds=0.02)
    with (model / "config.pbtxt").open("a") as config:
        config.write("instance_group [ { count: 2 } ]\n")
    async with running(Server(folder / "models", folder / "state")) as server:
        async with AsyncAtelier(server.address) as atelier:
            expected = await expected_bytes(atelier)
        return await under_calls("one of two runners SIGKILL", server, expected, hit("echo", signal.SIGKILL))


async def many_kills(folder: Path, kills: int, calls: int) -> Tally:
    """Kills at even distances over many calls of patient callers, four at a time."""
    write_echo_model(folder / "models", step_seconds=0.02)
    async with running(Server(folder / "models", folder / "state")) as server:
        async with AsyncAtelier(server.address) as atelier:
            tally = Tally(f"{kills} runner SIGKILL over {calls} calls", await expected_bytes(atelier))
        async with AsyncAtelier(server.address, retry=PATIENT) as atelier:
            numbers = iter(range(calls))
            killed = 0

            async def caller() -> None:
                for number in numbers:
                    await tally.call(atelier, number, timeout=300.0)

            work = asyncio.gather(*(asyncio.create_task(caller()) for _ in range(4)))
            while not work.done():
                if killed < kills and tally.sent >= (killed + 1) * calls / (kills + 1):
                    with suppress(LookupError, psutil.Error):
                        server.runner("echo").kill()
                        killed += 1
                await asyncio.sleep(0.05)
            await work
            tally.fault = f"{killed} runner SIGKILL over {calls} calls"
            tally.healthy = await seconds_until(atelier, "healthy", HEALTHY_SECONDS)
    return tally


async def crash_loop(folder: Path) -> Tally:
    """A model that crashes at every call: it ends UNAVAILABLE, Health critical, and nothing hangs."""
    write_echo_model(folder / "models", crash_at_step=1)
    async with running(Server(folder / "models", folder / "state")) as server:
        tally = Tally("crash loop", {})
        async with AsyncAtelier(server.address, retry=ALONE) as atelier:
            began = time.monotonic()
            while time.monotonic() - began < 180:
                await tally.call(atelier, 0)
                seen = await health(atelier)
                if seen is not None and any("crash loop" in reason for reason in seen.reasons):
                    tally.fault = f"crash loop: Health {seen.status} after {time.monotonic() - began:.0f} s"
                    break
                await asyncio.sleep(0.5)
            else:
                tally.lost += 1
    return tally


async def server_killed(folder: Path) -> Tally:
    """SIGKILL of the server while one runner is stopped: no runner outlives it, and patient callers are served."""
    write_echo_model(folder / "models", step_seconds=0.02)
    server = Server(folder / "models", folder / "state")
    async with running(server):
        async with AsyncAtelier(server.address) as atelier:
            tally = Tally("server SIGKILL, a runner stopped", await expected_bytes(atelier))
        async with AsyncAtelier(server.address, retry=PATIENT) as atelier:
            work = [asyncio.create_task(tally.call(atelier, number)) for number in range(4)]
            await asyncio.sleep(0.3)
            runners = server.tree()[1:]
            runners[0].suspend()
            began = time.monotonic()
            await server.end(signal.SIGKILL)
            _, alive = await asyncio.to_thread(psutil.wait_procs, runners, 20)
            tally.lost += len(alive)  # an orphan
            await server.start()
            await asyncio.gather(*work)
            tally.healthy = round(time.monotonic() - began, 2)
    return tally


async def rolling_restart(folder: Path) -> Tally:
    """Two servers behind one name are replaced in turn, under calls with the client's usual retries."""
    write_echo_model(folder / "models", step_seconds=0.02)
    first, second = (Server(folder / "models", folder / name) for name in ("one", "two"))
    async with running(first), running(second):
        async with AsyncAtelier(first.address) as atelier:
            tally = Tally("rolling restart of two servers", await expected_bytes(atelier))
        stop = asyncio.Event()
        async with AsyncAtelier(f"ipv4:{first.address},{second.address}") as atelier:

            async def caller(number: int) -> None:
                while not stop.is_set():
                    await tally.call(atelier, number)

            work = [asyncio.create_task(caller(number)) for number in range(4)]
            began = time.monotonic()
            for server in (first, second):
                await asyncio.sleep(4)  # until callers have found the one that came back
                tally.lost += await server.end() != 0
                await server.start()
            tally.healthy = round(time.monotonic() - began, 2)
            await asyncio.sleep(2)
            stop.set()
            await asyncio.gather(*work)
    tally.lost += sum(tally.statuses.values())  # here even a failure that can be acted on is one too many
    return tally


async def broken_streams(folder: Path) -> Tally:
    """Callers leave at step 10 and come back with the same request_id: their work went on without them."""
    write_echo_model(folder / "models", step_seconds=0.02)
    async with running(Server(folder / "models", folder / "state")) as server, AsyncAtelier(server.address) as atelier:
        tally = Tally("client gone at step 10, back with its request_id", await expected_bytes(atelier))
        fields: dict[str, Any] = {"style": "none", "cache": "bypass", "reproducibility": "exact"}
        fields |= {"width": 128, "height": 128, "num_inference_steps": STEPS, "on_disconnect": "continue"}
        fields |= {"brand_consistency_check": False}
        for number in range(8):
            fields |= {"request_id": f"resumed-{number}", "seed": number % SEEDS}
            async for event in atelier.generate_events("a red handbag on marble", **fields):
                if isinstance(event, Progress) and event.step == 10:
                    break
            before = (await atelier.metrics()).generations_by_model.get("echo", 0)
            await tally.call(atelier, number, request_id=f"resumed-{number}", on_disconnect="continue")
            tally.lost += (await atelier.metrics()).generations_by_model.get("echo", 0) > before + 1  # computed twice
    return tally


async def late_and_full(folder: Path) -> Tally:
    """More than the queue holds, and deadlines that cannot be kept: refused, while a step takes a second."""
    write_echo_model(folder / "models", step_seconds=1.0, max_waiting=4, max_rows=1)
    async with running(Server(folder / "models", folder / "state")) as server:
        tally = Tally("a full queue and impossible deadlines", dict.fromkeys(range(SEEDS), ""))
        async with AsyncAtelier(server.address, retry=ALONE) as atelier:
            first = asyncio.create_task(tally.call(atelier, 0, num_inference_steps=5))
            await asyncio.sleep(1)
            late = [tally.call(atelier, number, timeout=6.0, num_inference_steps=5) for number in range(4)]
            await asyncio.gather(*late)
            rest = [tally.call(atelier, number, num_inference_steps=5) for number in range(12)]
            await asyncio.gather(first, *rest)
    tally.finished, tally.lost = tally.sent - sum(tally.statuses.values()), 0  # their bytes are of another step count
    return tally


async def starter(only: Sequence[str]) -> list[Tally]:
    """The real model: its runner, and the scorer's, killed while it computes."""
    names = {
        "starter SIGKILL at step 10 of 25": hit("starter", signal.SIGKILL),
        "starter_clip SIGKILL while pictures are scored": hit("starter_clip", signal.SIGKILL),
    }
    tallies: list[Tally] = []
    if not any(_wanted(name, only) for name in names):
        return tallies
    with tempfile.TemporaryDirectory() as state:
        flags = ("--load-model", "starter", "--load-model", "starter_clip")
        async with running(Server(ROOT / "models", Path(state), flags)) as server:
            async with AsyncAtelier(server.address) as atelier:
                expected = await expected_bytes(atelier)
            for name, fault in names.items():
                if _wanted(name, only):
                    tallies.append(_said(await under_calls(name, server, expected, fault, calls=4)))
    return tallies


def _wanted(name: str, only: Sequence[str]) -> bool:
    return not only or any(word in name for word in only)


def _said(tally: Tally) -> Tally:
    row = tally.row()
    print(", ".join(f"{column} {row[column]}" for column in COLUMNS), file=sys.stderr, flush=True)
    return tally


async def everything(arguments: argparse.Namespace) -> list[Tally]:
    """All faults that are wanted, each on a server of its own."""
    single: dict[str, Callable[[Path], Awaitable[Tally]]] = {
        "one of two runners SIGKILL": two_instances,
        "many runner SIGKILL": lambda folder: many_kills(folder, arguments.kills, arguments.calls),
        "crash loop": crash_loop,
        "server SIGKILL": server_killed,
        "rolling restart": rolling_restart,
        "client gone": broken_streams,
        "full queue and deadlines": late_and_full,
    }
    tallies: list[Tally] = []
    with tempfile.TemporaryDirectory() as folder:
        tallies += await signalled(Path(folder) / "signals", arguments.only)
        for place, (name, show) in enumerate(single.items()):
            if _wanted(name, arguments.only):
                tallies.append(_said(await show(Path(folder) / str(place))))
    return tallies + await starter(arguments.only)


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", action="append", default=[], help="faults whose name contains this word")
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--calls", type=int, default=200)
    parser.add_argument("--json", type=Path, default=ROOT / "build" / "chaos.jsonl")
    arguments = parser.parse_args()
    began = time.monotonic()
    tallies = asyncio.run(everything(arguments))
    report([tally.row() for tally in tallies], COLUMNS, arguments.json)
    print(f"{time.monotonic() - began:.0f} s")
    if any(tally.lost for tally in tallies):
        raise SystemExit("something was lost")


if __name__ == "__main__":
    main()
