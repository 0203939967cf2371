"""Prompt engineering: what style and quality add to the caller's words. The words are data (prompts.toml)."""

import hashlib
import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from atelier_server.errors import InvalidArgument
from atelier_server.pipeline.rules import RoutingRules, read_rules
from atelier_server.pipeline.tokens import ROOM, Count
from atelier_server.types import GenerateRequest, Quality, Style

DEFAULT_TEMPLATES = Path(__file__).with_name("prompts.toml")


@dataclass(frozen=True, slots=True)
class PromptTemplates:
    """Words by style and quality, the words that are refused, and what AUTO reads; `version` changes with the file."""

    version: str
    styles: Mapping[Style, tuple[tuple[str, ...], tuple[str, ...]]]
    qualities: Mapping[Quality, tuple[str, ...]]
    negative: tuple[str, ...]
    blocked: tuple[str, ...]
    routing: RoutingRules


@dataclass(frozen=True, slots=True)
class PromptPair:
    """What a model reads; `negative` None means that there is none."""

    positive: str
    negative: str | None


@cache
def load_templates(path: Path = DEFAULT_TEMPLATES) -> PromptTemplates:
    """Reads the words. Sections that an operator's file leaves out are those of the shipped one.

    Raises:
        InvalidArgument: The file cannot be read, lacks a style or quality, or is wrong otherwise.
    """
    try:
        text = path.read_text(encoding="utf-8")
        return _read(tomllib.loads(DEFAULT_TEMPLATES.read_text(encoding="utf-8")) | tomllib.loads(text), text)
    except KeyError as error:
        raise InvalidArgument(f"{path}: {error.args[0]} is missing", field="prompt_templates") from None
    except (OSError, ValueError, TypeError, AttributeError, re.error) as error:
        raise InvalidArgument(f"{path} is wrong: {error}", field="prompt_templates") from None


def _read(data: Mapping[str, Any], text: str) -> PromptTemplates:
    return PromptTemplates(
        version=f"{data['version']}-{hashlib.sha256(text.encode()).hexdigest()[:12]}",
        styles={
            style: (tuple(data["style"][style]["positive"]), tuple(data["style"][style]["negative"]))
            for style in Style
            if style is not Style.NONE
        },
        qualities={quality: tuple(data["quality"][quality]["positive"]) for quality in Quality},
        negative=tuple(data["default"]["negative"]),
        blocked=tuple(data["safety"]["blocked"]),
        routing=read_rules(data["routing"]),
    )


def engineered(request: GenerateRequest, templates: PromptTemplates, count: Count | None = None) -> PromptPair:
    """Returns the prompts that the model reads: the caller's words first, since encoders cut the end.

    Args:
        count: Counts tokens; modifiers that would not fit into the encoders' 77 stay out. None: there is no such limit.
    """
    if request.style is Style.NONE:
        return PromptPair(request.prompt, request.negative_prompt)
    style_positive, style_negative = templates.styles[request.style]
    positive = _merged(request.prompt, [*style_positive, *templates.qualities[request.quality]], count)
    negative = _merged(request.negative_prompt or "", [*style_negative, *templates.negative], count)
    return PromptPair(positive, negative)


def spelled_out(request: GenerateRequest, templates: PromptTemplates) -> PromptPair:
    """As `engineered`, for models that read sentences and know no negative prompt: it becomes one of the sentences."""
    positive = engineered(request, templates).positive
    if request.style is not Style.NONE and request.negative_prompt:
        positive = f"{positive}. The picture shows none of this: {request.negative_prompt}."
    return PromptPair(positive, None)


def _merged(text: str, modifiers: Iterable[str], count: Count | None) -> str:
    """Appends the modifiers that add a word which the text does not hold yet, as far as there is room."""
    if count is not None and count(text) > ROOM:  # counting a long text again for each modifier takes its time
        return text
    merged, seen = text, _words(text)
    for modifier in modifiers:
        words = _words(modifier)
        longer = f"{merged}, {modifier}" if merged else modifier
        if not words <= seen and (count is None or count(longer) <= ROOM):
            merged = longer
            seen |= words
    return merged


def _words(text: str) -> set[str]:
    return set(re.findall(r"\w+", text.lower()))
