"""Runs the steps of a Dockerfile without a container engine: in an empty folder that stands for the image's root.

All stages share that folder, so copying between them is only right where source and target are the same path, which is
checked. What needs another root is not run: apt-get and the accounts it needs. Paths of the image that a command or a
variable names are put below the folder.
"""

import fnmatch
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

NEEDS_ANOTHER_ROOT = ("apt-get", "groupadd", "useradd")
KEPT_VARIABLES = ("PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "PIP_CONFIG_FILE", "PIP_FIND_LINKS", "SSL_CERT_FILE")
"""What a build would be given as arguments on a machine with package sources of its own."""


@dataclass(frozen=True)
class Instruction:
    """One instruction, its continued lines joined."""

    name: str
    text: str


@dataclass(frozen=True)
class Stage:
    """From one FROM to the next; `parent` is a stage's name or an image."""

    name: str
    parent: str
    instructions: tuple[Instruction, ...]


def read_stages(dockerfile: Path) -> dict[str, Stage]:
    """The stages of a Dockerfile, by name."""
    lines = [line for line in dockerfile.read_text().splitlines() if not line.lstrip().startswith("#")]
    text = re.sub(r"\\\n\s*", " ", "\n".join(lines))
    stages: dict[str, Stage] = {}
    for part in re.split(r"^FROM ", text, flags=re.M)[1:]:
        head, _, body = part.partition("\n")
        parent, _, name = head.partition(" AS ")
        instructions = tuple(
            Instruction(line.split(" ", 1)[0], line.split(" ", 1)[1].strip())
            for line in body.splitlines()
            if line.strip()
        )
        stages[name.strip()] = Stage(name.strip(), parent.strip(), instructions)
    return stages


def instructions_of(stages: Mapping[str, Stage], target: str) -> Iterator[Instruction]:
    """Everything that makes up a target, its parents' first."""
    stage = stages[target]
    if stage.parent in stages:
        yield from instructions_of(stages, stage.parent)
    yield from stage.instructions


class Image:
    """What is being built.

    Args:
        context: The folder that COPY reads.
        root: An empty folder.
    """

    def __init__(self, context: Path, root: Path) -> None:
        self.stages = read_stages(context / "Dockerfile")
        self.environment: dict[str, str] = {}
        self.skipped: list[str] = []
        self.ran: list[str] = []
        self.exec: dict[str, list[str]] = {}
        self.user = ""
        self._context = context
        self._root = root
        self._folder = root
        self._ignored = (context / ".dockerignore").read_text().split()
        self._built: set[str] = set()

    def build(self, target: str) -> None:
        """Runs every step of a target, and of the stages it copies from."""
        stage = self.stages[target]
        if target in self._built:
            return
        self._built.add(target)
        for instruction in stage.instructions:
            source = re.match(r"--from=(\S+)", instruction.text)
            if source:
                outer = self.environment, self._folder
                self.environment, self._folder = {}, self._root
                self.build(source[1])
                self.environment, self._folder = outer
        if stage.parent in self.stages:
            self.build(stage.parent)
        for instruction in stage.instructions:
            self._do(instruction)

    def command(self, *arguments: str) -> list[str]:
        """ENTRYPOINT with CMD or arguments in its place; without tini where this machine has none."""
        entry = self.exec["ENTRYPOINT"]
        if entry[0] == "tini" and shutil.which("tini") is None:
            entry = entry[entry.index("--") + 1 :]
        return [*entry, *(arguments or self.exec["CMD"])]

    def start(self, command: list[str], **given: str) -> "subprocess.Popen[str]":
        """Starts a command in the image's environment and working folder."""
        environment = self._variables() | given
        program = shutil.which(command[0], path=environment["PATH"])
        assert program is not None, f"{command[0]} is not on the image's PATH"
        return subprocess.Popen(
            [program, *command[1:]],
            env=environment,
            cwd=self._folder,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )

    def _do(self, instruction: Instruction) -> None:
        text = instruction.text
        match instruction.name:
            case "ENV":
                for name, value in (pair.split("=", 1) for pair in shlex.split(text)):
                    self.environment[name] = value
            case "ARG":
                name, _, value = text.partition("=")
                self.environment[name] = value.strip('"')
            case "WORKDIR":
                self._folder = self._inside(text)
                self._folder.mkdir(parents=True, exist_ok=True)
            case "COPY":
                self._copy(shlex.split(text))
            case "RUN":
                self._run(text)
            case "USER":
                self.user = text
            case "ENTRYPOINT" | "CMD":
                self.exec[instruction.name] = json.loads(text)
            case "HEALTHCHECK":
                self.exec["HEALTHCHECK"] = json.loads(text.partition(" CMD ")[2])
            case "EXPOSE" | "STOPSIGNAL":
                return
            case _:
                raise AssertionError(f"{instruction.name} is not understood here")

    def _copy(self, words: list[str]) -> None:
        flags = [word for word in words if word.startswith("--")]
        *sources, target = [word for word in words if not word.startswith("--")]
        if any(flag.startswith("--from=") for flag in flags):
            assert sources == [target], "the stages share one folder"
            return
        for source in sources:
            place = self._inside(target)
            if len(sources) > 1 or target.endswith("/"):
                place = place / Path(source).name
            place.parent.mkdir(parents=True, exist_ok=True)
            if (self._context / source).is_dir():
                shutil.copytree(self._context / source, place, ignore=self._leave_out, dirs_exist_ok=True)
            else:
                shutil.copy2(self._context / source, place)

    def _leave_out(self, folder: str, names: list[str]) -> set[str]:
        inside = Path(folder).relative_to(self._context)
        return {name for name in names if self.ignores(inside / name)}

    def ignores(self, path: Path) -> bool:
        """Whether .dockerignore keeps a path of the context out."""
        for pattern in self._ignored:
            anywhere = pattern.removeprefix("**/")
            if fnmatch.fnmatch(path.name if anywhere != pattern else str(path), anywhere):
                return True
        return False

    def _run(self, text: str) -> None:
        kept = [
            part for part in text.split(" && ") if not re.match(rf"(?:{'|'.join(NEEDS_ANOTHER_ROOT)})\b", part.strip())
        ]
        self.skipped += [part for part in text.split(" && ") if part not in kept]
        kept = [part for part in kept if "/var/lib/apt" not in part]
        if not kept:
            return
        command = self._below(" && ".join(kept))
        self.ran.append(command)
        done = subprocess.run(
            ["/bin/sh", "-ec", command],
            env=self._variables(),
            cwd=self._folder,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{command}\n{done.stdout[-2000:]}{done.stderr[-4000:]}"

    def _variables(self) -> dict[str, str]:
        kept = {name: os.environ[name] for name in KEPT_VARIABLES if name in os.environ}
        path = os.pathsep.join([str(self._python()), "/usr/local/bin", "/usr/bin", "/bin"])
        variables = {"HOME": str(self._root / "home"), "PATH": path} | kept
        for name, value in self.environment.items():
            variables[name] = self._below(value).replace("$PATH", path)
        return variables

    def _python(self) -> Path:
        """A folder with nothing but `python`, as the base image has it on its PATH."""
        folder = self._root / "base"
        folder.mkdir(exist_ok=True)
        link = folder / "python"
        if not link.exists():
            link.symlink_to(Path(sys.base_prefix) / "bin" / f"python3.{sys.version_info.minor}")
        return folder

    def _inside(self, path: str) -> Path:
        return self._root / path.lstrip("/") if path.startswith("/") else self._folder / path

    def _below(self, text: str) -> str:
        return re.sub(r"(?<![\w./-])/(?=(?:opt/atelier|models|src|var/lib/atelier)\b)", f"{self._root}/", text)
