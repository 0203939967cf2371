"""Starts a server with the models at hand, makes one picture and shows how it went: what `make demo` runs.

Needs nothing but the standard library; server and client are the installed commands beside this interpreter.
"""

import argparse
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

PROMPT = "Luxury leather handbag with gold hardware on marble surface"
READY = re.compile(r"^READY grpc=(\S+) metrics=\S+$")
START_TIMEOUT_SECONDS = 300.0
STOP_TIMEOUT_SECONDS = 60.0
COMMANDS = Path(sys.executable).parent


class Server:
    """A server process on a free port; its log goes to a file, which is shown when it fails."""

    def __init__(self, log: Path, state_dir: str) -> None:
        """Starts the process without waiting for it. Its state is kept in `state_dir`."""
        self._log = log
        command = [str(COMMANDS / "atelier-server"), "serve", "--listen", "127.0.0.1:0"]
        command += ["--metrics-listen", "127.0.0.1:0", "--state-dir", state_dir]
        with log.open("w") as stderr:
            self._process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=stderr, text=True)

    def wait_ready(self) -> str:
        """Waits for the READY line and returns the address, HOST:PORT."""
        timer = threading.Timer(START_TIMEOUT_SECONDS, self._process.kill)
        timer.daemon = True
        timer.start()
        try:
            for line in self._process.stdout or ():
                if match := READY.match(line.strip()):
                    return match[1]
        finally:
            timer.cancel()
        self._process.wait()
        sys.exit(f"The server did not start. The end of its log, {self._log}:\n{self.log_tail()}")

    def log_tail(self) -> str:
        """The last lines of the log, indented."""
        lines = self._log.read_text(errors="replace").splitlines()
        return "\n".join(f"  {line}" for line in lines[-20:])

    def stop(self) -> int:
        """Stops the process as an operator would, and returns its exit status."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
        try:
            return self._process.wait(STOP_TIMEOUT_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            return self._process.wait()


def generate(address: str, prompt: str, style: str, out: Path) -> int:
    """Makes the picture with the command line client, whose output is the user's, and returns its exit status."""
    command = [str(COMMANDS / "atelier"), "--server", address, "generate", prompt, "--style", style, "-o", str(out)]
    return subprocess.run(command, check=False).returncode


def main() -> None:
    """Runs the demonstration; exits with the client's status when it fails."""
    parser = argparse.ArgumentParser(description="Generates one picture with a server of its own.")
    parser.add_argument("--prompt", default=os.environ.get("PROMPT") or PROMPT)
    parser.add_argument("--style", default=os.environ.get("STYLE") or "luxury")
    parser.add_argument("--out", type=Path, default=Path("out/demo.png"))
    arguments = parser.parse_args()
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.unlink(missing_ok=True)
    Path("build").mkdir(exist_ok=True)
    log = Path("build/demo-server.log")

    started = time.monotonic()
    print("Starting the server …", flush=True)
    with tempfile.TemporaryDirectory(prefix="atelier-demo-") as state_dir:
        server = Server(log, state_dir)
        try:
            address = server.wait_ready()
            print(
                f"Ready at {address} after {time.monotonic() - started:.1f} s. Prompt: {arguments.prompt}", flush=True
            )
            status = generate(address, arguments.prompt, arguments.style, arguments.out)
        finally:
            stopped = server.stop()
    if status:
        print(f"The picture was not made (exit status {status}). The server's log: {log}\n{server.log_tail()}")
        sys.exit(status)
    if stopped:
        sys.exit(f"The picture was made, but the server stopped with status {stopped}; see {log}.")
    print(
        "The starter is a small model that learnt on a CPU what this repository draws, and its scorer is strict;\n"
        "models/starter/README.md tells what to expect of it."
    )
    print(f"{arguments.out} after {time.monotonic() - started:.1f} s in all.")


if __name__ == "__main__":
    main()
