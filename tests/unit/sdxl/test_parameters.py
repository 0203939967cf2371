"""config.pbtxt's parameters for SDXL models."""

from pathlib import Path

import pytest

from atelier_server.backends.base import ModelSpec
from atelier_server.backends.sdxl.parameters import Parameters, parameters_of, read_parameters
from atelier_server.errors import InvalidArgument


def test_defaults() -> None:
    assert read_parameters({}) == Parameters()


def test_all_are_read_and_strangers_are_not_looked_at() -> None:
    values = {
        "dtype": "bfloat16",
        "attention_slicing": "on",
        "vae_slicing": "off",
        "vae_tiling": "ON",
        "native_width": "1024",
        "native_height": " 768 ",
        "max_side": "2048",
        "default_steps": "30",
        "default_noise_schedule": "dpmpp_2m_karras",
        "max_rows": "8",
        "max_waiting": "5",
        "execution": "auto",
        "compile": "On",
        "allow_refine": "off",
        "hub_id": "somebody/some-model",
    }
    expected = Parameters(
        "bfloat16", "on", "off", "on", 1024, 768, 2048, 30, "dpmpp_2m_karras", 8, 5, "off", "off", "auto", "on"
    )
    assert read_parameters(values) == expected


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("dtype", "int8"),
        ("attention_slicing", "maybe"),
        ("vae_slicing", "yes"),
        ("vae_tiling", ""),
        ("native_width", "-1"),
        ("native_height", "wide"),
        ("max_side", "9000"),
        ("default_steps", "0"),
        ("default_steps", "151"),
        ("default_noise_schedule", "heun"),
        ("max_rows", "1"),
        ("max_rows", "2.5"),
        ("allow_refine", "1"),
        ("compile", "later"),
    ],
)
def test_a_wrong_value_is_refused_by_name(name: str, value: str) -> None:
    with pytest.raises(InvalidArgument, match=name) as caught:
        read_parameters({name: value})
    assert caught.value.field == f"parameters.{name}"


@pytest.mark.parametrize(("flag", "parameter", "held"), [("", "on", "on"), ("off", "on", "off"), ("on", None, "on")])
def test_the_servers_flag_goes_over_the_models_parameter(flag: str, parameter: str | None, held: str) -> None:
    given = {} if parameter is None else {"compile": parameter}
    assert parameters_of(ModelSpec("starter", "1", Path("models"), given, compile=flag)).compile == held
