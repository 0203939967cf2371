"""The safety gate: what may not be asked for, and what may not leave. Its verdict is a status, no black picture."""

import re
import unicodedata
from collections.abc import Iterable
from importlib import import_module
from typing import Protocol

from PIL import Image

from atelier_server.errors import InvalidArgument, ModerationBlocked
from atelier_server.types import GenerateRequest


class SafetyGate(Protocol):
    """Judges prompts before anything is computed, and finished pictures before they leave.

    Another one is plugged in by the configuration field safety_gate. Pictures are judged in threads.
    """

    def check_prompt(self, request: GenerateRequest) -> None:
        """Refuses a request.

        Raises:
            ModerationBlocked: With the field that is at fault.
        """

    def check_picture(self, image: Image.Image, request: GenerateRequest) -> None:
        """Refuses a finished picture.

        Raises:
            ModerationBlocked: The whole call ends with it.
        """


class WordGate:
    """Refuses prompts that hold one of the listed phrases, whatever their case, accents and punctuation.

    It does not look at pictures.

    Args:
        phrases: Words, or several in a row. A word counts as a whole.
    """

    def __init__(self, phrases: Iterable[str]) -> None:
        spelled = [r"\W*".join(re.escape(word) for word in _folded(phrase).split()) for phrase in phrases]
        self._pattern = re.compile(rf"\b(?:{'|'.join(spelled)})\b") if spelled else None

    def check_prompt(self, request: GenerateRequest) -> None:
        """See SafetyGate. The negative prompt may name what is not wanted."""
        if self._pattern is not None and self._pattern.search(_folded(request.prompt)):
            raise ModerationBlocked("the prompt asks for what this server does not make; change it", field="prompt")

    def check_picture(self, image: Image.Image, request: GenerateRequest) -> None:
        """See SafetyGate."""


def load_gate(name: str) -> SafetyGate:
    """Makes the gate that the configuration names, `module:function`; the function takes nothing.

    Raises:
        InvalidArgument: It is not there.
    """
    module, _, function = name.partition(":")
    try:
        gate: SafetyGate = getattr(import_module(module), function)()
    except (ImportError, AttributeError, ValueError) as error:
        raise InvalidArgument(f"safety_gate {name!r} cannot be loaded: {error}", field="safety_gate") from None
    return gate


def _folded(text: str) -> str:
    decomposed = unicodedata.normalize("NFKD", text.casefold())
    kept = (char for char in decomposed if unicodedata.category(char) not in ("Mn", "Cf"))
    return "".join(kept)
