"""The progress bar: what it says, and that it is there only on a terminal."""

import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

from atelier_client import Progress, Queued, Started
from atelier_client._types import Dimensions
from atelier_client.cli._progress import State
from tests.client.scripted import ScriptedServer, generation

SIZE = Dimensions(32, 32)


def started(pictures: int, steps: int) -> Started:
    return Started(
        2, "r", "starter", "1", "", "a bag", None, tuple(range(pictures)), SIZE, SIZE, steps, 7.5, "euler", ()
    )


def progress(image: int, step: int, left: float | None = None, attempt: int = 1) -> Progress:
    return Progress(3, "r", image, step, 10, left, None, attempt)


def test_the_words() -> None:
    state = State()
    assert (state.words, state.done, state.total) == ("waiting", 0, 0)
    state.add(Queued(1, "r", 3, None))
    assert state.words == "queued, 3 ahead"
    state.add(Queued(1, "r", 2, 75.0))
    assert state.words == "queued, 2 ahead, about 1 min 15 s"
    state.add(started(pictures=2, steps=10))
    assert (state.words, state.done, state.total) == ("starter", 0, 20)
    state.add(progress(image=0, step=4, left=9.6))
    state.add(progress(image=1, step=3))
    assert (state.words, state.done, state.total) == ("step 3/10", 7, 20)
    state.add(progress(image=1, step=4, left=9.6, attempt=2))
    assert state.words == "step 4/10, attempt 2, 10 s left"
    state.add(started(pictures=1, steps=10))
    assert (state.done, state.total) == (0, 10)


@pytest.mark.parametrize("extras", ["rich", "bare"])
def test_on_a_terminal(server: ScriptedServer, tmp_path: Path, extras: str) -> None:
    """With rich a bar, without rich and Pillow a line; stdout has the table alone."""
    server.scripts["Generate"] = lambda request, context: generation(request)
    block = "sys.modules.update(rich=None, PIL=None); " if extras == "bare" else ""
    code = f"import sys; {block}from atelier_client.cli import main; sys.exit(main())"
    shown, terminal = pty.openpty()
    command = [sys.executable, "-c", code, "--server", server.target, "generate", "a bag", "-o", "out.png"]
    environment = os.environ | {"TERM": "xterm", "COLUMNS": "100"}
    done = subprocess.run(command, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, stderr=terminal, check=False)
    os.close(terminal)
    text = _all_of(shown)
    assert done.returncode == 0, text
    assert "step 3/3, 0 s left" in text
    assert ("━" in text) == (extras == "rich")
    assert done.stdout.startswith(b"picture ")
    assert (tmp_path / "out.png").exists()


def _all_of(descriptor: int) -> str:
    """What was written to the other end of a terminal; reading it then ends with an error."""
    with open(descriptor, "rb", buffering=0) as end:
        pieces = []
        try:
            while piece := end.read(65536):
                pieces.append(piece)
        except OSError:
            pass
    return b"".join(pieces).decode()
