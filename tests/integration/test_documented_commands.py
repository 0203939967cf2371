"""Commands of the documentation that name this file are run, line by line, as they stand."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from atelier_server.testing import echo_server_in_thread, write_echo_model
from tests.client.scripted import png
from tests.documents import PAGES, ROOT, Block, blocks, lines
from tests.integration.scoring_kit import write_brand_model, write_clip

HERE = "tests/integration/test_documented_commands.py"
DOCUMENTED_ADDRESS = "127.0.0.1:8001"
MINE = [block for block in blocks(*PAGES) if block.test == HERE]
PAGES_OF_MINE = {"05-operating.md", "09-scores-and-brands.md", "11-clients.md"}


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server with everything that the commands need."""
    folder = tmp_path_factory.mktemp("server")
    write_echo_model(folder / "models", "starter")
    write_clip(folder / "models")
    write_brand_model(folder / "models")
    with echo_server_in_thread(folder) as running:
        yield running


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where the commands are typed: with the pictures and files that they name."""
    (tmp_path / "refs").mkdir()
    for seed in range(9):
        (tmp_path / "refs" / f"{seed}.png").write_bytes(png(seed, 64))
    for number, name in enumerate(("on.png", "off.png", "bag.png")):
        (tmp_path / name).write_bytes(png(20 + number, 64))
    (tmp_path / "prompts.csv").write_text("prompt,style\na red handbag,luxury\na blue vase,\n")
    (tmp_path / "models").symlink_to(ROOT / "models")
    return tmp_path


@pytest.mark.parametrize("block", MINE, ids=str)
def test_commands_do_what_they_are_shown_for(block: Block, address: str, folder: Path) -> None:
    environment = {
        **os.environ,
        "ATELIER_SERVER": address,
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
    }
    for line in lines(block):
        command = ["bash", "-o", "pipefail", "-c", line.replace(DOCUMENTED_ADDRESS, address)]
        done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, f"{block}: {line}\n{done.stdout}{done.stderr}"


def test_every_page_named_here_has_such_a_block() -> None:
    assert {block.page.name for block in MINE} == PAGES_OF_MINE
