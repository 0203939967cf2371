"""The commands that the README promises exist."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PROMISED = {"demo", "test", "serve", "check", "bench", "protos", "help", "train", "evaluate"}


def make(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Runs make in the repository."""
    return subprocess.run(["make", "--no-print-directory", *arguments], cwd=ROOT, capture_output=True, text=True)


def fenced_lines(text: str) -> list[str]:
    """Lines of code blocks."""
    return [line for block in re.findall(r"```[^\n]*\n(.*?)```", text, flags=re.S) for line in block.splitlines()]


def test_help_is_the_default_and_lists_every_promised_target() -> None:
    shown = make()
    assert shown.returncode == 0
    assert shown.stdout == make("help").stdout
    listed = set(re.findall(r"^  ([a-z-]+) +\S", shown.stdout, flags=re.M))
    assert listed >= PROMISED


def test_every_make_command_of_the_documentation_is_a_target() -> None:
    targets = set(re.findall(r"^([a-z][a-z-]*):", (ROOT / "Makefile").read_text(), flags=re.M))
    pages = [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]
    named = {(page.name, t) for page in pages for t in re.findall(r"`?\bmake ([a-z-]+)`", page.read_text())}
    for page in pages:
        named |= {(page.name, line.split()[1]) for line in fenced_lines(page.read_text()) if line.startswith("make ")}
    assert {(page, target) for page, target in named if target not in targets} == set()


def test_every_script_that_make_runs_exists() -> None:
    named = re.findall(r"(?:python\)?|@)\s*((?:scripts|training)/[\w/]+\.(?:py|sh))", (ROOT / "Makefile").read_text())
    assert len(named) > 5
    assert [path for path in named if not (ROOT / path).is_file()] == []


def test_the_readme_begins_with_the_two_commands() -> None:
    lines = fenced_lines((ROOT / "README.md").read_text())
    assert [line.split("#")[0].strip() for line in lines[:2]] == ["make demo", "make test"]


@pytest.mark.parametrize("answer", [None, "exit 1", "echo no python here; exit 127"])
def test_an_old_or_missing_python_is_refused_with_a_clear_message(answer: str | None, tmp_path: Path) -> None:
    python = tmp_path / "python"
    if answer:
        python.write_text(f"#!/bin/sh\n{answer}\n")
        python.chmod(0o755)
    done = make(f"VENV={tmp_path}/venv", f"PYTHON={python if answer else ''}", "install")
    assert done.returncode != 0
    assert "Python 3.11 or newer" in done.stderr
    assert not (tmp_path / "venv").exists()


def test_the_public_stubs_and_private_stubs_are_what_the_compiler_writes() -> None:
    compiler = ROOT / ".venv-protos" / "bin" / "python"
    if not compiler.exists():
        pytest.skip("the stub compiler is not installed; `make check-stubs` installs and runs it")
    command = [compiler, ROOT / "scripts" / "protos.py", "--check"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_scripts_answer_help() -> None:
    done = subprocess.run(
        [sys.executable, ROOT / "scripts" / "demo.py", "--help"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0
    assert "--prompt" in done.stdout


@pytest.mark.slow
def test_make_demo_makes_a_picture_and_says_what_it_is_worth() -> None:
    done = make("demo", "PROMPT=a blue vase")
    assert done.returncode == 0, done.stdout + done.stderr
    assert (ROOT / "out" / "demo.png").read_bytes().startswith(b"\x89PNG")
    for word in ("aesthetic", "brand", "denoise"):
        assert word in done.stdout, done.stdout
