"""Stable Diffusion XL, and every model of its layout: step-level continuous batching on CUDA or CPU."""

from atelier_server.backends.base import Backend, ModelSpec


def create(spec: ModelSpec) -> Backend:
    """Makes the backend of a diffusers-layout SDXL folder; nothing is loaded yet."""
    # Here and not above: whoever looks at the scheduler or at the parameters must not wait for torch.
    from atelier_server.backends.sdxl.backend import SdxlBackend

    return SdxlBackend(spec)
