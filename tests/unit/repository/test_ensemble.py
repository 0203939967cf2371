"""Ensembles are checked before they run: by themselves, and beside the models of their steps."""

from collections.abc import Callable
from pathlib import Path

import pytest

from atelier_server.errors import InvalidArgument
from atelier_server.repository.ensemble import in_order, steps_of
from atelier_server.repository.model_config import parse_model_config
from atelier_server.repository.poller import Poller
from atelier_server.repository.registry import Registry
from atelier_server.repository.repository import Repository
from tests.integration.kserve_kit import step
from tests.unit.repository.conftest import AddModel, FakeInstance

HEAD = """platform: "ensemble"
max_batch_size: 4
input { name: "x" data_type: TYPE_FP32 dims: [ 3 ] }
output { name: "y" data_type: TYPE_FP32 dims: [ 3 ] }
ensemble_scheduling {
"""
PART = """backend: "echo"
max_batch_size: 8
input { name: "in" data_type: TYPE_FP32 dims: [ 3 ] }
output { name: "out" data_type: TYPE_FP32 dims: [ 3 ] }
"""
ONE = step("a", {"in": "x"}, {"out": "y"})


def chain(*steps: str, head: str = HEAD) -> str:
    return "\n".join([head.rstrip(), *steps, "}"])


