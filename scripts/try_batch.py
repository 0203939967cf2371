"""Makes 200 pictures of a CSV while the server is ended twice, once by SIGTERM and once by SIGKILL: `make try-batch`.

Ends with an error unless there are 200 different pictures, a line of results for each, and none was made twice. The
server is a process of its own with the echo backend, whose picture depends on the seed alone; `--starter` takes the
shipped model at 4 steps.
"""

import argparse
import hashlib
import json
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from socket import create_server

from atelier_server.testing import write_echo_model

ROOT = Path(__file__).resolve().parent.parent
ROWS = 200


def free_port() -> int:
    """A port that nobody listens on."""
    with create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def start(folder: Path, port: int, *, starter: bool) -> subprocess.Popen[str]:
    """A server that is ready."""
    models = ROOT / "models" if starter else folder / "models"
    flags = ["--listen", f"127.0.0.1:{port}", "--metrics-listen", "127.0.0.1:0", "--model-repository", str(models)]
    command = [sys.executable, "-m", "atelier_server", "serve", *flags, "--state-dir", str(folder / "state")]
    with (folder / "server.log").open("a") as log:
        server = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True)
    assert server.stdout is not None
    if not server.stdout.readline().startswith("READY"):
        sys.exit(f"The server did not start:\n{(folder / 'server.log').read_text()}")
    return server


@contextmanager
def ended(process: subprocess.Popen[str]) -> Iterator[subprocess.Popen[str]]:
    """Ends a process with the block, whatever happens."""
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()


def lines(record: Path) -> list[dict[str, object]]:
    """The results that are written by now."""
    return [json.loads(line) for line in record.read_text().splitlines()] if record.exists() else []


def wait_for(record: Path, count: int, batch: subprocess.Popen[str]) -> None:
    """Waits until so many rows are done."""
    while len(lines(record)) < count and batch.poll() is None:
        time.sleep(0.05)


def check(folder: Path, printed: str) -> None:
    """Ends the script unless everything is there, once."""
    found = json.loads(printed)
    record = lines(folder / "out" / "results.jsonl")
    pictures = sorted((folder / "out").glob("*.png"))
    hashes = {hashlib.sha256(path.read_bytes()).hexdigest() for path in pictures}
    if found["failed"]:
        sys.exit(f"{found['failed']} rows failed: {found['failures'][:3]}")
    images = [image for line in record for image in line["images"]]  # type: ignore[attr-defined]
    facts = {
        "rows made": found["made"] == ROWS,
        "pictures": len(pictures) == ROWS,
        "different pictures": len(hashes) == ROWS,
        "lines": [line["row"] for line in record] == list(range(1, ROWS + 1)),
        "calls": len({line["request_id"] for line in record}) == ROWS,
        "seeds": [image["seed"] for image in images] == list(range(1000, 1000 + ROWS)),
        "files as recorded": {image["sha256"] for image in images} == hashes,
    }
    if wrong := [name for name, right in facts.items() if not right]:
        sys.exit(f"Wrong: {', '.join(wrong)}. {printed}")
    scored = sum(image["aesthetic_score"] is not None for image in images)
    print(f"{len(pictures)} pictures, {len(hashes)} different, {len(record)} lines of results, {scored} with a score")


def main() -> None:
    """Starts server and batch, ends the server twice meanwhile, checks."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--starter", action="store_true", help="the shipped model at 4 steps in place of echo")
    options = parser.parse_args()
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_echo_model(folder / "models", step_seconds=0.02)
        rows = [f'"a bag, number {number}",{1000 + number}' for number in range(ROWS)]
        (folder / "prompts.csv").write_text("\n".join(["prompt,seed", *rows, ""]))
        port = free_port()
        sizes = ["--steps", "4", "--quality", "standard"] if options.starter else ["--steps", "8", "--size", "64x64"]
        atelier = [sys.executable, "-m", "atelier_client", "--server", f"127.0.0.1:{port}"]
        command = [*atelier, "generate", "--from", "prompts.csv", "-o", "out", "--json", *sizes]
        record = folder / "out" / "results.jsonl"
        with ended(start(folder, port, starter=options.starter)) as server:
            batch = subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, text=True)
            with ended(batch):
                for count, number in ((ROWS // 3, signal.SIGTERM), (2 * ROWS // 3, signal.SIGKILL)):
                    wait_for(record, count, batch)
                    print(f"{len(lines(record))} rows are done: {number.name}", flush=True)
                    server.send_signal(number)
                    server.wait()
                    server = start(folder, port, starter=options.starter)
                with ended(server):
                    printed, _ = batch.communicate()
        check(folder, printed)
    print(f"{time.monotonic() - began:.0f} s")


if __name__ == "__main__":
    main()
