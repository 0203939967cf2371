"""A loaded SDXL checkpoint, ready to compute: text, conditioning, noise, UNet, VAE, previews."""

import time
from pathlib import Path
from typing import Any

import torch

from atelier_server.backends.base import DiffusionTask, ModelSpec
from atelier_server.backends.sdxl.batch import Conditioning, Denoising, UNetRunner
from atelier_server.backends.sdxl.compiled.compilation import Compilation
from atelier_server.backends.sdxl.compiled.decoder import CompiledDecoder
from atelier_server.backends.sdxl.compiled.graph import Graph
from atelier_server.backends.sdxl.compiled.store import DECODER, UNET
from atelier_server.backends.sdxl.compiled.unet import CompiledUNet
from atelier_server.backends.sdxl.curve import StepCurve, measure
from atelier_server.backends.sdxl.decode import VaeCodec
from atelier_server.backends.sdxl.jobs import REFINE_STRENGTH, Limits, pass_rows
from atelier_server.backends.sdxl.load import Checkpoint, load_checkpoint
from atelier_server.backends.sdxl.noise_schedule import NoiseSchedules
from atelier_server.backends.sdxl.openvino.choose import computes_by_openvino
from atelier_server.backends.sdxl.openvino.decoder import OpenVinoDecoder
from atelier_server.backends.sdxl.openvino.load import load_converted
from atelier_server.backends.sdxl.openvino.unet import OpenVinoUNet
from atelier_server.backends.sdxl.packed import pack
from atelier_server.backends.sdxl.parameters import Parameters
from atelier_server.backends.sdxl.preview import Previewer
from atelier_server.backends.sdxl.recorded import RecordedUNet, record_on
from atelier_server.backends.sdxl.text import Encoded, PromptEncoder
from atelier_server.backends.sdxl.threads import StepThreads
from atelier_server.types import TruncatedTokens

_ENCODERS = ("text_encoder", "text_encoder_2")
_MOST_DIFFERENCE = {torch.float32: 1e-3, torch.bfloat16: 0.1}
"""Between compiled and other results of one step; the order of sums alone makes 1e-6 and 0.01."""


