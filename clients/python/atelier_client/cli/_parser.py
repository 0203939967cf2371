"""Commands and flags. The destinations of generate's flags are GenerateRequest's field names."""

import argparse
import copy
import re
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NoReturn, get_args

from atelier_client import _fields
from atelier_client._errors import InvalidArgument
from atelier_client.cli._terminal import Protocol

_MODELS = {"auto": "auto", "sdxl": "stable_diffusion_xl", "dalle3": "dall_e_3"}


def parse(words: Sequence[str]) -> argparse.Namespace:
    """The options of a command line; --help prints and leaves.

    Raises:
        InvalidArgument: Bad usage; `field` names the option.
    """
    options = parser().parse_args(words)
    if options.command == "generate":
        _check_generate(options)
    return options


def row_columns() -> Mapping[str, str]:
    """The columns that a file of prompts may have beside the prompt, and the flag that each stands for."""
    flags: dict[str, str] = {}
    for action in _row_parser()._actions:
        flag = action.option_strings[-1]
        names = {_word(string.lstrip("-")) for string in action.option_strings} | {action.dest}
        flags |= dict.fromkeys(names - {"brand_consistency_check"}, flag)
    return flags


def parse_row(words: Sequence[str], defaults: argparse.Namespace) -> argparse.Namespace:
    """The options of one row of a file of prompts, laid over those of the command line.

    Raises:
        InvalidArgument: Bad usage; `field` names the option.
    """
    return _row_parser().parse_args(words, copy.deepcopy(defaults))


def _check_generate(options: argparse.Namespace) -> None:
    """What argparse cannot say: PROMPT or --from, and what only goes with --from."""
    if options.prompt is None and options.source is None:
        raise InvalidArgument(
            "Give a PROMPT, or a file of prompts with --from; see `atelier generate --help`", field="prompt"
        )
    if options.prompt is not None and options.source is not None:
        raise InvalidArgument("Give a PROMPT or --from, not both.", field="prompt")
    if options.source is None and options.sheet:
        raise InvalidArgument("--sheet goes with --from.", field="sheet")
    if options.source is not None and options.output is None:
        raise InvalidArgument("Name the folder of the pictures with -o FOLDER.", field="output")
    if options.source is not None and (options.request_id or options.previews):
        name = "request_id" if options.request_id else "previews"
        raise InvalidArgument(f"--{name.replace('_', '-')} names one call; with --from there are several.", field=name)


class _Parser(argparse.ArgumentParser):
    """An argument parser that raises, and that takes flags also between the words of a list."""

    _mixing = False

    def __init__(self, **settings: Any) -> None:
        super().__init__(allow_abbrev=False, **settings)

    def error(self, message: str) -> NoReturn:
        match = re.match(r"(?:argument|.*arguments are required:) ([\w-]+)", message)
        word = match[1] if match else ""
        action = self._option_string_actions.get(word)
        field = action.dest if action else word.lower()
        raise InvalidArgument(f"{message}; see `{self.prog} --help`", field=field)

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        if self._mixing or self._subparsers is not None:
            return super().parse_known_args(args, namespace)
        self._mixing = True
        try:
            return self.parse_known_intermixed_args(args, namespace)
        finally:
            self._mixing = False


def _word(text: str) -> str:
    return text.lower().replace("-", "_")


def _size(text: str) -> tuple[int, int]:
    match = re.fullmatch(r"(\d{1,6})[xX](\d{1,6})", text)
    if match is None:
        raise argparse.ArgumentTypeError(f"{text!r} is not WIDTHxHEIGHT, such as 1024x768")
    return int(match[1]), int(match[2])


def _interval(text: str) -> dict[str, float]:
    match = re.fullmatch(r"(\d*\.?\d+)-(\d*\.?\d+)", text)
    if match is None:
        raise argparse.ArgumentTypeError(f"{text!r} is not START-END, such as 0.1-0.8")
    return {"start": float(match[1]), "end": float(match[2])}


