"""Writes docs/reference/commands.md from the configuration and both command lines: `make reference`.

python scripts/command_reference.py           writes the page
python scripts/command_reference.py --check   exits with 1 when the committed page differs
"""

import argparse
import os
from collections.abc import Iterator

from annotated_types import Ge, Gt, Le
from pages import table, write_or_compare
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from atelier_client.cli._parser import parser as client_parser
from atelier_server.cli import _choices
from atelier_server.cli import _parser as server_parser
from atelier_server.config import ENVIRONMENT_PREFIX, ServerConfig

HEADER = """# Commands and settings

<!-- Written by `make reference` from server/atelier_server/config.py and the two command lines; change those. -->

## Settings of the server

Each is a flag of `atelier-server serve`, a variable, and a key of `atelier.toml`. Flags win over variables, variables
over the file, the file over defaults. Unknown keys and variables are refused.
"""
OTHER_VARIABLES = """## Other variables

| Variable | Read by | What it is |
| --- | --- | --- |
| `ATELIER_CONFIG` | server | the file of settings, in place of `atelier.toml` |
| `OPENAI_API_KEY`, `OPENAI_API_KEY_FILE` | server | the image service's key, or a file that holds it |
| `OPENAI_BASE_URL` | server | the image service's address |
| `OTEL_…` | server | [traces and pushed metrics](../12-observability.md#opentelemetrys-variables) |
| `HF_ENDPOINT` | `models fetch` | the model hub's address |
| `HF_HOME`, `HF_HUB_CACHE` | server | where the model hub's cache lies |
| `HF_HUB_OFFLINE`, `TRANSFORMERS_OFFLINE` | server | the model hub is never asked |
| `AWS_…`, `GOOGLE_APPLICATION_CREDENTIALS` | server | for [a repository in a bucket](../02-models.md#in-a-bucket) |
| `ATELIER_SERVER` | client | HOST:PORT of the server, in place of `--server` |
| `ATELIER_TOKEN` | client | the bearer token, in place of `--token-file` |
| `ATELIER_PLAINTEXT_TOKEN` | client | set: the token may go to another machine without TLS |
"""
BOUNDS = {Ge: ("ge", "at least"), Gt: ("gt", "more than"), Le: ("le", "at most")}


def default_of(setting: FieldInfo) -> str:
    """A setting's default as it would be written; empty where there is none."""
    value = setting.get_default()
    if value in (None, "", (), PydanticUndefined):
        return ""
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


def description_of(setting: FieldInfo) -> str:
    """What a setting is, with its bounds."""
    parts = [
        f"{word} {getattr(bound, name):g}"
        for bound in setting.metadata
        for kind, (name, word) in BOUNDS.items()
        if isinstance(bound, kind)
    ]
    choices = _choices(setting.annotation)
    if not all(choice in (setting.description or "") for choice in choices):
        parts.append(", ".join(choices))
    return f"{setting.description} ({'; '.join(parts)})" if parts else setting.description or ""


def settings() -> Iterator[str]:
    """The table of the server's settings."""
    rows = [
        (
            f"`--{name.replace('_', '-')}`",
            f"`{ENVIRONMENT_PREFIX}{name.upper()}`",
            f"`{name}`",
            default_of(setting),
            description_of(setting),
        )
        for name, setting in ServerConfig.model_fields.items()
    ]
    yield from table(("Flag", "Variable", "Key", "Default", "What it is"), rows)


def commands(parser: argparse.ArgumentParser, text: str = "") -> Iterator[tuple[argparse.ArgumentParser, str]]:
    """Every command that does something, with what it does."""
    below = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    if not below:
        yield parser, text
    for action in below:
        helps = {one.dest: one.help or "" for one in action._choices_actions}
        for name, child in action.choices.items():
            yield from commands(child, helps.get(name, ""))


def option_rows(parser: argparse.ArgumentParser, left_out: set[str]) -> Iterator[tuple[str, str]]:
    """The options and operands of a command, without those named in `left_out`."""
    for action in parser._actions:
        if isinstance(action, argparse._HelpAction) or set(action.option_strings) & left_out:
            continue
        if not action.option_strings and not action.help:
            continue
        value = f" {action.metavar}" if action.option_strings and action.metavar else ""
        if action.option_strings and not value and action.choices:
            value = " " + "|".join(map(str, action.choices))
        name = ", ".join(action.option_strings) or str(action.metavar or action.dest)
        given = {"default": action.default, "prog": parser.prog}
        yield f"`{name}{value}`", (action.help or "") % given


def operands(command: argparse.ArgumentParser) -> str:
    """What stands after a command's name, such as ID IMAGE…"""
    names = {None: "{}", "?": "[{}]", "*": "[{}…]", "+": "{}…"}
    found = [action for action in command._actions if not action.option_strings]
    return " ".join(["", *(names[action.nargs].format(action.metavar or action.dest.upper()) for action in found)])


def program(parser: argparse.ArgumentParser, shared: set[str]) -> Iterator[str]:
    """Every command of a program; options that all commands share are told once."""
    yield f"## {parser.prog}\n"
    if shared:
        first, _ = next(commands(parser))
        rows = [row for row in option_rows(first, set()) if row[0].strip("`").split()[0].rstrip(",") in shared]
        yield "All commands take:\n"
        yield from table(("Option", "What it is"), rows)
    for command, text in commands(parser):
        yield f"### {command.prog}{operands(command)}\n"
        yield text[:1].upper() + text[1:] + ".\n"
        if command.prog == "atelier-server serve":
            yield "Takes `--config FILE` and [the settings](#settings-of-the-server).\n"
        elif rows := list(option_rows(command, shared)):
            yield from table(("Option", "What it is"), rows)


def page() -> str:
    """The whole page."""
    os.environ["COLUMNS"] = "120"
    client = client_parser()
    shared = {name for action in client._actions for name in action.option_strings} - {"-h", "--help"}
    lines = [HEADER, *settings(), OTHER_VARIABLES, *program(server_parser(), set()), *program(client, shared)]
    return "\n".join(lines).rstrip() + "\n"


if __name__ == "__main__":
    write_or_compare("commands.md", page)
