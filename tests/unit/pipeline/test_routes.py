"""AUTO's choices: right on prompts that the rules were not tuned on, explained by what decides, and never stuck."""

import tomllib
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from atelier_server.errors import NotFound, Unavailable
from atelier_server.pipeline.prompt import load_templates
from atelier_server.pipeline.route import Choice, choose_model
from atelier_server.pipeline.rules import LOCAL, OPENAI, read_rules
from atelier_server.types import (
    GenerateRequest,
    ModelChoice,
    NoiseSchedule,
    PreviewOptions,
    Quality,
    Reproducibility,
)
from tests.unit.pipeline.conftest import ScriptedExecutor, ScriptedModels

PROMPTS = tomllib.loads((Path(__file__).parents[2] / "data" / "routes.toml").read_text(encoding="utf-8"))
RULES = load_templates().routing
NAMES = {LOCAL: "sdxl", OPENAI: "openai_images"}
SIGN = "a neon sign saying open late above a diner"
BAG = "studio product photo of a leather bag"


class PaidExecutor(ScriptedExecutor):
    """Stands for a service."""

    def __init__(self, **facts: float) -> None:
        super().__init__("openai_images")
        self.spec = replace(self.spec, config={"backend": "openai"})
        self.facts = self.facts | facts


def scripted(*names: str, paid: bool = True, **facts: float) -> ScriptedModels:
    return ScriptedModels(*(ScriptedExecutor(name) for name in names), *([PaidExecutor(**facts)] if paid else []))


def choose(prompt: str, models: ScriptedModels | None = None, **fields: Any) -> Choice:
    return choose_model(GenerateRequest(prompt, **fields), models or scripted("sdxl", "starter"), RULES)


def test_there_are_sixty_prompts_half_of_them_kept_out() -> None:
    assert {part: len(entries) for part, entries in PROMPTS.items()} == {"tune": 30, "kept_out": 30}
    assert sum("trap" in entry for entries in PROMPTS.values() for entry in entries) >= 15


@pytest.mark.parametrize("part", ["tune", "kept_out"])
def test_most_choices_are_right(part: str) -> None:
    wrong = [
        entry["prompt"] for entry in PROMPTS[part] if choose(entry["prompt"]).instance.spec.name != NAMES[entry["want"]]
    ]
    assert len(wrong) <= 3, wrong


@pytest.mark.parametrize("entry", [*PROMPTS["tune"], *PROMPTS["kept_out"]], ids=lambda entry: entry["prompt"][:30])
def test_without_what_the_reason_names_the_choice_flips(entry: dict[str, str]) -> None:
    choice = choose(entry["prompt"])
    assert choice.verdict is not None
    named = choice.verdict.decisive
    if choice.verdict.wanted == OPENAI:
        assert named, "whoever is sent to a paid service hears why"
    for found in named:
        assert found.says in choice.reason
        assert found.words in choice.reason
    for other in RULES.features:
        assert (other.says in choice.reason) == any(found.feature == other.name for found in named)
    if named:
        less = RULES.without(found.feature for found in named)
        flipped = choose_model(GenerateRequest(entry["prompt"]), scripted("sdxl"), less)
        assert flipped.instance.spec.name != choice.instance.spec.name


@pytest.mark.parametrize(
    ("prompt", "fields", "feature"),
    [
        ("a surreal product photo of a watch", {}, "product_photograph"),
        (SIGN, {"seed": 1}, "seed"),
        (SIGN, {"reproducibility": Reproducibility.EXACT}, "reproducibility"),
        ("an abstract idea of time", {"num_inference_steps": 30}, "sampling"),
        ("an abstract idea of time", {"guidance_scale": 3.0}, "sampling"),
        ("an abstract idea of time", {"step_caching": 2}, "sampling"),
        ("an abstract idea of time", {"noise_schedule": NoiseSchedule.DDIM}, "sampling"),
    ],
)
def test_what_keeps_a_call_here_is_named_and_decides(prompt: str, fields: dict[str, Any], feature: str) -> None:
    choice = choose(prompt, **fields)
    assert choice.instance.spec.name == "sdxl"
    assert choice.verdict is not None
    assert [found.feature for found in choice.verdict.decisive] == [feature]
    assert choice.verdict.decisive[0].says in choice.reason
    less = choose_model(GenerateRequest(prompt, **fields), scripted("sdxl"), RULES.without([feature]))
    assert less.instance.spec.name == "openai_images"


