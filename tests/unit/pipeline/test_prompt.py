"""Styles and qualities add words once, after the caller's."""

from pathlib import Path

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers

from atelier_server.errors import InvalidArgument
from atelier_server.pipeline.prompt import DEFAULT_TEMPLATES, PromptPair, engineered, load_templates, spelled_out
from atelier_server.pipeline.tokens import ROOM, estimated_tokens, token_counter
from atelier_server.types import GenerateRequest, Quality, Style

TEMPLATES = load_templates()


@pytest.mark.parametrize("style", [style for style in Style if style is not Style.NONE])
def test_every_style_adds_its_words_after_the_callers(style: Style) -> None:
    pair = engineered(GenerateRequest("a lamp", negative_prompt="people", style=style), TEMPLATES)
    positive, negative = TEMPLATES.styles[style]
    assert pair.positive.startswith("a lamp, ")
    assert positive[0] in pair.positive
    assert pair.negative is not None
    assert pair.negative.startswith("people, ")
    assert negative[0] in pair.negative


def test_none_adds_nothing() -> None:
    pair = engineered(GenerateRequest("a lamp", style=Style.NONE, quality=Quality.ULTRA_HD), TEMPLATES)
    assert (pair.positive, pair.negative) == ("a lamp", None)


def test_words_that_are_there_are_not_repeated() -> None:
    pair = engineered(GenerateRequest("a sharp focus lamp", style=Style.LUXURY, quality=Quality.HD), TEMPLATES)
    assert pair.positive.count("sharp focus") == 1
    pair = engineered(GenerateRequest("a lamp", negative_prompt="Blurry", style=Style.LUXURY), TEMPLATES)
    assert pair.negative is not None
    assert pair.negative.lower().count("blurry") == 1


def test_an_operators_file_is_read(tmp_path: Path) -> None:
    path = tmp_path / "words.toml"
    path.write_text(DEFAULT_TEMPLATES.read_text().replace("opulent", "sumptuous"))
    assert "sumptuous" in engineered(GenerateRequest("x", style=Style.LUXURY), load_templates(path)).positive


def test_a_file_without_a_style_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "words.toml"
    path.write_text(DEFAULT_TEMPLATES.read_text().replace("[style.vintage]", "[style.antique]"))
    with pytest.raises(InvalidArgument, match="vintage"):
        load_templates(path)


def test_modifiers_that_do_not_fit_into_77_tokens_stay_out() -> None:
    words = " ".join(f"word{index}" for index in range(30))
    request = GenerateRequest(words, style=Style.LUXURY)

    def count(text: str) -> int:
        return 2 * len(text.split())

    pair = engineered(request, TEMPLATES, count)
    assert pair.positive.startswith(f"{words}, luxurious")
    assert 70 <= count(pair.positive) <= ROOM
    everything = engineered(request, TEMPLATES).positive
    assert len(everything) > len(pair.positive)
    long = GenerateRequest(" ".join(["word"] * 100), style=Style.LUXURY)
    assert engineered(long, TEMPLATES, count).positive == long.prompt, "the caller's words are never cut"


def test_a_service_reads_the_negative_prompt_as_a_sentence() -> None:
    request = GenerateRequest("a lamp", negative_prompt="people", style=Style.BOLD)
    pair = spelled_out(request, TEMPLATES)
    assert pair.negative is None
    assert pair.positive.startswith("a lamp, bold")
    assert pair.positive.endswith("none of this: people.")
    bare = GenerateRequest("a lamp", negative_prompt="people", style=Style.NONE)
    assert spelled_out(bare, TEMPLATES) == PromptPair("a lamp", None)


def test_tokens_are_counted_by_the_model_s_own_tokenizer(tmp_path: Path) -> None:
    tokenizer = Tokenizer(models.WordLevel({"a": 0, "lamp": 1, "<unk>": 2}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.enable_truncation(2)
    (tmp_path / "tokenizer").mkdir()
    tokenizer.save(str(tmp_path / "tokenizer" / "tokenizer.json"))
    assert token_counter(tmp_path)("a lamp extraordinarily") == 3


def test_without_a_tokenizer_tokens_are_estimated(tmp_path: Path) -> None:
    assert token_counter(tmp_path) is estimated_tokens
    (tmp_path / "tokenizer").mkdir()
    (tmp_path / "tokenizer" / "tokenizer.json").write_text("{")
    assert token_counter(tmp_path) is estimated_tokens
    assert estimated_tokens("a red bag, 100 mm") == 1 + 1 + 1 + 1 + 3 + 1
    assert estimated_tokens("photography") == 2
    assert estimated_tokens("猫") == 3


def test_a_changed_file_has_another_version(tmp_path: Path) -> None:
    path = tmp_path / "words.toml"
    path.write_text(DEFAULT_TEMPLATES.read_text().replace("opulent", "sumptuous"))
    assert load_templates(path).version != TEMPLATES.version


def test_an_operator_s_file_may_leave_sections_out(tmp_path: Path) -> None:
    path = tmp_path / "words.toml"
    path.write_text('version = "mine"\n[safety]\nblocked = ["mustard"]\n')
    mine = load_templates(path)
    assert mine.blocked == ("mustard",)
    assert mine.styles == TEMPLATES.styles
    assert mine.version.startswith("mine-")


@pytest.mark.parametrize(
    "text",
    ["no toml", '[[routing.feature]]\nname = "x"', "[safety]\nblocked = 3", "[safety]", "routing = 3", "style = 4"],
)
def test_a_wrong_file_is_refused_with_its_name(tmp_path: Path, text: str) -> None:
    path = tmp_path / "words.toml"
    path.write_text(text)
    with pytest.raises(InvalidArgument, match=r"words\.toml") as caught:
        load_templates(path)
    assert caught.value.field == "prompt_templates"


def test_a_text_without_room_is_counted_once() -> None:
    counted: list[str] = []

    def count(text: str) -> int:
        counted.append(text)
        return len(text.split())

    long = "word " * 100
    pair = engineered(GenerateRequest(long, negative_prompt=long, style=Style.LUXURY), load_templates(), count)
    assert (pair.positive, pair.negative) == (long, long)
    assert counted == [long, long]
