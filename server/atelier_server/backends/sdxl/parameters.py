"""The `parameters` of an SDXL model's config.pbtxt, read and checked. No torch."""

from collections.abc import Mapping
from dataclasses import dataclass

from atelier_server.backends.base import ModelSpec
from atelier_server.errors import InvalidArgument
from atelier_server.types import NoiseSchedule

DTYPES = ("auto", "float32", "bfloat16", "float16")
EXECUTIONS = ("torch", "openvino", "auto")
_SWITCH = ("auto", "on", "off")


@dataclass(frozen=True, slots=True)
class Parameters:
    """What config.pbtxt says; 0 and "" mean: taken from the checkpoint. Sizes are pixels.

    `max_rows` bounds the batch: a guided picture is two rows; `max_waiting` a client's jobs that wait. The switches
    are auto, on or off; with auto, slicing and tiling come on when memory is short. `allow_cpu_fallback` (on or off)
    lets the model move to the CPU when even that does not help: a large model is then slower by two orders of
    magnitude. `execution` says what computes the UNet and decodes on a CPU: torch, openvino, or auto: openvino where
    it is installed. `compile` says whether torch's UNet and decoder are compiled for the CPU: auto does it for small
    models while they are at work, and uses the result from then on; on does it before the model is at work, and records
    the steps of one on a CUDA device.
    """

    dtype: str = "auto"
    attention_slicing: str = "auto"
    vae_slicing: str = "auto"
    vae_tiling: str = "auto"
    native_width: int = 0
    native_height: int = 0
    max_side: int = 0
    default_steps: int = 50
    default_noise_schedule: str = ""
    max_rows: int = 32
    max_waiting: int = 64
    allow_refine: str = "auto"
    allow_cpu_fallback: str = "off"
    execution: str = "torch"
    compile: str = "auto"


def parameters_of(spec: ModelSpec) -> Parameters:
    """A model's parameters, with what the server's own flags put over them.

    Raises:
        InvalidArgument: A value is not allowed; `field` is parameters.<name>.
    """
    return read_parameters({**spec.parameters, "compile": spec.compile or spec.parameters.get("compile", "auto")})


def read_parameters(values: Mapping[str, str]) -> Parameters:
    """Reads the parameters that concern this backend; others (a model's source, its licence) are not looked at.

    Raises:
        InvalidArgument: A value is not allowed; `field` is parameters.<name>.
    """
    schedules = ("", *NoiseSchedule)
    return Parameters(
        dtype=_choice(values, "dtype", DTYPES, "auto"),
        attention_slicing=_choice(values, "attention_slicing", _SWITCH, "auto"),
        vae_slicing=_choice(values, "vae_slicing", _SWITCH, "auto"),
        vae_tiling=_choice(values, "vae_tiling", _SWITCH, "auto"),
        native_width=_number(values, "native_width", 0, 0, 8192),
        native_height=_number(values, "native_height", 0, 0, 8192),
        max_side=_number(values, "max_side", 0, 0, 8192),
        default_steps=_number(values, "default_steps", 50, 1, 150),
        default_noise_schedule=_choice(values, "default_noise_schedule", schedules, ""),
        max_rows=_number(values, "max_rows", 32, 2, 1024),
        max_waiting=_number(values, "max_waiting", 64, 1, 10_000),
        allow_refine=_choice(values, "allow_refine", _SWITCH, "auto"),
        allow_cpu_fallback=_choice(values, "allow_cpu_fallback", ("on", "off"), "off"),
        execution=_choice(values, "execution", EXECUTIONS, "torch"),
        compile=_choice(values, "compile", _SWITCH, "auto"),
    )


def _choice(values: Mapping[str, str], name: str, allowed: tuple[str, ...], default: str) -> str:
    value = values.get(name, default).strip().lower()
    if value not in allowed:
        words = ", ".join(word for word in allowed if word)
        raise InvalidArgument(
            f"The parameter {name} of config.pbtxt is {value!r}; it must be one of {words}.", field=f"parameters.{name}"
        )
    return value


def _number(values: Mapping[str, str], name: str, default: int, least: int, most: int) -> int:
    text = values.get(name, str(default)).strip()
    if not text.isdecimal() or not least <= int(text) <= most:
        raise InvalidArgument(
            f"The parameter {name} of config.pbtxt is {text!r}; it must be a whole number from {least} to {most}.",
            field=f"parameters.{name}",
        )
    return int(text)