def _pair(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise argparse.ArgumentTypeError(f"{text!r} is not KEY=VALUE")
    return key, value


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0.0 < seconds < 1e9:
        raise argparse.ArgumentTypeError(f"{text!r} is not a time in seconds above 0")
    return seconds


def _jobs(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= 64:
        raise argparse.ArgumentTypeError(f"{text!r} is no number from 1 to 64")
    return int(text)


class _Model(argparse.Action):
    """auto, sdxl and dalle3 are kinds; anything else is a name of the repository."""

    def __call__(self, parser: Any, namespace: argparse.Namespace, values: Any, option: Any = None) -> None:
        # Both are set, so that a row's name also overrides the command line's kind.
        namespace.model = _MODELS.get(_word(values))
        namespace.model_name = None if namespace.model else values


def _common() -> _Parser:
    # Defaults are suppressed, so that the flags may stand before or after the command.
    common = _Parser(add_help=False, argument_default=argparse.SUPPRESS)
    group = common.add_argument_group("server")
    group.add_argument("--server", metavar="HOST:PORT", help="default: $ATELIER_SERVER or 127.0.0.1:8001")
    group.add_argument("--token-file", metavar="F", help="file with the bearer token; default: $ATELIER_TOKEN")
    group.add_argument("--ca", metavar="F", help="certificates to trust (PEM); implies TLS")
    group.add_argument("--cert", metavar="F", help="this client's certificate (PEM), with --key")
    group.add_argument("--key", metavar="F", help="its key (PEM)")
    group.add_argument("--tls", action="store_true", help="speak TLS with publicly trusted certificates")
    group.add_argument("--timeout", metavar="S", type=_seconds, help="seconds until the command gives up")
    common.add_argument("--json", action="store_true", help="print one JSON object and nothing else")
    return common


def parser() -> _Parser:
    """The whole command line."""
    common = _common()
    whole = _Parser(prog="atelier", description="Makes, scores and brand-checks pictures.", parents=[common])
    commands = whole.add_subparsers(dest="command", required=True, metavar="COMMAND")
    _add_generate(commands.add_parser("generate", parents=[common], help="make pictures of a prompt"))
    score = commands.add_parser("score", parents=[common], help="judge pictures that you have")
    score.add_argument("images", nargs="+", metavar="IMAGE")
    score.add_argument("--prompt", metavar="T", help="what the pictures should show")
    score.add_argument("--brand", dest="brand_id", metavar="ID", help="the brand to compare with")
    commands.add_parser("health", parents=[common], help="how the server and its models are")
    commands.add_parser("metrics", parents=[common], help="what the server did lately")
    _add_brand(commands.add_parser("brand", help="brands and their reference pictures"), common)
    _add_models(commands.add_parser("models", help="models of the server"), common)
    sheet = commands.add_parser("sheet", parents=[common], help="a page with the pictures of a folder that --from made")
    sheet.add_argument("folder", metavar="FOLDER", help="the folder that generate --from … -o FOLDER filled")
    sheet.add_argument("-o", "--output", metavar="FILE", help="the page; default: sheet.html in the folder")
    sheet.add_argument("--title", metavar="T", help="the page's title; default: the folder's name")
    completion = commands.add_parser("completion", parents=[common], help="completion for your shell")
    completion.add_argument("shell", choices=("bash", "zsh", "fish"), help="print the script of this shell")
    return whole


def _add_generate(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("prompt", nargs="?", metavar="PROMPT", help="what the picture shows")
    many = parser.add_argument_group("many prompts")
    many.add_argument("--from", dest="source", metavar="FILE", help="a .csv or .jsonl whose columns are options")
    many.add_argument("--jobs", type=_jobs, default=4, metavar="N", help="calls at once, 1 to 64; default: 4")
    many.add_argument("--sheet", action="store_true", help="also write sheet.html, a page with all pictures")
    _add_picture(parser)
    add("--request-id", metavar="ID", help="your name for this call")
    add("--previews", metavar="DIR", help="save a small picture of every step there")
    _add_words(parser, "--preview-terminal", "preview_terminal", Literal["auto", "off", *get_args(Protocol)])
    parser.set_defaults(preview_terminal="auto")
    add("-o", "--output", metavar="PATH", help="the file, or PATH-1 and so on for several; with --from the folder")


def _row_parser() -> _Parser:
    parser = _Parser(prog="atelier generate", add_help=False)
    _add_picture(parser)
    parser.add_argument("--request-id", metavar="ID")
    return parser


def _add_picture(parser: argparse.ArgumentParser) -> None:
    """What one picture is asked for with: on the command line for all, in a file of prompts for one row."""
    add = parser.add_argument
    add("--negative", dest="negative_prompt", metavar="T", help="what it must not show")
    _add_words(parser, "--style", "style", _fields.Style)
    _add_words(parser, "--aspect", "aspect_ratio", _fields.AspectRatio)
    _add_words(parser, "--quality", "quality", _fields.Quality)
    add("--size", type=_size, metavar="WxH", help="pixels; overrides --aspect and --quality")
    add("--model", action=_Model, metavar="M", help="auto, sdxl, dalle3, or a name of the model repository")
    add("--seed", type=int, metavar="N", help="picture i starts from the noise of seed + i")
    add("--steps", dest="num_inference_steps", type=int, metavar="N", help="denoising steps, 1 to 150")
    add("--guidance", dest="guidance_scale", type=float, metavar="F", help="weight of the prompt, 0 to 30")
    _add_words(parser, "--noise-schedule", "noise_schedule", _fields.NoiseSchedule)
    add(
        "--guidance-interval",
        type=_interval,
        metavar="A-B",
        help="guidance from share A to B of the steps only, 0–1",
    )
    add("--step-caching", type=int, metavar="N", help="compute every Nth step only, 2 to 10; faster, at a loss")
    add("-n", "--num-images", dest="num_images", type=int, metavar="N", help="how many pictures, 1 to 10")
    add("--brand", dest="brand_id", metavar="ID", help="the brand to compare with")
    add(
        "--no-brand-check",
        dest="brand_consistency_check",
        action="store_const",
        const=False,
        help="compare with no brand",
    )
    add("--aesthetic-threshold", type=float, metavar="F", help="score to reach, 0 to 10")
    add("--brand-threshold", type=float, metavar="F", help="score to reach, 0 to 1")
    _add_words(parser, "--gate", "gate", _fields.Gate)
    add("--max-attempts", type=int, metavar="N", help="attempts of the gates retry and enforce, 1 to 10")
    _add_words(parser, "--format", "output_format", _fields.ImageFormat)
    _add_words(parser, "--reproducibility", "reproducibility", _fields.Reproducibility)
    _add_words(parser, "--cache", "cache", _fields.CachePolicy)
    _add_words(parser, "--priority", "priority", _fields.Priority)
    add("--metadata", type=_pair, action="append", metavar="KEY=VALUE", help="echoed in the answer; may be repeated")


def _add_words(parser: argparse.ArgumentParser, flag: str, field: str, words: Any) -> None:
    choices = get_args(words)
    parser.add_argument(flag, dest=field, type=_word, choices=choices, metavar="WORD", help=", ".join(choices))


def _add_brand(parser: _Parser, common: _Parser) -> None:
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    create = actions.add_parser("create", parents=[common], help="make a brand, with pictures if given")
    create.add_argument("brand_id", metavar="ID")
    create.add_argument("images", nargs="*", metavar="IMAGE")
    create.add_argument("--name", default="", metavar="T", help="for people; default: the id")
    add = actions.add_parser("add", parents=[common], help="add reference pictures")
    add.add_argument("brand_id", metavar="ID")
    add.add_argument("images", nargs="+", metavar="IMAGE")
    actions.add_parser("show", parents=[common], help="one brand").add_argument("brand_id", metavar="ID")
    actions.add_parser("list", parents=[common], help="all brands")
    actions.add_parser("delete", parents=[common], help="remove a brand").add_argument("brand_id", metavar="ID")


def _add_models(parser: _Parser, common: _Parser) -> None:
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    actions.add_parser("list", parents=[common], help="all models")
    actions.add_parser("load", parents=[common], help="load a model").add_argument("name", metavar="NAME")
    actions.add_parser("unload", parents=[common], help="end a model's processes").add_argument("name", metavar="NAME")
