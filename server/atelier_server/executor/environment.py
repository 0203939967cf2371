"""The environment of a runner process: only what it needs, so that no secret of the server reaches it."""

import os
from collections.abc import Mapping

_NAMES = frozenset(
    """
    PATH HOME USER LOGNAME LANG LANGUAGE TZ TMPDIR XDG_CACHE_HOME SSL_CERT_FILE
    CXX VIRTUAL_ENV LD_LIBRARY_PATH LD_PRELOAD
    HF_HOME HF_HUB_CACHE HF_HUB_OFFLINE TRANSFORMERS_OFFLINE
    """.split()  # noqa: SIM905 - a list of strings would be one name a line
)
_PREFIXES = ("LC_", "PYTHON", "CUDA_", "NVIDIA_", "OMP_", "KMP_", "GOMP_", "MKL_", "TORCH_", "PYTORCH_", "COVERAGE_")
_TELEMETRY = "OTEL_"
_SECRET_WORDS = ("HEADERS", "CLIENT_KEY", "TOKEN", "SECRET", "PASSWORD", "CREDENTIAL", "API_KEY")
_SINGLE_THREADED = frozenset({"onnx", "echo"})


def threads_of(backend: str, asked: int) -> int:
    """Threads of a runner: as asked, or all cores for a diffusion model and one for the small models beside it.

    Spinning pools of several processes stall each other by an order of magnitude.
    """
    if asked > 0:
        return asked
    return 1 if backend in _SINGLE_THREADED else len(os.sched_getaffinity(0))


def runner_environment(outer: Mapping[str, str], threads: int) -> dict[str, str]:
    """What of the server's environment a runner gets, and the thread pools' sizes, which must stand before the start.

    EXACT pictures need the thread count fixed: float32 sums differ between one thread and two.
    """
    inner = {name: value for name, value in outer.items() if _is_allowed(name)}
    count = str(threads)
    return inner | {
        "OMP_NUM_THREADS": count,
        "MKL_NUM_THREADS": count,
        "OPENBLAS_NUM_THREADS": count,
        "MKL_DYNAMIC": "FALSE",
        "OMP_WAIT_POLICY": "PASSIVE",
        "PYTHONUNBUFFERED": "1",
        "GRPC_VERBOSITY": "ERROR",
        "TOKENIZERS_PARALLELISM": "false",
    }


def _is_allowed(name: str) -> bool:
    if any(word in name for word in _SECRET_WORDS):
        return False
    return name in _NAMES or name.startswith((*_PREFIXES, _TELEMETRY))
