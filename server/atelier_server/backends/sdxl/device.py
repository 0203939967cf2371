"""Where and in what number format a model is computed."""

from pathlib import Path

import torch

from atelier_server.errors import InvalidArgument, Unavailable


def choose_device(wanted: str) -> torch.device:
    """Returns the device for `wanted`: auto (CUDA where there is one), cpu, cuda or cuda:N.

    Raises:
        Unavailable: The device is not there.
        InvalidArgument: No such kind of device.
    """
    if wanted == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if wanted.split(":")[0] not in ("cpu", "cuda"):
        raise InvalidArgument(f"The device {wanted!r} is unknown; use auto, cpu, cuda or cuda:N.", field="device")
    device = torch.device(wanted)
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise Unavailable(
            f"The device {wanted} is not there ({torch.cuda.device_count()} CUDA devices are); use auto or cpu.",
            reason="DEVICE_MISSING",
        )
    return device


def choose_dtype(wanted: str, device: torch.device) -> torch.dtype:
    """Returns the dtype for `wanted`; auto is bfloat16 where the hardware multiplies it, float32 elsewhere."""
    if wanted == "auto":
        on_cuda = device.type == "cuda"
        fast = torch.cuda.is_bf16_supported(including_emulation=False) if on_cuda else cpu_multiplies_bfloat16()
        return torch.bfloat16 if fast else torch.float32
    return {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}[wanted]


def cpu_multiplies_bfloat16(cpuinfo: Path = Path("/proc/cpuinfo")) -> bool:
    """Whether the CPU has AMX or AVX512-BF16. Elsewhere bfloat16 is emulated and slower than float32."""
    try:
        lines = cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return False
    flags = next((line.partition(":")[2].split() for line in lines if line.startswith("flags")), [])
    return "avx512_bf16" in flags or "amx_bf16" in flags
