"""The engine inside a Python program: the server's pipeline without its transport."""

from atelier_server.engine.engine import ImageGenerationEngine
from atelier_server.engine.messages import ImageGenerationRequest, ImageGenerationResult
from atelier_server.types import AspectRatio
from atelier_server.types import ModelChoice as ImageModel
from atelier_server.types import Quality as ImageQuality
from atelier_server.types import Style as ImageStyle

__all__ = [
    "AspectRatio",
    "ImageGenerationEngine",
    "ImageGenerationRequest",
    "ImageGenerationResult",
    "ImageModel",
    "ImageQuality",
    "ImageStyle",
]