def test_previews_and_brands_weigh_a_little() -> None:
    plain = choose(SIGN).verdict
    heavier = choose(SIGN, preview=PreviewOptions(every_n_steps=1), brand_id="acme").verdict
    assert plain is not None
    assert heavier is not None
    assert heavier.scores[LOCAL] == plain.scores[LOCAL] + RULES.fields["preview"] + RULES.fields["brand"]


@pytest.mark.parametrize(
    ("prompt", "wanted"),
    [
        ("a mug with no text on it", LOCAL),
        ("a mug without visible text", LOCAL),
        ("a mug, not red, with text on it", OPENAI),
        ("no mug. A slogan on a wall", OPENAI),
        ("a mug without a slogan, but the headline on the wall is large", OPENAI),
        ("a mug that doesn't matter, text on it", OPENAI),
    ],
)
def test_a_denial_reaches_its_clause_only(prompt: str, wanted: str) -> None:
    assert RULES.judge(prompt).wanted == wanted


def test_openai_down_is_told_and_a_local_model_answers() -> None:
    choice = choose(SIGN, scripted("sdxl", paid=False))
    assert choice.instance.spec.name == "sdxl"
    assert "text inside the picture" in choice.reason
    assert "openai_images is not ready" in choice.reason


def test_only_the_starter_ready_is_the_starter() -> None:
    choice = choose(BAG, scripted("starter", paid=False))
    assert choice.instance.spec.name == "starter"
    assert "only the starter model starter is ready" in choice.reason


def test_a_larger_model_goes_before_the_starter() -> None:
    assert choose(BAG, scripted("starter", "sdxl")).instance.spec.name == "sdxl"


def test_without_a_local_model_the_service_answers_and_says_so() -> None:
    choice = choose(BAG, scripted())
    assert choice.instance.spec.name == "openai_images"
    assert "no local model is ready" in choice.reason


def test_nothing_ready_is_unavailable() -> None:
    with pytest.raises(Unavailable) as caught:
        choose(BAG, scripted(paid=False))
    assert caught.value.reason == "NO_MODEL_READY"


@pytest.mark.parametrize(
    ("facts", "told"),
    [
        ({"picture_usd_hd": 0.5, "max_cost_per_call_usd": 0.9}, "more than the $0.90"),
        ({"picture_usd_hd": 0.5, "budget_left_usd": 0.6}, "$0.60 left"),
    ],
)
def test_cost_caps_are_kept(facts: dict[str, float], told: str) -> None:
    one = choose(SIGN, scripted("sdxl", **facts), quality=Quality.HD)
    assert one.instance.spec.name == "openai_images"
    two = choose(SIGN, scripted("sdxl", **facts), quality=Quality.HD, num_images=2)
    assert two.instance.spec.name == "sdxl"
    assert told in two.reason
    with pytest.raises(Unavailable, match="only a paid model"):
        choose(SIGN, scripted(**facts), num_images=2)
    with pytest.raises(Unavailable, match="no local model"):
        choose(BAG, scripted(**facts), num_images=2)


def test_a_model_asked_for_is_taken_whatever_the_prompt_says() -> None:
    assert choose(BAG, model=ModelChoice.DALL_E_3).instance.spec.name == "openai_images"
    assert choose(SIGN, model=ModelChoice.STABLE_DIFFUSION_XL).instance.spec.name == "sdxl"
    assert choose(SIGN, model_name="starter").instance.spec.name == "starter"


@pytest.mark.parametrize("fields", [{"model": ModelChoice.DALL_E_3}, {"model_name": "openai_images"}])
def test_a_model_asked_for_that_is_not_ready_is_an_error(fields: dict[str, Any]) -> None:
    with pytest.raises(NotFound):
        choose(SIGN, scripted("sdxl", paid=False), **fields)


def test_a_wrong_rule_is_refused() -> None:
    feature = {"name": "x", "says": "x", "for": "nobody", "weight": 1, "patterns": []}
    with pytest.raises(ValueError, match="for is local or openai"):
        read_rules({"feature": [feature], "denials": [], "reach": 1, "fields": {}})