class Model:
    """Everything of a checkpoint that computes.

    Args:
        spec: Of the model; `folder` holds model_index.json.
        device: Where it computes.
        dtype: In what.
        parameters: Those of config.pbtxt.

    Raises:
        Unavailable: The checkpoint is broken, or a package that the model needs is not installed.
        InvalidArgument: The parameters do not go together.
    """

    def __init__(self, spec: ModelSpec, device: torch.device, dtype: torch.dtype, parameters: Parameters) -> None:
        decoder = threads = None
        packed = False
        self.unet_parameters = 0  # of a UNet that torch computes
        self.compilation: Compilation | None = None  # under way beside the model's work
        if computes_by_openvino(parameters.execution, device, dtype):
            runtime, graphs, checkpoint = load_converted(spec, dtype)
            native = _native_latents(checkpoint, parameters)
            unet: Any = OpenVinoUNet(runtime, graphs, checkpoint.unet.config, native)
            decoder = OpenVinoDecoder(runtime, graphs.decoder, native)
        else:
            checkpoint = load_checkpoint(spec.folder, spec.name, device, dtype)
            unet = checkpoint.unet
            threads = StepThreads(torch.get_num_threads()) if device.type == "cpu" else None
            self.unet_parameters = sum(one.numel() for one in unet.parameters())
            packed = pack(unet)
        self.device = device
        self._parts = (unet, checkpoint.vae, *checkpoint.text_encoders)
        self._dtypes = [part.dtype for part in self._parts]
        self._unet_config = unet.config
        self.can_economise = "auto" in (parameters.attention_slicing, parameters.vae_slicing, parameters.vae_tiling)
        self._slices_when_short = parameters.attention_slicing == "auto"
        # Small models are a little faster on a CPU with the plain layout (measured on AVX512-BF16 and AMX).
        self.runner = UNetRunner(unet, threads, channels_last=packed or device.type == "cuda")
        if parameters.attention_slicing == "on":
            self.runner.slice_attention("auto")  # auto is off: fused attention holds no score matrix
        self.codec = VaeCodec(checkpoint.vae, parameters.vae_slicing, parameters.vae_tiling, decoder)
        self.schedules = NoiseSchedules(checkpoint.scheduler_config, parameters.default_noise_schedule)
        self.previewer = Previewer(spec.folder, self._unet_config.in_channels)
        self._encoder = PromptEncoder(
            checkpoint.tokenizers, checkpoint.text_encoders, checkpoint.force_zeros_for_empty_prompt
        )
        self.limits = self._limits(parameters)

    def encode(self, task: DiffusionTask) -> tuple[Conditioning, tuple[TruncatedTokens, ...]]:
        """Encodes a job's prompts. Returns the conditioning of its pictures and what was cut from its prompts."""
        prompt = self._encoder.encode(task.prompt)
        guided = task.guidance_scale > 1
        negative = (
            self._encoder.encode_negative(task.negative_prompt, prompt)
            if guided
            else Encoded(prompt.embeds, prompt.pooled)
        )
        cut = tuple(
            TruncatedTokens(encoder, here, there)
            for encoder, here, there in zip(_ENCODERS, prompt.truncated, negative.truncated, strict=True)
            if here or there
        )
        both = [negative, prompt] if guided and self.limits.guided_rows == 2 else [prompt]
        conditioning = Conditioning(
            embeds=torch.cat([one.embeds for one in both]),
            pooled=torch.cat([one.pooled for one in both]),
            time_ids=self._time_ids(task.height, task.width, len(both)),
            guidance_scale=task.guidance_scale,
            guidance_embeds=self._guidance_embeds(task.guidance_scale),
        )
        return conditioning, cut

    def start(self, task: DiffusionTask, index: int, noise_schedule: str, conditioning: Conditioning) -> Denoising:
        """Makes the noise and the noise schedule of a picture, as diffusers does from the same seed."""
        generator = torch.Generator("cpu").manual_seed(_signed(task.seeds[index]))
        denoiser = self.schedules.denoiser(noise_schedule, task.num_inference_steps, generator)
        noise = self._noise(generator, task.height, task.width)
        return Denoising(denoiser.initial(noise), denoiser, conditioning, pass_rows(task, self.limits), task.exact)

    def enlarge(self, picture: Denoising, task: DiffusionTask, index: int, noise_schedule: str) -> Denoising:
        """Begins a finished picture's second pass: enlarged as an image, encoded, and given a part of its noise."""
        size = (task.refine_height, task.refine_width)
        image = self.codec.decode_tensor(picture.latents, picture.exact).float().clamp(-1, 1)
        image = torch.nn.functional.interpolate(image, size=size, mode="bicubic", antialias=True)
        # A stream of its own, which depends on the seed alone: ancestral schedules drew from the first one.
        generator = torch.Generator("cpu").manual_seed(_signed(task.seeds[index] ^ 0x5EED))
        denoiser = self.schedules.denoiser(noise_schedule, task.num_inference_steps, generator, REFINE_STRENGTH)
        latents = denoiser.renoise(self.codec.encode_tensor(image), self._noise(generator, *size))
        old = picture.conditioning
        conditioning = Conditioning(
            old.embeds, old.pooled, self._time_ids(*size, old.rows), old.guidance_scale, old.guidance_embeds
        )
        return Denoising(latents, denoiser, conditioning, pass_rows(task, self.limits, refining=True), task.exact)

    def economise(self, on: bool) -> None:
        """Computes attention and pictures in pieces that need less memory and more time, or no longer.

        Only what is auto in config.pbtxt changes.
        """
        if self._slices_when_short:
            self.runner.slice_attention("max" if on else None)
        self.codec.economise(on)

    def take_compiled(self, folder: Path) -> None:
        """Computes by the libraries in a folder from now on what need not be exact, if they compute what they should.

        Raises:
            OSError: They cannot be loaded, or compute something else.
        """
        threads = torch.get_num_threads()
        unet = CompiledUNet(Graph(folder / UNET, threads), self._parts[0], threads)
        decoder = CompiledDecoder(Graph(folder / DECODER, 1))
        task = DiffusionTask("try", "a picture", "", (0,), self.limits.native_width, self.limits.native_height, 1, 1.0)
        conditioning, _ = self.encode(task)
        latents = self._noise(torch.Generator("cpu").manual_seed(0), task.height, task.width)

        def compute(exact: bool) -> tuple[torch.Tensor, torch.Tensor]:
            predicted = self.runner.predict(latents.repeat(2, 1, 1, 1), [500.0] * 2, [conditioning] * 2, exact)
            return predicted, self.codec.decode_tensor(latents, exact)

        expected = compute(exact=True)
        self.runner.take(unet, threads)
        self.codec.take(decoder)
        error = max(_difference(*pair) for pair in zip(compute(exact=False), expected, strict=True))
        self.runner.forget()
        works = self.runner.compiled and self.codec.compiled
        if works and error <= _MOST_DIFFERENCE[self.runner.dtype]:  # NaN is no small difference either
            return
        reason = f"what they compute differs from the model's by {error:.3f} of its deviation"
        reason = reason if works else "they do not compute"
        self.runner.take(None)
        self.codec.take(None)
        raise OSError(reason)

    @property
    def execution(self) -> str:
        """What computes a step that need not be exact: torch, compiled or openvino."""
        if not self.unet_parameters:
            return "openvino"
        return "compiled" if self.runner.compiled else "torch"

    def record_steps(self) -> None:
        """Computes by recorded graphs from now on what need not be exact; for a CUDA device."""
        self.runner.take(RecordedUNet(self._parts[0], record_on(self.device)))

    def move(self, device: torch.device) -> None:
        """Moves everything but the pictures in the making; on a CPU float16 becomes float32, which is faster there."""
        for part, dtype in zip(self._parts, self._dtypes, strict=True):
            part.to(device, torch.float32 if device.type == "cpu" and dtype is torch.float16 else dtype)
        self.device = device
        self._encoder.forget()
        self.runner.moved()

    def warm_up(self, max_rows: int, measured_rows: int) -> tuple[StepCurve, float]:
        """Runs every part once. Returns the measured t(rows) and the seconds of decoding one native picture.

        Args:
            max_rows: Most rows that a batch may ever have.
            measured_rows: Most rows to try now.
        """
        width, height = self.limits.native_width, self.limits.native_height
        task = DiffusionTask("warm-up", "a picture", "", (0,), width, height, 1, 1.0)
        conditioning, _ = self.encode(task)
        latents = self._noise(torch.Generator("cpu").manual_seed(0), height, width)

        def run(rows: int) -> None:
            sample = latents.repeat(rows, 1, 1, 1)
            self.runner.predict(sample, [500.0] * rows, [conditioning] * rows)
            self.runner.synchronize()

        cost_clock = time.process_time if self.device.type == "cpu" else None
        measured = measure(run, measured_rows, cost_clock=cost_clock, prepare=self.runner.prepare)
        self.runner.forget()
        self.codec.decode(latents)
        begin = time.perf_counter()
        self.codec.decode(latents)
        return StepCurve(measured, width * height, max_rows), time.perf_counter() - begin

    def _limits(self, parameters: Parameters) -> Limits:
        """Sides are multiples of the VAE's factor times 2 for each halving between the UNet's levels."""
        factor = self.codec.factor
        native = int(self._unet_config.sample_size) * factor
        width, height = parameters.native_width or native, parameters.native_height or native
        distilled = self._unet_config.time_cond_proj_dim is not None
        refines = {"on": True, "off": False, "auto": self.device.type == "cuda"}[parameters.allow_refine]
        return Limits(
            native_width=width,
            native_height=height,
            max_side=parameters.max_side or 2 * max(width, height),
            size_multiple=factor * 2 ** (len(self._unet_config.block_out_channels) - 1),
            can_refine=refines,
            guided_rows=1 if distilled else 2,
        )

    def _noise(self, generator: torch.Generator, height: int, width: int) -> torch.Tensor:
        factor = self.codec.factor
        shape = (1, int(self._unet_config.in_channels), height // factor, width // factor)
        return torch.randn(shape, generator=generator, dtype=torch.float32).to(self.device)

    def _time_ids(self, height: int, width: int, rows: int) -> torch.Tensor:
        ids = torch.tensor([[height, width, 0, 0, height, width]], dtype=torch.float32, device=self.device)
        return ids.repeat(rows, 1)

    def _guidance_embeds(self, scale: float) -> torch.Tensor | None:
        """The sinusoidal embedding [1, dim] of a guidance scale, for distilled UNets (get_guidance_scale_embedding)."""
        width = self._unet_config.time_cond_proj_dim
        if width is None:
            return None
        half = width // 2
        frequencies = torch.exp(torch.arange(half) * -(torch.log(torch.tensor(10000.0)) / (half - 1)))
        angles = torch.tensor([(scale - 1) * 1000.0])[:, None] * frequencies[None, :]
        embedding = torch.cat([torch.sin(angles), torch.cos(angles)], dim=1)
        embedding = torch.nn.functional.pad(embedding, (0, width - 2 * half))
        return embedding.to(device=self.device, dtype=self.runner.dtype)


def _difference(one: torch.Tensor, other: torch.Tensor) -> float:
    """The deviation of their difference, in parts of that of the second."""
    return float((one.float() - other.float()).std() / other.float().std())


def _native_latents(checkpoint: Checkpoint, parameters: Parameters) -> tuple[int, int]:
    """Height and width of the latents of native pictures."""
    side = int(checkpoint.unet.config.sample_size)
    factor = 2 ** (len(checkpoint.vae.config.block_out_channels) - 1)
    return parameters.native_height // factor or side, parameters.native_width // factor or side


def _signed(seed: int) -> int:
    """torch takes seeds as signed or unsigned 64 bits, depending on the platform; both name the same stream."""
    return seed if seed < 2**63 else seed - 2**64
