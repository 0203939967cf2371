"""`atelier completion SHELL`: the shells themselves complete by it."""

import shutil
import subprocess
from pathlib import Path

import pytest

from atelier_client.cli import main

CASES = [
    (["gen"], "generate"),
    (["generate", "--sty"], "--style"),
    (["generate", "--style", "lu"], "luxury"),
    (["brand", "cre"], "create"),
    (["completion", "fi"], "fish"),
    (["generate", "--from", "pro"], "prompts.csv"),
]


@pytest.fixture
def script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Path:
    """A folder with the scripts of all shells and one file."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "prompts.csv").touch()
    for shell in ("bash", "zsh", "fish"):
        assert main(["completion", shell]) == 0
        (tmp_path / shell).write_text(capsys.readouterr().out)
    return tmp_path


def run(shell: str, code: str, folder: Path) -> list[str]:
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    plain = {"bash": "--norc", "fish": "--no-config", "zsh": "--no-rcs"}[shell]
    command = [shell, plain, "-c", code]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True, timeout=60)
    assert not done.stderr
    return done.stdout.split("\n")


def test_bash(script: Path) -> None:
    lines = ["source ./bash"]
    for words, _ in CASES:
        lines.append(f"COMP_WORDS=(atelier {' '.join(words)}); COMP_CWORD={len(words)}; _shtab_atelier")
        lines.append("echo ${COMPREPLY[@]}")
    answers = run("bash", "\n".join(lines), script)
    assert [words for (words, expected), answer in zip(CASES, answers, strict=False) if expected not in answer] == []


def test_fish(script: Path) -> None:
    lines = ["source ./fish"]
    for words, _ in CASES:
        # One line a case, with the words before the tabs; string join fails where there is nothing to join.
        lines.append(f"complete -C 'atelier {' '.join(words)}' | string split --fields 1 \\t | string join ' '")
    answers = run("fish", "\n".join([*lines, "true"]), script)
    wrong = [words for (words, expected), line in zip(CASES, answers, strict=False) if expected not in line.split()]
    assert wrong == []


def test_zsh(script: Path) -> None:
    """zsh completes only at a terminal: the script is read, and it defines the completion of the command."""
    (script / "functions").mkdir()
    (script / "zsh").rename(script / "functions" / "_atelier")
    code = "fpath=($PWD/functions $fpath); autoload -Uz compinit; compinit -D; print $_comps[atelier]"
    assert run("zsh", code, script)[0] == "_atelier"


def test_an_unknown_shell(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["completion", "cmd"]) == 2
    assert "bash" in capsys.readouterr().err
