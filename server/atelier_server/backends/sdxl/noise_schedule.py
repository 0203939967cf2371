"""Noise schedules: diffusers' scheduler classes by our names, one object for each picture, as they keep state."""

import copy
import importlib
import inspect
import warnings
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch

from atelier_server.errors import InvalidArgument, Unavailable
from atelier_server.types import NoiseSchedule

_CLASSES: dict[str, tuple[str, dict[str, Any]]] = {
    NoiseSchedule.EULER: ("EulerDiscreteScheduler", {}),
    NoiseSchedule.EULER_ANCESTRAL: ("EulerAncestralDiscreteScheduler", {}),
    NoiseSchedule.DDIM: ("DDIMScheduler", {}),
    NoiseSchedule.DPMPP_2M: ("DPMSolverMultistepScheduler", {"use_karras_sigmas": False}),
    NoiseSchedule.DPMPP_2M_KARRAS: ("DPMSolverMultistepScheduler", {"use_karras_sigmas": True}),
    NoiseSchedule.UNIPC: ("UniPCMultistepScheduler", {}),
    NoiseSchedule.LCM: ("LCMScheduler", {}),
}
_MODULES = {
    "EulerDiscreteScheduler": "scheduling_euler_discrete",
    "EulerAncestralDiscreteScheduler": "scheduling_euler_ancestral_discrete",
    "DDIMScheduler": "scheduling_ddim",
    "DPMSolverMultistepScheduler": "scheduling_dpmsolver_multistep",
    "UniPCMultistepScheduler": "scheduling_unipc_multistep",
    "LCMScheduler": "scheduling_lcm",
}
_TEMPLATES = 64


