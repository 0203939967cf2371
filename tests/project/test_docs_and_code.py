"""What the pages list – reasons, events, variables, keys, parameters, ranges – is what the code has."""

import ast
import inspect
import re
import tomllib
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

import pytest

from atelier.v1 import image_generation_pb2
from atelier_client.cli import _BY_CODE
from atelier_server import errors
from atelier_server.backends.openai import parameters as openai_parameters
from atelier_server.backends.sdxl import parameters as sdxl_parameters
from atelier_server.backends.sdxl.scheduler import CROWD, StepScheduler
from atelier_server.config import ServerConfig
from atelier_server.executor.limits import Limits
from atelier_server.frontend.error_table import _CODES
from atelier_server.pipeline import validate
from atelier_server.telemetry.window import SLO_MS
from tests.documents import PAGES, ROOT, blocks

DOCS = ROOT / "docs"
SERVER = ROOT / "server" / "atelier_server"
ERRORS_PAGE = (DOCS / "reference" / "errors.md").read_text()
COMMANDS_PAGE = (DOCS / "reference" / "commands.md").read_text()
CONSTANT = re.compile(r"[A-Z][A-Z0-9]*(_[A-Z0-9]+)*")


def trees() -> Iterator[ast.Module]:
    """The server's modules."""
    for path in SERVER.rglob("*.py"):
        if "_generated" not in path.parts:
            yield ast.parse(path.read_text())


def constants(node: ast.AST, names: dict[str, ast.expr]) -> set[str]:
    """Constant texts in upper case in an expression, and in the expressions that its names stand for."""
    found = {one.value for one in ast.walk(node) if isinstance(one, ast.Constant) and isinstance(one.value, str)}
    for one in ast.walk(node):
        if isinstance(one, ast.Name) and one.id in names:
            found |= constants(names[one.id], {})
    return {text for text in found if CONSTANT.fullmatch(text)}


def reasons() -> set[str]:
    """Every reason that an error can carry: of classes, of calls with `reason=`, and of helpers that take a reason."""
    found = {kind.reason for kind in vars(errors).values() if isinstance(kind, type) and hasattr(kind, "reason")}
    shared: dict[str, ast.expr] = {}  # constants that other modules import
    modules = list(trees())
    for module in modules:
        shared |= {
            target.id: node.value
            for node in module.body
            if isinstance(node, ast.Assign)
            for target in node.targets
            if isinstance(target, ast.Name) and isinstance(node.value, ast.Constant)
        }
    for module in modules:
        local = {
            target.id: node.value
            for node in ast.walk(module)
            if isinstance(node, ast.Assign)
            for target in node.targets
            if isinstance(target, ast.Name)
        }
        places = {
            node.name: [argument.arg for argument in node.args.args].index("reason")
            for node in ast.walk(module)
            if isinstance(node, ast.FunctionDef) and "reason" in [argument.arg for argument in node.args.args]
        }
        for node in ast.walk(module):
            if not isinstance(node, ast.Call):
                continue
            for keyword in node.keywords:
                if keyword.arg == "reason":
                    found |= constants(keyword.value, shared | local)
            place = places.get(node.func.id if isinstance(node.func, ast.Name) else "", len(node.args))
            if place < len(node.args):
                found |= constants(node.args[place], shared | local)
    return found


def test_the_page_of_errors_lists_every_reason_and_no_other() -> None:
    rows = re.findall(r"^\| ([A-Z_]+) \| ([A-Z_]+) \| \S.* \|$", ERRORS_PAGE, flags=re.MULTILINE)
    listed = [reason for reason, _ in rows]
    assert len(listed) == len(set(listed))
    assert set(listed) == reasons()
    codes = {code.name for code in _CODES.values()}
    assert {code for _, code in rows} <= codes
    assert set(re.findall(r"^\| ([A-Z_]+) \| [^|]+ \|[^|]*\| [^|]+ \|$", ERRORS_PAGE, flags=re.MULTILINE)) == codes


def test_the_page_of_calls_lists_every_event_and_no_other() -> None:
    page = (DOCS / "01-calling.md").read_text()
    events = image_generation_pb2.GenerateResponse.DESCRIPTOR.oneofs_by_name["event"].fields
    table = page.split("| Event | When | Holds |")[1].split("\n\n")[0]
    assert re.findall(r"^\| (\w+) \|", table, flags=re.MULTILINE) == [one.message_type.name for one in events]


def test_variables_that_are_read_are_documented() -> None:
    sources = [*SERVER.rglob("*.py"), *(ROOT / "clients/python/atelier_client").rglob("*.py")]
    read = set()
    for path in sources:
        text = path.read_text()
        read |= set(re.findall(r'environ(?:ment)?(?:\.get\(|\[)"([A-Z_]+)"', text))
        read |= set(re.findall(r'^[A-Z_]*VARIABLE[A-Z_, ]* = (".*")$', text, flags=re.MULTILINE))
    names = {name for found in read for name in re.findall(r"[A-Z][A-Z_]+", found)}
    private = {"ATELIER_RUNNER_SPEC"}
    pages = "".join((DOCS / page).read_text() for page in ("02-models.md", "11-clients.md", "12-observability.md"))
    of_terminals = {"TERM", "TERM_PROGRAM", "COLORTERM", "LC_TERMINAL"}
    missing = {name for name in names - private - of_terminals if name not in COMMANDS_PAGE + pages}
    assert missing <= {"OTEL_SPAN_EVENT_COUNT_LIMIT"}


