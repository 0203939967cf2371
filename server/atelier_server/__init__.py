"""Atelier: a gRPC image-generation server, and the same engine for use inside a Python program.

The engine's names are loaded when they are first asked for: importing the package costs nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from atelier_server.engine import (
        AspectRatio,
        ImageGenerationEngine,
        ImageGenerationRequest,
        ImageGenerationResult,
        ImageModel,
        ImageQuality,
        ImageStyle,
    )

__version__ = "0.1.0"

__all__ = [
    "AspectRatio",
    "ImageGenerationEngine",
    "ImageGenerationRequest",
    "ImageGenerationResult",
    "ImageModel",
    "ImageQuality",
    "ImageStyle",
]


def __getattr__(name: str) -> Any:
    if name in __all__:
        return getattr(import_module("atelier_server.engine"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
