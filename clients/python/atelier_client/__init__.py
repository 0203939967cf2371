"""Client of an Atelier image-generation server.

    from atelier_client import Atelier

    with Atelier("127.0.0.1:8001") as atelier:
        result = atelier.generate("a red handbag on marble", style="luxury", seed=42)
        result.images[0].save("bag.png")

Everything public is here; modules that begin with an underscore may change. gRPC is imported when Atelier or
AsyncAtelier is first used.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from atelier_client._errors import (
    AlreadyExists,
    AtelierError,
    Cancelled,
    DataLoss,
    DeadlineExceeded,
    FailedPrecondition,
    GateRefused,
    Internal,
    InvalidArgument,
    ModerationBlocked,
    NotFound,
    PermissionDenied,
    ResourceExhausted,
    Unauthenticated,
    Unavailable,
    Unimplemented,
)
from atelier_client._events import (
    Completed,
    Event,
    ImageChunk,
    ImageCompleted,
    Preview,
    Progress,
    Queued,
    Started,
    TruncatedTokens,
    Usage,
)
from atelier_client._fields import GenerateFields, GuidanceInterval, PreviewOptions, ScoreFields
from atelier_client._result import GeneratedImage, GenerationResult
from atelier_client._retry import Retry
from atelier_client._types import (
    AddedReferences,
    Brand,
    Dimensions,
    Health,
    Metrics,
    ModelInfo,
    ModelInstance,
    ModelsAvailable,
    NearestReference,
    ReferenceImage,
    Scores,
)

if TYPE_CHECKING:
    from atelier_client._aio import AsyncAtelier
    from atelier_client._client import Atelier

__all__ = [
    "AddedReferences",
    "AlreadyExists",
    "AsyncAtelier",
    "Atelier",
    "AtelierError",
    "Brand",
    "Cancelled",
    "Completed",
    "DataLoss",
    "DeadlineExceeded",
    "Dimensions",
    "Event",
    "FailedPrecondition",
    "GateRefused",
    "GenerateFields",
    "GeneratedImage",
    "GenerationResult",
    "GuidanceInterval",
    "Health",
    "ImageChunk",
    "ImageCompleted",
    "Internal",
    "InvalidArgument",
    "Metrics",
    "ModelInfo",
    "ModelInstance",
    "ModelsAvailable",
    "ModerationBlocked",
    "NearestReference",
    "NotFound",
    "PermissionDenied",
    "Preview",
    "PreviewOptions",
    "Progress",
    "Queued",
    "ReferenceImage",
    "ResourceExhausted",
    "Retry",
    "ScoreFields",
    "Scores",
    "Started",
    "TruncatedTokens",
    "Unauthenticated",
    "Unavailable",
    "Unimplemented",
    "Usage",
]

_LAZY = {"Atelier": "atelier_client._client", "AsyncAtelier": "atelier_client._aio"}

# Type checkers must not see it: they would believe that every name is here.
if not TYPE_CHECKING:

    def __getattr__(name: str) -> object:
        if name not in _LAZY:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = getattr(import_module(_LAZY[name]), name)
        globals()[name] = value
        return value
