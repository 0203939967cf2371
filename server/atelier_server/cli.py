"""The `atelier-server` command: serve, and look after the model repository on disk."""

import argparse
import os
import sys
import types
import typing
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, Literal

from atelier_server import __version__
from atelier_server.config import DEFAULT_MODEL_REPOSITORY, ServerConfig, load_config
from atelier_server.errors import AtelierError
from atelier_server.repository.commands import check_models, fetch_model, list_models
from atelier_server.repository.remote import open_repository
from atelier_server.repository.repository import Repository
from atelier_server.security.commands import add_token_arguments, new_token_command
from atelier_server.telemetry.logging import configure_logging

USAGE_ERROR = 2


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command.

    Returns:
        The exit code: 0 done, 2 wrong usage or configuration, 1 anything else.
    """
    options = vars(_parser().parse_args(arguments))
    run = options.pop("run")
    try:
        return int(run(options))
    except AtelierError as error:
        print(f"atelier-server: {error.message}", file=sys.stderr)
        return USAGE_ERROR
    except KeyboardInterrupt:
        return 130


def _serve(options: dict[str, Any]) -> int:
    config_file = options.pop("config")
    config = load_config(options, config_file)
    configure_logging(config.log_format, config.log_level)
    os.environ.setdefault("GRPC_VERBOSITY", "ERROR")  # read at import; its own lines would break the log's form
    app = import_module("atelier_server.frontend.app")  # late: gRPC costs time that `models list` need not spend
    return int(app.serve(config))


def _health(options: dict[str, Any]) -> int:
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # the one line that is printed says it all
    # Whether that address is a safe one to listen on is serve's matter.
    listen = options["server"] or load_config({"insecure": True}, options["config"]).listen
    module = import_module("atelier_server.frontend.probe")
    transport = module.Transport(**{name: options[name] for name in ("ca", "server_name", "cert", "key")})
    return int(module.probe(listen, options["service"], options["timeout"], transport))


def _list(options: dict[str, Any]) -> int:
    return list_models(_repository(options), as_json=options["json"])


def _check(options: dict[str, Any]) -> int:
    return check_models(_repository(options), as_json=options["json"])


def _fetch(options: dict[str, Any]) -> int:
    return fetch_model(_repository(options), options["name"], again=options["again"])


def _repository(options: dict[str, Any]) -> Repository:
    """The one that `serve` would use, found the same way."""
    flags = {"model_repository": options["model_repository"]} if "model_repository" in options else {}
    config = load_config(flags, options["config"])
    return open_repository(config.model_repository, config.repository_cache)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="atelier-server", description="Makes, scores and brand-checks pictures.")
    parser.add_argument("--version", action="version", version=f"atelier-server {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)

    serve = commands.add_parser(
        "serve", help="start the server", description="Starts the server; stdout gets one line READY when it is."
    )
    serve.set_defaults(run=_serve)
    _add_config_file(serve)
    for name, field in ServerConfig.model_fields.items():
        _add_flag(serve, name, field.annotation, field.description or "", field.get_default())

    _add_health(commands.add_parser("health", help="ask a running server for its health, as container checks do"))
    models = commands.add_parser("models", help="look after the model repository on disk")
    actions = models.add_subparsers(metavar="ACTION", required=True)
    for name, run, text in (
        ("list", _list, "what the repository holds, and what each model lacks"),
        ("check", _check, "check every config.pbtxt and version folder; exit code 1 when something is wrong"),
        ("fetch", _fetch, "download the weights of a model"),
    ):
        action = actions.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
        action.set_defaults(run=run)
        _add_config_file(action)
        action.add_argument(
            "--model-repository",
            metavar="DIR|URL",
            default=argparse.SUPPRESS,
            help=f"default: {DEFAULT_MODEL_REPOSITORY}",
        )
        if name == "fetch":
            action.add_argument("name", metavar="NAME", help="a model that `models list` shows")
            action.add_argument("--again", action="store_true", help="replace what is there, such as a damaged file")
        else:
            action.add_argument("--json", action="store_true", help="print JSON")
    tokens = commands.add_parser("tokens", help="make tokens for callers").add_subparsers(
        metavar="ACTION", required=True
    )
    new = tokens.add_parser(
        "new", help="make a token", description="Prints a fresh token, the only time that it is seen."
    )
    new.set_defaults(run=new_token_command)
    add_token_arguments(new)
    return parser


def _add_health(parser: argparse.ArgumentParser) -> None:
    parser.description = "Prints the health of a running server; exit code 0 when it is SERVING, 1 otherwise."
    parser.set_defaults(run=_health)
    _add_config_file(parser)
    parser.add_argument("--server", metavar="HOST:PORT", default="", help="default: where `serve` would listen")
    parser.add_argument("--service", metavar="NAME", default="", help='a gRPC service or model/NAME; default: all ("")')
    parser.add_argument("--timeout", metavar="SECONDS", type=float, default=3.0, help="for the answer (default: 3)")
    parser.add_argument("--ca", metavar="FILE", type=Path, help="PEM file of who signed the server's certificate: TLS")
    parser.add_argument("--server-name", metavar="NAME", default="", help="the name in the server's certificate")
    parser.add_argument("--cert", metavar="FILE", type=Path, help="PEM file of the client's own certificate")
    parser.add_argument("--key", metavar="FILE", type=Path, help="PEM file of its key")


def _add_config_file(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--config", type=Path, metavar="FILE", help="TOML file of settings; default: atelier.toml where there is one"
    )


def _add_flag(parser: argparse.ArgumentParser, name: str, annotation: Any, description: str, default: Any) -> None:
    """Makes a field of ServerConfig a flag. Values stay text: the configuration checks every source alike."""
    keywords: dict[str, Any] = {"default": argparse.SUPPRESS, "help": _help(description, default)}
    choices = _choices(annotation)
    if annotation is bool:
        keywords["action"] = "store_true"
    elif typing.get_origin(annotation) is tuple:
        keywords |= {"action": "append", "metavar": "NAME"}
    elif choices:
        keywords["choices"] = choices
    else:
        keywords["metavar"] = _metavar(name, annotation)
    parser.add_argument("--" + name.replace("_", "-"), dest=name, **keywords)


def _help(description: str, default: Any) -> str:
    text = description.replace("%", "%%")
    return text if default in (None, "", (), False) or "Default:" in text else f"{text} (default: {default})"


def _choices(annotation: Any) -> tuple[str, ...]:
    if typing.get_origin(annotation) is Literal:
        return typing.get_args(annotation)
    if isinstance(annotation, types.UnionType) or typing.get_origin(annotation) is typing.Union:
        return next((_choices(one) for one in typing.get_args(annotation) if _choices(one)), ())
    return ()


def _metavar(name: str, annotation: Any) -> str:
    if annotation == Path | str:
        return "DIR|URL"
    if name.endswith("_seconds"):
        return "SECONDS"
    if name.endswith("listen"):
        return "HOST:PORT"
    if name.endswith("_url"):
        return "URL"
    return "N" if annotation is int else "DIR" if annotation is Path else "FILE" if annotation is not str else "TEXT"