def test_steps_are_put_in_the_order_of_their_data() -> None:
    text = chain(
        step("c", {"in": "q", "too": "p"}, {"out": "y"}),
        step("b", {"in": "p"}, {"out": "q"}),
        step("a", {"in": "x"}, {"out": "p"}, version=7),
    )
    steps = steps_of(parse_model_config(text, "m"))
    assert [one.model for one in in_order(steps)] == ["a", "b", "c"]
    assert [one.version for one in steps] == ["", "", "7"]
    assert steps[0].after == (1, 2)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('platform: "ensemble"', ":1: platform: "),
        (chain(ONE).replace('"ensemble"', '"other"'), ":1: platform: "),
        (chain(ONE) + '\nbackend: "onnx"', "backend: an ensemble has no backend"),
        (chain(ONE) + "\ninstance_group { count: 2 }", "instance_group: an ensemble has no instances"),
        (chain(), ":5: ensemble_scheduling.step: needs at least one step"),
        (chain(step("", {"in": "x"}, {"out": "y"})), ":6: ensemble_scheduling.step[0].model_name: "),
        (chain(step("a", {"in": "x"}, {"out": "y"}, -2)), ":6: ensemble_scheduling.step[0].model_version: "),
        (
            chain(step("a", {}, {"out": "y"})),
            ":6: ensemble_scheduling.step[0].input_map: step 0 ('a') needs an input_map",
        ),
        (chain(step("a", {"in": "x"}, {})), ":6: ensemble_scheduling.step[0].output_map: step 0 ('a') needs an output"),
        (chain(step("a", {"in": ""}, {"out": "y"})), "step 0 ('a') maps 'in' to ''"),
        (chain(ONE, step("b", {"in": "x"}, {"out": "y"})), "step 1 ('b') writes 'y', which comes from step 0 ('a')"),
        (chain(ONE, step("b", {"in": "y"}, {"out": "x"})), "step 1 ('b') writes 'x', which comes from the request"),
        (
            chain(ONE, step("b", {"in": "q"}, {"out": "z"})),
            ":7: ensemble_scheduling.step[1].input_map: step 1 ('b') reads 'q'",
        ),
        (chain(step("a", {"in": "x"}, {"out": "z"})), ":4: output[0].name: no step writes 'y'"),
        (
            chain(ONE, head=HEAD.replace("input {", 'input { name: "k" data_type: TYPE_BOOL dims: 1 } input {')),
            "reads 'k'",
        ),
        (chain(ONE, head=HEAD.replace("[ 3 ] }\noutput", "[ 3 ] optional: true }\noutput")), "input[0].optional: "),
        (
            chain(ONE, step("b", {"in": "p"}, {"out": "q"}), step("c", {"in": "q"}, {"out": "p"})),
            ":7: ensemble_scheduling.step[1]: a circle waits for its own outputs: step 1 ('b'), step 2 ('c')",
        ),
    ],
)
def test_what_is_wrong_with_a_chain_is_told_with_line_and_field(text: str, said: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        parse_model_config(text, "m", "m/config.pbtxt")
    assert said in caught.value.message


@pytest.mark.parametrize(
    ("part", "steps", "said"),
    [
        (
            PART,
            [step("nobody", {"in": "x"}, {"out": "y"})],
            ":6: ensemble_scheduling.step[0].model_name: there is no model",
        ),
        (PART, [step("../a", {"in": "x"}, {"out": "y"})], "there is no model '../a'"),
        ("backend: 7", [ONE], "there is no model 'a' with a good config.pbtxt"),
        (PART, [step("a", {"in": "x"}, {"out": "y"}, 9)], "[0].model_version: 'a' does not serve version 9"),
        (PART, [step("a", {"inn": "x"}, {"out": "y"})], "[0].input_map: 'inn' is no input of 'a', which has in"),
        (PART, [step("a", {"in": "x"}, {"o": "y"})], "[0].output_map: 'o' is no output of 'a', which has out"),
        (PART + 'input { name: "k" data_type: TYPE_BOOL dims: [ 1 ] }', [ONE], "step 0 ('a') needs its input 'k' too"),
        (PART.replace("8", "2"), [ONE], ":2: max_batch_size: is above the 2 of step 0 ('a')"),
        (
            PART.replace("FP32 dims: [ 3 ] }\no", "FP16 dims: [ 3 ] }\no"),
            [ONE],
            "'x' is TYPE_FP32 from the ensemble, and step 0",
        ),
        (
            PART.replace("[ 3 ] }\no", "[ 4 ] }\no"),
            [ONE],
            "'x' is [-1, 3] from the ensemble, and step 0 ('a') takes [-1, 4]",
        ),
        (PART.replace("[ 3 ] }\n", "[ 3, 1 ] }\n", 2), [ONE], "'x' is [-1, 3]"),
        (PART + 'parameters { key: "role" value { string_value: "diffusion" } }', [ONE], "'a' makes pictures"),
    ],
)
def test_what_does_not_fit_the_models_is_told(
    add_model: AddModel, tmp_path: Path, part: str, steps: list[str], said: str
) -> None:
    add_model("a", config=part)
    add_model("m", (), chain(*steps))
    assert said in Repository(tmp_path).find("m").problem


def test_a_chain_that_fits_has_no_problem(add_model: AddModel, tmp_path: Path) -> None:
    add_model("a", config=PART.replace("[ 3 ]", "[ -1 ]"))
    add_model("m", (), chain(ONE))
    entry = Repository(tmp_path).find("m")
    assert (entry.problem, entry.backend, entry.chosen, entry.parts) == ("", "ensemble", (1,), ("a",))


def test_ensembles_that_lead_back_to_themselves_are_refused(add_model: AddModel, tmp_path: Path) -> None:
    for name, part in (("m", "n"), ("n", "o"), ("o", "m")):
        add_model(name, (), chain(step(part, {"x": "x"}, {"y": "y"})))
    assert "m → n → o → m" in Repository(tmp_path).find("m").problem


async def test_a_change_of_a_part_is_seen_by_the_poller(
    make_registry: Callable[..., Registry[FakeInstance]], add_model: AddModel
) -> None:
    add_model("a", config=PART)
    add_model("m", (), chain(ONE))
    registry = make_registry(control_mode="poll", retire_timeout_seconds=0)
    poller = Poller(registry)
    await poller.begin()
    await registry.start_all()
    add_model("a", config=PART.replace('"in"', '"other"'))
    add_model("a", (2,), PART.replace('"in"', '"other"'))
    await poller.look()
    assert "'in' is no input of 'a'" in registry.repository.find("m").problem
    add_model("m", (), chain(step("a", {"other": "x"}, {"out": "y"})))
    await poller.look()
    assert registry.state("m").state == "READY"
