"""Keyword arguments into messages: held to the .proto, so that neither can grow without the other."""

from typing import Any, get_args

import pytest

from atelier.v1.image_generation_pb2 import GenerateRequest
from atelier.v1.scoring_pb2 import ScoreRequest
from atelier_client import GenerateFields, GuidanceInterval, InvalidArgument, PreviewOptions, ScoreFields, _fields
from atelier_client._write import fill, words

FIELDS = GenerateRequest.DESCRIPTOR.fields_by_name


def test_the_typed_fields_are_the_messages() -> None:
    assert {"prompt", *GenerateFields.__annotations__} == set(FIELDS)
    assert {"images", *ScoreFields.__annotations__} == set(ScoreRequest.DESCRIPTOR.fields_by_name)


def test_the_typed_words_are_the_enums() -> None:
    enums = [field for field in FIELDS.values() if field.enum_type is not None]
    assert len(enums) == 11
    for field in enums:
        literal, _none = get_args(GenerateFields.__annotations__[field.name])
        assert list(words(field.enum_type)) == list(get_args(literal)), field.name
    assert list(words(FIELDS["preview"].message_type.fields_by_name["format"].enum_type)) == list(
        get_args(_fields.ImageFormat)
    )


def test_every_word_becomes_its_number() -> None:
    for field in FIELDS.values():
        if field.enum_type is None:
            continue
        for value in field.enum_type.values[1:]:
            request = GenerateRequest()
            fill(request, {field.name: value.name.lower().removeprefix(_prefix(field.enum_type))})
            assert getattr(request, field.name) == value.number


def _prefix(enum: Any) -> str:
    return str(enum.values[0].name.removesuffix("UNSPECIFIED").lower())


def test_all_kinds_of_values() -> None:
    request = GenerateRequest()
    values = {
        "prompt": "ein Täschchen 👜",
        "seed": 2**64 - 1,
        "guidance_scale": 0,
        "brand_consistency_check": False,
        "metadata": {"order": "12"},
        "preview": PreviewOptions(every_n_steps=5, format="png"),
        "guidance_interval": GuidanceInterval(end=0.8),
        "step_caching": 2,
        "negative_prompt": None,
    }
    fill(request, values)
    expected = GenerateRequest(
        prompt="ein Täschchen 👜",
        seed=2**64 - 1,
        guidance_scale=0.0,
        brand_consistency_check=False,
        metadata={"order": "12"},
    )
    expected.guidance_interval.end = 0.8
    expected.step_caching = 2
    expected.preview.every_n_steps = 5
    expected.preview.format = 1
    assert request == expected
    assert not request.HasField("negative_prompt")
    assert not request.preview.max_side


def test_zero_is_not_unset() -> None:
    request = GenerateRequest()
    fill(request, {"seed": 0, "num_inference_steps": 0, "negative_prompt": ""})
    assert request.HasField("seed")
    assert request.HasField("num_inference_steps")
    assert request.HasField("negative_prompt")


@pytest.mark.parametrize(
    ("values", "field", "said"),
    [
        ({"styel": "luxury"}, "styel", "negative_prompt"),
        ({"style": "lux"}, "style", "luxury"),
        ({"style": "unspecified"}, "style", "luxury"),
        ({"style": 3}, "style", "luxury"),
        ({"style": ["luxury"]}, "style", "luxury"),
        ({"seed": -1}, "seed", "-1"),
        ({"seed": 2**64}, "seed", "range"),
        ({"seed": "ten"}, "seed", "ten"),
        ({"width": 2**32}, "width", "range"),
        ({"guidance_scale": "high"}, "guidance_scale", "high"),
        ({"prompt": "a \ud800 bag"}, "prompt", "surrogate"),
        ({"prompt": 5}, "prompt", "5"),
        ({"metadata": {"a": 1}}, "metadata", "1"),
        ({"metadata": "words"}, "metadata", "words"),
        ({"preview": 3}, "preview", "3"),
        ({"guidance_interval": (0.1, 0.8)}, "guidance_interval", "0.8"),
        ({"guidance_interval": {"until": 1}}, "until", "start"),
        ({"step_caching": 2.5}, "step_caching", "2.5"),
        ({"preview": {"every": 3}}, "every", "every_n_steps"),
    ],
)
def test_what_cannot_be_sent_is_refused_here(values: dict[str, Any], field: str, said: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        fill(GenerateRequest(), values)
    assert caught.value.field == field
    assert said in caught.value.message
