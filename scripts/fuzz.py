"""Sends mutated Generate, Score, AddReferenceImages and ModelInfer messages to a real server and counts the answers.

    python scripts/fuzz.py [--messages 20000] [--seed 1] [--only NUMBER]

The server runs as an operator starts it, with a process for each model: echo for pictures, small ONNX models for scores
and brands. It fails when a message is answered with INTERNAL, UNKNOWN, UNAVAILABLE or the like, hangs for two minutes,
ends a process, or when fewer than 30% of the messages pass validation and do their work. Every message can be made
again by the seed and its number.
"""

import argparse
import asyncio
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import grpc

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from atelier.v1 import health_pb2, image_generation_pb2_grpc  # noqa: E402
from tests.integration.fuzz_kit import METHODS, Findings, Fuzzer, message_of, write_fuzz_models  # noqa: E402

LEAST_WORKED = 0.3
PART = 1000


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """A server for the time of the block; gives its address. Its log is at `folder`/log."""
    models = write_fuzz_models(folder / "models")
    command = [sys.executable, "-m", "atelier_server", "serve", "--listen", "127.0.0.1:0"]
    command += ["--metrics-listen", "127.0.0.1:0", "--model-repository", str(models), "--state-dir", str(folder / "s")]
    command += ["--log-level", "warning", "--drain-delay-seconds", "0"]
    with (
        open(folder / "log", "w") as log,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True) as process,
    ):
        assert process.stdout is not None
        ready = process.stdout.readline()
        if not ready.startswith("READY"):
            raise SystemExit(f"the server did not start: {(folder / 'log').read_text()}")
        try:
            yield ready.split()[1].removeprefix("grpc=")
            if process.poll() is not None:
                raise SystemExit(f"the server ended with {process.returncode}")
        finally:
            process.terminate()
            process.wait(60)


async def fuzz(address: str, seed: int, numbers: range) -> tuple[Findings, list[str]]:
    """The findings, and what is wrong with the models afterwards."""
    async with grpc.aio.insecure_channel(address) as channel:
        fuzzer, findings, begun = Fuzzer(channel, seed), Findings(), time.monotonic()
        await fuzzer.prepare()
        for start in range(0, len(numbers), PART):
            part = await fuzzer.run(numbers[start : start + PART])
            findings.statuses += part.statuses
            findings.faults += part.faults
            seconds = time.monotonic() - begun
            print(f"{findings.statuses.total()} of {len(numbers)} in {seconds:.0f} s", file=sys.stderr)
        stub = image_generation_pb2_grpc.ImageGenerationServiceStub(channel)
        health = await stub.Health(health_pb2.HealthRequest())
        wrong = [f"{row.model}: {row.state}, {row.restarts} restarts" for row in health.instances]
        return findings, [line for line in wrong if not line.endswith(": READY, 0 restarts")]


def report(findings: Findings, wrong: list[str]) -> bool:
    """Prints the counts. Returns whether all is well."""
    total = findings.statuses.total()
    print(f"{'method':<22}{'status':<24}{'messages':>9}")
    for method in (name.rpartition("/")[2] for name in METHODS):
        for (name, status), count in sorted(findings.statuses.items()):
            if name == method:
                print(f"{method:<22}{status:<24}{count:>9}")
    print(f"\n{total} messages, {100 * findings.worked:.1f}% did work, {len(findings.faults)} wrong answers")
    for number, status, text in findings.faults[:20]:
        print(f"  message {number}: {status}: {text[:200]}")
    for line in wrong:
        print(f"  {line}")
    return not findings.faults and not wrong and findings.worked >= LEAST_WORKED


def main() -> int:
    """Exits with 1 when something is wrong."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--messages", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", type=int, help="send this message alone, and show it")
    arguments = parser.parse_args()
    numbers = range(arguments.messages)
    if arguments.only is not None:
        numbers = range(arguments.only, arguments.only + 1)
        print(message_of(arguments.seed, arguments.only))
    with tempfile.TemporaryDirectory() as folder, served(Path(folder)) as address:
        well = report(*asyncio.run(fuzz(address, arguments.seed, numbers)))
        if not well:
            print((Path(folder) / "log").read_text()[-5000:], file=sys.stderr)
    return 0 if well else 1


if __name__ == "__main__":
    sys.exit(main())
