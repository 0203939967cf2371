"""What a runner is told arrives, shows in ps, and holds no secret."""

from pathlib import Path

import pytest

from atelier_server.backends.base import ModelSpec
from atelier_server.executor.environment import runner_environment, threads_of
from atelier_server.executor.limits import Limits
from atelier_server.runner.command import Command, arguments, parse, spec_variable

SPEC = ModelSpec(
    name="starter",
    version="3",
    folder=Path("/models/starter/3"),
    parameters={"dtype": "float32"},
    config={"backend": "sdxl", "max_batch_size": 8, "input": [{"name": "prompt"}]},
    device="cuda:1",
    dtype="bfloat16",
    threads=2,
    derived_folder="/var/lib/atelier/derived",
    compile="off",
)


def test_a_command_survives_the_command_line() -> None:
    command = Command(SPEC, "sdxl", Path("/tmp/x/runner.sock"), 7)
    assert parse(arguments(command), spec_variable(SPEC)) == command


def test_the_model_comes_first_for_those_who_read_ps() -> None:
    assert arguments(Command(SPEC, "sdxl", Path("s")))[0] == "starter"


def test_a_runner_can_be_started_by_hand() -> None:
    command = parse(["m", "--version=1", "--backend=echo", "--folder=f", "--socket=s"], "")
    assert command == Command(ModelSpec("m", "1", Path("f")), "echo", Path("s"), -1)


@pytest.mark.parametrize("variable", ["{", "[]", '{"nonsense": 1}'])
def test_a_broken_description_is_a_usage_error(variable: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        parse(["m", "--version=1", "--backend=echo", "--folder=f", "--socket=s"], variable)
    assert caught.value.code == 2
    assert "ATELIER_RUNNER_SPEC" in capsys.readouterr().err


def test_the_environment_lets_nothing_through_by_default() -> None:
    outer = {
        "PATH": "/bin",
        "LC_ALL": "C.UTF-8",
        "HF_HOME": "/cache",
        "CUDA_VISIBLE_DEVICES": "1",
        "OPENAI_API_KEY": "x",
        "OPENAI_BASE_URL": "x",
        "ATELIER_TOKENS_FILE": "x",
        "AWS_SECRET_ACCESS_KEY": "x",
        "HF_TOKEN": "x",
        "DATABASE_URL": "x",
        "PYTHON_REGISTRY_TOKEN": "x",
        "OMP_NUM_THREADS": "64",
    }
    inner = runner_environment(outer, threads=2)
    assert set(inner) & set(outer) == {"PATH", "LC_ALL", "HF_HOME", "CUDA_VISIBLE_DEVICES", "OMP_NUM_THREADS"}
    assert inner["OMP_NUM_THREADS"] == inner["MKL_NUM_THREADS"] == "2"
    assert (inner["OMP_WAIT_POLICY"], inner["MKL_DYNAMIC"]) == ("PASSIVE", "FALSE")


def test_small_models_get_one_thread_and_diffusion_all_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: {0, 1, 5})
    assert [threads_of("onnx", 0), threads_of("echo", 0), threads_of("sdxl", 0), threads_of("onnx", 4)] == [1, 1, 3, 4]


def test_the_backoff_doubles_up_to_its_end() -> None:
    assert [Limits().backoff_seconds(crashes) for crashes in (0, 1, 2, 3, 4, 5, 6, 5000)] == [1, 1, 2, 4, 8, 16, 30, 30]
