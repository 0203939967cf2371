"""config.pbtxt: read strictly, refused with file, line and field."""

from pathlib import Path

import pytest

from atelier_server._generated.atelier.kserve.model_config_pb2 import ModelConfig
from atelier_server.errors import InvalidArgument
from atelier_server.repository.model_config import (
    as_plain_data,
    choose_versions,
    instance_devices,
    parameters_of,
    parse_model_config,
    read_model_config,
)

GOOD = """
backend: "onnx"
max_batch_size: 8
input [ { name: "x" data_type: TYPE_FP32 dims: [ 3, -1, -1 ] } ]
output [ { name: "y" data_type: TYPE_BF16 dims: [ 768 ] } ]
dynamic_batching { max_queue_delay_microseconds: 500 default_queue_policy { max_queue_size: 9 } }
parameters { key: "role" value { string_value: "clip" } }
"""


def refusal(text: str) -> InvalidArgument:
    with pytest.raises(InvalidArgument) as caught:
        parse_model_config(text, "m", "m/config.pbtxt")
    return caught.value


def test_a_good_configuration_is_plain_data_with_tritons_names() -> None:
    config = parse_model_config(GOOD, "m")
    assert parameters_of(config) == {"role": "clip"}
    plain = as_plain_data(config)
    assert plain["name"] == "m"
    assert plain["input"] == [{"name": "x", "data_type": "TYPE_FP32", "dims": ["3", "-1", "-1"]}]
    assert plain["dynamic_batching"]["default_queue_policy"] == {"max_queue_size": 9}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('backend: "x"\n\nbackendd: "y"', 'm/config.pbtxt:3:1: ModelConfig has no field named "backendd"'),
        ('backend: "x"\nmax_batch_size: "many"', "m/config.pbtxt:2:17: "),
        ('backend: "x"\ninput [ { data_type: TYPE_FP31 } ]', "DataType has no value named TYPE_FP31"),
        ('backend: "x"\ninstance_group [ {', "m/config.pbtxt:2:18: "),
        ('parameters { key: "a" value { bool_value: true } }', 'ModelParameter has no field named "bool_value"'),
        ('# name: "m"\nname: "other"\nbackend: "x"', "m/config.pbtxt:2: name: "),
        ("max_batch_size: 1", "m/config.pbtxt:1: backend: "),
        ('backend: "../x"', "m/config.pbtxt:1: backend: "),
        ('backend: "x"\nmax_batch_size: -1', "m/config.pbtxt:2: max_batch_size: "),
        ('backend: "x"\ndefault_model_filename: "../../etc/passwd"', "m/config.pbtxt:2: default_model_filename: "),
        ('backend: "x"\nsequence_batching { }', "m/config.pbtxt:2: sequence_batching: "),
        ('backend: "x"\nensemble_scheduling { }', "m/config.pbtxt:1: platform: "),
        ('backend: "x"\nmodel_warmup { }', "m/config.pbtxt:2: model_warmup: "),
        ('backend: "onnx"\nmodel_transaction_policy { decoupled: true }', ":2: model_transaction_policy.decoupled: "),
        ('backend: "x"\ndynamic_batching { preserve_ordering: true }', ":2: dynamic_batching.preserve_ordering: "),
        ('backend: "x"\ndynamic_batching { priority_levels: 2 }', ":2: dynamic_batching.default_priority_level: "),
        (
            'backend: "x"\ndynamic_batching { priority_queue_policy { key: 1 value { } } }',
            ":2: dynamic_batching.priority_queue_policy: level 1 is none",
        ),
        ('backend: "x"\nbatch_input { }', "m/config.pbtxt:2: batch_input: "),
        ('backend: "x"\ninput [ { name: "a" data_type: TYPE_FP32 dims: [1] reshape { } } ]', ":2: input[0].reshape: "),
        ('backend: "x"\nmodel_operations { }', "m/config.pbtxt:2: model_operations: "),
        ('backend: "x"\nmodel_repository_agents { }', "m/config.pbtxt:2: model_repository_agents: "),
        ('backend: "x"\nversion_policy { latest { } }', ":1: version_policy.latest.num_versions: "),
        ('backend: "x"\nversion_policy { specific {\n versions: [0] } }', ":3: version_policy.specific.versions: "),
        ('backend: "x"\ninput [ { data_type: TYPE_FP32 dims: [1] } ]', ":2: input[0].name: "),
        ('backend: "x"\noutput [ { name: "a" dims: [1] } ]', ":2: output[0].data_type: "),
        ('backend: "x"\noutput [ { name: "a" data_type: TYPE_FP32 } ]', ":2: output[0].dims: "),
        ('backend: "x"\ninput [ { name: "a" data_type: TYPE_FP32 dims: [0] } ]', ":2: input[0].dims: "),
        (
            'backend: "x"\ninput [ { name: "a" data_type: TYPE_FP32 dims: [1] },\n'
            '{ name: "a" data_type: TYPE_FP32 dims: [1] } ]',
            "input[1].name: 'a' is there twice",
        ),
        ('backend: "x"\ninstance_group [ { count: -1 } ]', ":2: instance_group[0].count: "),
        ('backend: "x"\ninstance_group [ { kind: KIND_CPU gpus: [0] } ]', ":2: instance_group[0].gpus: "),
        ('backend: "x"\ninstance_group [ { gpus: [-1] } ]', ":2: instance_group[0].gpus: "),
        ('backend: "x"\nparameters { key: "role" value { string_value: "z" } }', ":2: parameters.role: "),
        ('backend: "x"\nparameters { key: "dtype" value { string_value: "int4" } }', ":2: parameters.dtype: "),
        ('backend: "x"\nparameters { key: "threads" value { string_value: "two" } }', ":2: parameters.threads: "),
        (
            'backend: "x"\nparameters { key: "required_files" value { string_value: "a ../b" } }',
            "parameters.required_files: '../b'",
        ),
    ],
)
def test_what_is_wrong_is_told_with_file_line_and_field(text: str, said: str) -> None:
    error = refusal(text)
    assert said in error.message
    assert error.message.startswith("m/config.pbtxt:")
    assert error.field


