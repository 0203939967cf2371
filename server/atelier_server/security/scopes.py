"""What a token may be allowed, and which method needs what."""

from enum import StrEnum


class Scope(StrEnum):
    """A right. `models` is the operator's: it loads and unloads, and changes what is logged."""

    GENERATE = "generate"
    SCORE = "score"
    BRANDS = "brands"
    MODELS = "models"
    METRICS = "metrics"


OPEN_SERVICES = frozenset({"grpc.health.v1.Health"})
"""What anybody may call: probes of load balancers hold no token, and learn nothing but whether the server serves."""

_IMAGES, _BRANDS, _MODELS = (
    f"atelier.v1.{name}" for name in ("ImageGenerationService", "BrandService", "ModelService")
)
_INFERENCE = "inference.GRPCInferenceService"
_REFLECTION = ("grpc.reflection.v1.ServerReflection", "grpc.reflection.v1alpha.ServerReflection")

ANY: frozenset[Scope] = frozenset()
"""Any token will do."""

_SERVICES: dict[str, frozenset[Scope]] = {
    _BRANDS: frozenset({Scope.BRANDS}),
    **dict.fromkeys(_REFLECTION, ANY),
}
_METHODS: dict[str, dict[str, frozenset[Scope]]] = {
    _IMAGES: {
        "Generate": frozenset({Scope.GENERATE}),
        "Score": frozenset({Scope.SCORE}),
        "Health": ANY,
        "GetMetrics": frozenset({Scope.METRICS}),
    },
    _MODELS: {
        "ListModels": ANY,
        "LoadModel": frozenset({Scope.MODELS}),
        "UnloadModel": frozenset({Scope.MODELS}),
    },
    _INFERENCE: {
        **dict.fromkeys(
            ("ServerLive", "ServerReady", "ModelReady", "ServerMetadata", "ModelMetadata", "ModelConfig"), ANY
        ),
        "RepositoryIndex": ANY,
        # The model decides which of the two: a picture model needs generate, any other score.
        **dict.fromkeys(("ModelInfer", "ModelStreamInfer"), frozenset({Scope.GENERATE, Scope.SCORE})),
        # Regions of this machine's memory are for those who may run models on it.
        **dict.fromkeys(
            (
                *("SystemSharedMemoryStatus", "SystemSharedMemoryRegister", "SystemSharedMemoryUnregister"),
                *("CudaSharedMemoryStatus", "CudaSharedMemoryRegister", "CudaSharedMemoryUnregister"),
            ),
            frozenset({Scope.GENERATE, Scope.SCORE}),
        ),
        "ModelStatistics": frozenset({Scope.METRICS}),
        **dict.fromkeys(
            ("RepositoryModelLoad", "RepositoryModelUnload", "TraceSetting", "LogSettings"), frozenset({Scope.MODELS})
        ),
    },
}


def is_open(method: str) -> bool:
    """Whether a method, /package.Service/Method, needs no token."""
    return method.strip("/").partition("/")[0] in OPEN_SERVICES


def needed_scopes(method: str) -> frozenset[Scope]:
    """One of these opens a method, /package.Service/Method; empty: any token does. Unlisted ones are the operator's."""
    service, _, name = method.strip("/").partition("/")
    if service in _SERVICES:
        return _SERVICES[service]
    return _METHODS.get(service, {}).get(name, frozenset({Scope.MODELS}))
