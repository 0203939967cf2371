"""Every command of the documentation is run by a test, or says why not and at least is one that there is."""

import argparse
import json
import re
import shlex
import tomllib
from collections.abc import Iterator

import pytest
import yaml
from google.protobuf import text_format

from atelier_client.cli._parser import parser as client_parser
from atelier_server._generated.atelier.kserve import model_config_pb2
from atelier_server.cli import _parser as server_parser
from tests.documents import PAGES, ROOT, Block, blocks, lines, prose

BLOCKS = blocks(*PAGES)
PROGRAMS = ("sh", "python", "js", "go", "java", "cpp", "rust")
DATA = {"toml": tomllib.loads, "json": json.loads, "yaml": yaml.safe_load}
OTHERS_PROGRAMS = frozenset(
    """
    apt base64 buf cd cp curl docker done do echo export git grpcurl jq kill kubectl mkdir node npm openssl pip
    perf_analyzer printf ps read while cargo cmake g++ go java javac mvn protoc
    """.split()  # noqa: SIM905 - a list of strings would be one name a line
)
PARSERS = {"atelier": client_parser(), "atelier-server": server_parser()}
MAKEFILE = (ROOT / "Makefile").read_text()
TARGETS = set(re.findall(r"^([a-z][a-z-]*):", MAKEFILE, flags=re.MULTILINE))


@pytest.mark.parametrize("block", BLOCKS, ids=str)
def test_a_block_says_what_it_is_and_how_it_is_tried(block: Block) -> None:
    assert block.language, f"{block}: say its language behind the backticks, or text"
    if block.language not in PROGRAMS:
        assert block.language in {"text", "pbtxt", *DATA}, f"{block}: {block.language} is not known"
        return
    reason = re.fullmatch(r"not-run: (\S.{5,})", block.mark)
    assert block.test or reason, f"{block}: say `run: TESTFILE` or `not-run: WHY` behind {block.language}"
    if block.test:
        test = ROOT / block.test
        assert test.is_file(), f"{block}: there is no {block.test}"
        assert block.page.name in test.read_text(), f"{block}: {block.test} does not read this page"


@pytest.mark.parametrize("block", [block for block in BLOCKS if block.language in {*DATA, "pbtxt"}], ids=str)
def test_data_can_be_read(block: Block) -> None:
    if block.language == "pbtxt":
        text_format.Parse(block.text, model_config_pb2.ModelConfig())
    else:
        assert DATA[block.language](block.text)


def simple_commands(line: str) -> Iterator[list[str]]:
    """The commands of a shell line, without what they are piped into, redirections and settings of variables."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
    lexer.whitespace_split, lexer.commenters = True, ""
    command: list[str] = []
    for word in [*lexer, ";"]:
        if set(word) <= set("|&;()"):
            while command and re.fullmatch(r"[A-Z_]+=.*", command[0]):
                command = command[1:]
            if command:
                yield command
            command = []
        else:
            command.append(word)


def problem(command: list[str]) -> str:
    """What is wrong with a command; empty when it could be run."""
    stops = [at for at, word in enumerate(command) if set(word) <= set("<>")]
    name, arguments = command[0].rsplit("/", 1)[-1], command[1 : stops[0] if stops else None]
    if name in PARSERS:
        try:
            PARSERS[name].parse_args(arguments)
        except (SystemExit, Exception) as error:
            return f"{name} does not take {arguments}: {error}"
    elif name == "make":
        return make_problem(arguments)
    elif name == "python":
        return script_problem(arguments)
    elif not (name in OTHERS_PROGRAMS or command[0].startswith("/tmp/") or (ROOT / command[0]).is_file()):
        return f"{command[0]} is no program that this test knows"
    return ""


def make_problem(arguments: list[str]) -> str:
    """A target that the Makefile does not have, or a variable that it does not read."""
    for argument in arguments:
        variable, equals, _ = argument.partition("=")
        if equals and f"$({variable}" not in MAKEFILE and not re.search(rf"\b{variable}\b", scripts_of_make()):
            return f"the Makefile does not read {variable}"
        if not equals and argument not in TARGETS:
            return f"the Makefile has no target {argument}"
    return ""


def scripts_of_make() -> str:
    """The sources of the scripts that make runs, which read some of its variables."""
    return "".join(path.read_text() for path in (ROOT / "scripts").iterdir() if path.is_file())


def script_problem(arguments: list[str]) -> str:
    """A script of the repository that is not there, or does not know an option."""
    if arguments[:1] == ["-m"]:
        return ""
    script = ROOT / arguments[0] if arguments else ROOT
    if not script.is_file():
        return f"there is no {arguments}"
    source = script.read_text()
    unknown = [word for word in arguments[1:] if word.startswith("--") and f'"{word.split("=")[0]}"' not in source]
    return f"{script.name} does not take {unknown}" if unknown else ""


@pytest.mark.parametrize("block", [block for block in BLOCKS if block.language == "sh"], ids=str)
def test_commands_are_such_as_there_are(block: Block) -> None:
    problems = [problem(command) for line in lines(block) for command in simple_commands(line)]
    assert [one for one in problems if one] == []


def options(words: list[str]) -> tuple[argparse.ArgumentParser, list[str]]:
    """The parser of the command that `words` name, and the words behind its name."""
    parser, rest = PARSERS[words[0]], words[1:]
    while rest:
        below = next((one for one in parser._actions if isinstance(one, argparse._SubParsersAction)), None)
        if below is None or rest[0] not in below.choices:
            break
        parser, rest = below.choices[rest[0]], rest[1:]
    return parser, rest


def inline(program: str) -> list[tuple[str, list[str]]]:
    """Commands that stand in a sentence, with their page."""
    found = []
    for page in PAGES:
        for text in re.findall(rf"`({program} [^`]*)`", prose(page)):
            found.append((page.name, text.replace("[", " ").replace("]", " ").replace("|", " ").split()))
    assert found
    return found


def test_commands_in_sentences_have_the_options_that_they_name() -> None:
    wrong = []
    for program in PARSERS:
        for page, words in inline(program):
            parser, rest = options(words)
            known = {name for action in parser._actions for name in action.option_strings}
            unknown = [word for word in rest if word.startswith("--") and word.split("=")[0] not in known]
            below = any(isinstance(action, argparse._SubParsersAction) for action in parser._actions)
            if unknown or (below and rest and re.match(r"[a-z]", rest[0])):
                wrong.append((page, words, unknown))
    assert wrong == []


def test_make_commands_in_sentences_are_targets() -> None:
    wrong = []
    for page, words in inline("make"):
        for word in words[1:]:
            if re.fullmatch(r"[a-z][a-z-]*", word) and word not in TARGETS:
                wrong.append((page, word))
    assert wrong == []


def test_flags_in_sentences_are_flags_of_something() -> None:
    sources = "".join(
        path.read_text() for folder in ("scripts", "benchmarks", "training") for path in (ROOT / folder).rglob("*.py")
    )
    known = set(re.findall(r'"(--[a-z][a-z-]*)"', sources))
    waiting = list(PARSERS.values())
    for parser in waiting:
        for action in parser._actions:
            known |= set(action.option_strings)
            if isinstance(action, argparse._SubParsersAction):
                waiting += action.choices.values()
    named = {(page.name, flag) for page in PAGES for flag in re.findall(r"`(--[a-z][a-z-]*)[ `=]", prose(page))}
    of_others = {"--measurement-mode", "--streaming", "--shared-memory", "--input-data", "--extra-index-url"}
    assert {(page, flag) for page, flag in named if flag not in known | of_others} == set()
