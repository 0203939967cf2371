"""`atelier completion SHELL`: what a shell needs to complete commands, options and their words."""

import argparse
from collections.abc import Iterator
from typing import Any

from atelier_client._errors import FailedPrecondition
from atelier_client.cli._output import Answer
from atelier_client.cli._parser import parser

_FILES = {"F", "FILE", "IMAGE", "PATH"}
_FOLDERS = {"DIR", "FOLDER"}


def completion(options: argparse.Namespace) -> Answer:
    """The script of a shell, made from the parser itself."""
    try:
        import shtab
    except ModuleNotFoundError as error:
        raise FailedPrecondition("Completion needs shtab: pip install 'atelier-client[cli]'.") from error
    whole = parser()
    for action in _actions(whole):
        if action.metavar in _FILES | _FOLDERS and action.type is None:  # F is also a number's name
            action.complete = shtab.DIRECTORY if action.metavar in _FOLDERS else shtab.FILE
    script = shtab.complete(whole, shell=options.shell)
    return Answer({"shell": options.shell, "script": script}, script)


def _actions(part: argparse.ArgumentParser) -> Iterator[Any]:
    for action in part._actions:
        yield action
        if isinstance(action, argparse._SubParsersAction):
            for command in action.choices.values():
                yield from _actions(command)