def test_a_file_that_is_no_text_is_told_without_its_place_on_the_server(tmp_path: Path) -> None:
    folder = tmp_path / "m"
    folder.mkdir()
    (folder / "config.pbtxt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InvalidArgument, match=r"^m/config\.pbtxt cannot be read") as caught:
        read_model_config(folder / "config.pbtxt")
    assert str(tmp_path) not in caught.value.message


@pytest.mark.parametrize(
    ("groups", "devices"),
    [
        ("", ("auto",)),
        ("instance_group [ { } ]", ("auto",)),
        ("instance_group [ { count: 2 kind: KIND_CPU } ]", ("cpu", "cpu")),
        ("instance_group [ { kind: KIND_GPU } ]", ("cuda",)),
        ("instance_group [ { count: 2 gpus: [0, 3] }, { kind: KIND_CPU } ]", ("cuda:0", "cuda:3") * 2 + ("cpu",)),
        ("instance_group [ { kind: KIND_MODEL } ]", ("auto",)),
    ],
)
def test_instance_groups_become_devices(groups: str, devices: tuple[str, ...]) -> None:
    assert instance_devices(parse_model_config(f'backend: "x" {groups}', "m")) == devices


@pytest.mark.parametrize(
    ("policy", "chosen"),
    [
        ("", (12,)),
        ("latest { num_versions: 2 }", (3, 12)),
        ("latest { num_versions: 9 }", (1, 3, 12)),
        ("all { }", (1, 3, 12)),
        ("specific { versions: [ 3, 7, 1 ] }", (1, 3)),
    ],
)
def test_version_policies(policy: str, chosen: tuple[int, ...]) -> None:
    config = parse_model_config(f'backend: "x" version_policy {{ {policy} }}', "m")
    assert choose_versions(config, (3, 12, 1)) == chosen
    assert choose_versions(config, ()) == ()


def test_field_numbers_are_those_of_the_protocol() -> None:
    numbers = {field.name: field.number for field in ModelConfig.DESCRIPTOR.fields}
    assert ModelConfig.DESCRIPTOR.full_name == "inference.ModelConfig"
    assert numbers == {
        "name": 1, "platform": 2, "version_policy": 3, "max_batch_size": 4, "input": 5, "output": 6,
        "instance_group": 7, "default_model_filename": 8, "cc_model_filenames": 9, "metric_tags": 10,
        "dynamic_batching": 11, "optimization": 12, "sequence_batching": 13, "parameters": 14,
        "ensemble_scheduling": 15, "model_warmup": 16, "backend": 17, "model_operations": 18,
        "model_transaction_policy": 19, "batch_input": 20, "batch_output": 21, "model_repository_agents": 23,
        "response_cache": 24,
    }  # fmt: skip


@pytest.mark.parametrize("said", ['backend: "onnxruntime"', 'platform: "onnxruntime_onnx"'])
def test_tritons_names_of_the_backend_are_known(said: str) -> None:
    assert parse_model_config(said, "m").backend == "onnx"