class Denoiser:
    """The noise schedule of one picture: which timestep is next, and what a prediction does to the latents.

    Latents, predictions and noise are float32: diffusers' `step` casts its result and draws its noise in the dtype of
    the prediction.
    """

    def __init__(self, scheduler: Any, steps: int, generator: torch.Generator, begin: int = 0) -> None:
        self._scheduler = scheduler
        self._step = begin
        # With "trailing" spacing rounding gives a few step counts (61, 103 …) one timestep too many, at -1.
        self.timesteps: tuple[Any, ...] = tuple(scheduler.timesteps)[:steps]
        if hasattr(scheduler, "set_begin_index"):
            scheduler.set_begin_index(begin)
        takes_noise = "generator" in inspect.signature(scheduler.step).parameters
        self._options = {"generator": generator} if takes_noise else {}

    @property
    def timestep(self) -> float:
        """Of the next step, in the training's count of timesteps."""
        return float(self.timesteps[self._step])

    @property
    def steps_left(self) -> int:
        """Steps to do."""
        return len(self.timesteps) - self._step

    def initial(self, noise: torch.Tensor) -> torch.Tensor:
        """Turns unit noise into the latents of the first step."""
        latents: torch.Tensor = noise * self._scheduler.init_noise_sigma
        return latents

    def renoise(self, latents: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
        """Puts noise on finished latents, as much as the next step expects."""
        noisy: torch.Tensor = self._scheduler.add_noise(latents, noise, self.timesteps[self._step].reshape(1))
        return noisy

    def scaled(self, latents: torch.Tensor) -> torch.Tensor:
        """The UNet's input for the next step."""
        scaled: torch.Tensor = self._scheduler.scale_model_input(latents, self.timesteps[self._step])
        return scaled

    def advance(self, noise_pred: torch.Tensor, latents: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Does a step. Returns the next latents, and the finished latents that this step foresees (for previews)."""
        output = self._scheduler.step(noise_pred, self.timesteps[self._step], latents, **self._options)
        self._step += 1
        foreseen = output.get("pred_original_sample", output.get("denoised"))
        if foreseen is None:  # the multistep solvers keep it as their last converted model output
            outputs = getattr(self._scheduler, "model_outputs", None)
            foreseen = outputs[-1] if outputs and outputs[-1] is not None else output.prev_sample
        return output.prev_sample, foreseen

    def move(self, device: torch.device) -> None:
        """Takes what it keeps of former steps to another device; its tables are wherever diffusers wants them."""
        kept = getattr(self._scheduler, "model_outputs", None)
        if kept:
            self._scheduler.model_outputs = [one.to(device) if torch.is_tensor(one) else one for one in kept]
        last = getattr(self._scheduler, "last_sample", None)
        if last is not None:
            self._scheduler.last_sample = last.to(device)


class NoiseSchedules:
    """Makes denoisers from a checkpoint's scheduler configuration.

    Args:
        config: scheduler_config.json.
        default: Name used where none is asked for; "" for the checkpoint's own.
    """

    def __init__(self, config: Mapping[str, Any], default: str = "") -> None:
        own_class = str(config.get("_class_name", "EulerDiscreteScheduler"))
        with _quiet():
            self._own_config = _load_class(own_class).from_config(dict(config)).config
        self._own_name = next(
            (
                name
                for name, (kind, options) in _CLASSES.items()
                if kind == own_class and all(bool(config.get(key)) == value for key, value in options.items())
            ),
            own_class,
        )
        self._own_class = own_class
        self._default = default or self._own_name
        self._templates: OrderedDict[tuple[str, int], Any] = OrderedDict()

    def name(self, asked: str) -> str:
        """The schedule's name for what was asked, "" being the default."""
        return asked or self._default

    def denoiser(self, name: str, steps: int, generator: torch.Generator, strength: float = 1.0) -> Denoiser:
        """Makes the denoiser of a picture.

        Args:
            name: As returned by `name`.
            steps: Denoising steps of a whole picture.
            generator: Source of the noise that ancestral schedules add.
            strength: Share of the steps that is done, the last ones; below 1 for refining a picture.

        Raises:
            InvalidArgument: No such schedule, or it cannot do that many steps.
        """
        begin = steps - max(1, min(steps, int(steps * strength)))
        return Denoiser(copy.deepcopy(self._template(name, steps)), steps, generator, begin)

    def check(self, name: str, steps: int) -> None:
        """Refuses, as `denoiser` would, a schedule that does not exist or cannot do that many steps."""
        self._template(name, steps)

    def _template(self, name: str, steps: int) -> Any:
        key = (name, steps)
        if key not in self._templates:
            self._templates[key] = self._make(name, steps)
            if len(self._templates) > _TEMPLATES:
                self._templates.popitem(last=False)
        self._templates.move_to_end(key)
        return self._templates[key]

    def _make(self, name: str, steps: int) -> Any:
        if name in _CLASSES:
            kind, options = _CLASSES[name]
        elif name == self._own_name:
            kind, options = self._own_class, {}
        else:
            known = ", ".join(_CLASSES)
            raise InvalidArgument(f"There is no noise schedule {name!r}; use one of {known}.", field="noise_schedule")
        with _quiet():
            scheduler = _load_class(kind).from_config(self._own_config, **options)
            try:
                scheduler.set_timesteps(steps)
            except ValueError as error:
                raise InvalidArgument(
                    f"The noise schedule {name} cannot do {steps} steps; ask for fewer.", field="num_inference_steps"
                ) from error
        if scheduler.order != 1:
            raise InvalidArgument(
                f"The checkpoint's schedule {name} needs {scheduler.order} model calls a step and is not supported; "
                "ask for another noise_schedule.",
                field="noise_schedule",
            )
        return scheduler


def _load_class(kind: str) -> Any:
    """Imports a class from its own module: `diffusers.schedulers` would import all of them."""
    module = importlib.import_module(f"diffusers.schedulers.{_MODULES[kind]}" if kind in _MODULES else "diffusers")
    try:
        return getattr(module, kind)
    except AttributeError as error:
        raise Unavailable(
            f"The checkpoint's scheduler {kind} is unknown to the installed diffusers.", reason="CHECKPOINT_BROKEN"
        ) from error


@contextmanager
def _quiet() -> Iterator[None]:
    """diffusers 0.42 calls np.array(tensor), about which numpy 2 warns."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="__array__ implementation", category=DeprecationWarning)
        yield