def test_variables_of_the_pages_are_read() -> None:
    known = {f"ATELIER_{name.upper()}" for name in ServerConfig.model_fields}
    known |= set(re.findall(r"`(ATELIER_[A-Z_]+)`", COMMANDS_PAGE))
    of_others = {"ATELIER_TARGET"}  # of the compose file
    named = {(page.name, name) for page in PAGES for name in re.findall(r"\bATELIER_[A-Z_]+[A-Z]\b", page.read_text())}
    assert {(page, name) for page, name in named if name not in known | of_others} == set()


def test_keys_of_examples_are_settings() -> None:
    examples = [block for block in blocks(DOCS / "05-operating.md") if block.language == "toml"]
    assert examples
    for block in examples:
        assert tomllib.loads(block.text).keys() <= ServerConfig.model_fields.keys()


@pytest.mark.parametrize(
    ("page", "heading", "kind"),
    [
        ("02-models.md", "## Parameters of an sdxl model", sdxl_parameters.Parameters),
        ("07-judgement.md", "## OpenAI", openai_parameters.Parameters),
    ],
)
def test_a_models_parameters_are_all_listed(page: str, heading: str, kind: type) -> None:
    section = (DOCS / page).read_text().split(heading)[1].split("\n## ")[0]
    cells = re.findall(r"^\| (`[^|]*`) \|", section, flags=re.MULTILINE)
    listed = {name for cell in cells for name in re.findall(r"`(\w+)`", cell)}
    assert listed == {field.name for field in fields(kind)}


def test_the_contract_gives_the_ranges_that_are_checked() -> None:
    text = (ROOT / "protos" / "atelier" / "v1" / "image_generation.proto").read_text()
    source = Path(validate.__file__ or "").read_text()
    ranges = re.findall(r'\("([a-z_.]+)", request\.[a-z_.]+, ([\d.]+), ([\d.]+)\)', source)
    assert len(ranges) > 5
    for field, low, high in ranges:
        name = field.rpartition(".")[2]
        comment = re.search(rf"((?:  //[^\n]*\n)+)  (?:optional )?\w+ {name} = \d+;", text)
        assert comment is not None, field
        assert f"{low} to {high}" in " ".join(comment[1].split()), f"{field}: {low} to {high}"
    for number in (f"{validate.MAX_PROMPT_CHARS:,}", f"from {validate.MIN_SIDE} to {validate.MAX_SIDE}", "1 to 150"):
        assert number in text


def test_the_pages_give_the_numbers_of_the_code() -> None:
    limits = Limits()
    runners = " ".join((DOCS / "03-runners.md").read_text().split())
    for words in (
        f"asks every {limits.heartbeat_seconds:g} s",
        f"silent for {limits.silence_seconds:g} s",
        f"{limits.stall_factor:g} times as long as its longest step",
        f"no less than {limits.least_stall_seconds:g} s",
        f"a step may take {limits.stall_seconds / 60:g} minutes",
        f"started again** after {limits.first_backoff_seconds:g} s",
        f"up to {limits.longest_backoff_seconds:g} s",
    ):
        assert words in runners
    assert limits.most_quick_crashes == 5
    assert "five in a row" in runners
    waiting = inspect.signature(StepScheduler).parameters["max_waiting"].default
    admission = " ".join((DOCS / "05-operating.md").read_text().split("## Admission")[1].split("\n## ")[0].split())
    assert f"`max_waiting` jobs of a client wait at a model, {waiting} unless" in admission
    assert f"the {SLO_MS / 1000:g} s objective" in admission
    assert CROWD == 4
    assert "four times as many together" in (DOCS / "02-models.md").read_text()


def test_settings_that_a_page_gives_with_their_default_have_it() -> None:
    found = 0
    for page in DOCS.glob("*.md"):
        for name, number in re.findall(r"`([a-z_]+)`,? \(?([\d,]+)\b", page.read_text()):
            field = ServerConfig.model_fields.get(name)
            if field is not None and isinstance(field.default, int | float):
                assert float(number.replace(",", "")) == field.default, f"{page.name}: {name}"
                found += 1
    assert found > 2


def test_the_page_of_errors_gives_the_exit_codes_of_the_command() -> None:
    rows = dict(re.findall(r"^\| (\d) \| (.+) \|$", ERRORS_PAGE, flags=re.MULTILINE))
    for status, code in _BY_CODE.items():
        assert status in rows[str(code)]
    assert set(rows) == {"0", "1", "4", *map(str, _BY_CODE.values())}
