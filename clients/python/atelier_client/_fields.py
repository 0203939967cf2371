"""The keyword arguments of generate, for type checkers and for the command line. Tests hold them to the .proto."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, TypedDict

Style = Literal["none", "luxury", "casual", "minimalist", "bold", "elegant", "modern", "vintage", "professional"]
AspectRatio = Literal["square", "landscape", "portrait", "ultra_wide", "instagram", "twitter"]
Quality = Literal["standard", "hd", "ultra_hd"]
Model = Literal["auto", "stable_diffusion_xl", "dall_e_3"]
NoiseSchedule = Literal["euler", "euler_ancestral", "ddim", "dpmpp_2m", "dpmpp_2m_karras", "unipc", "lcm"]
Gate = Literal["report", "retry", "enforce"]
ImageFormat = Literal["png", "jpeg", "webp"]
CachePolicy = Literal["use", "reuse", "bypass"]
Priority = Literal["low", "normal", "high"]
Reproducibility = Literal["batched", "exact"]
OnDisconnect = Literal["cancel", "continue"]


@dataclass(frozen=True, slots=True)
class PreviewOptions:
    """Asks for small pictures of the unfinished work.

    Args:
        every_n_steps: A preview every so many steps; 0: none.
        max_side: The longest side in pixels, 16 to 1024; None: the server's default, 256.
        format: File format; None: the server's default, JPEG.
    """

    every_n_steps: int = 1
    max_side: int | None = None
    format: ImageFormat | None = None


@dataclass(frozen=True, slots=True)
class GuidanceInterval:
    """Guidance for a share of the denoising steps only, which is faster and changes the picture.

    Args:
        start: Share of the steps from which on there is guidance, 0 to 1.
        end: Share of the steps from which on there is none any more, 0 to 1.
    """

    start: float = 0.0
    end: float = 1.0


class GenerateFields(TypedDict, total=False):
    """Fields of atelier.v1.GenerateRequest beside the prompt; None is the same as leaving a field out."""

    negative_prompt: str | None
    style: Style | None
    aspect_ratio: AspectRatio | None
    quality: Quality | None
    width: int | None
    height: int | None
    num_images: int | None
    seed: int | None
    model: Model | None
    model_name: str | None
    num_inference_steps: int | None
    guidance_scale: float | None
    noise_schedule: NoiseSchedule | None
    brand_id: str | None
    brand_consistency_check: bool | None
    aesthetic_threshold: float | None
    brand_threshold: float | None
    gate: Gate | None
    max_attempts: int | None
    output_format: ImageFormat | None
    output_quality: int | None
    preview: PreviewOptions | None
    cache: CachePolicy | None
    priority: Priority | None
    reproducibility: Reproducibility | None
    on_disconnect: OnDisconnect | None
    metadata: Mapping[str, str] | None
    request_id: str | None
    resume_after_sequence: int | None
    guidance_interval: GuidanceInterval | None
    step_caching: int | None


class ScoreFields(TypedDict, total=False):
    """Fields of atelier.v1.ScoreRequest beside the pictures."""

    prompt: str | None
    brand_id: str | None
    aesthetic_threshold: float | None
    brand_threshold: float | None
