"""The atelier-server command: flags, exit codes, one-line errors."""

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from atelier_server import __version__, cli
from atelier_server.config import ServerConfig
from atelier_server.errors import InvalidArgument


@pytest.fixture(autouse=True)
def _models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "models" / "good" / "1").mkdir(parents=True)
    (tmp_path / "models" / "good" / "config.pbtxt").write_text('backend: "echo"')
    (tmp_path / "models" / "absent").mkdir()
    (tmp_path / "models" / "absent" / "config.pbtxt").write_text('backend: "sdxl"')


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> list[ServerConfig]:
    """What `serve` would be started with; nothing is started."""
    configs: list[ServerConfig] = []
    app = SimpleNamespace(serve=lambda config: configs.append(config) or 0)
    monkeypatch.setattr(cli, "import_module", lambda _: app)
    monkeypatch.setattr(cli, "configure_logging", lambda *_: None)
    return configs


def test_every_field_is_a_flag_of_serve(served: list[ServerConfig], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        cli.main(["serve", "--help"])
    assert caught.value.code == 0
    text = capsys.readouterr().out
    assert [name for name in ServerConfig.model_fields if f"--{name.replace('_', '-')}" not in text] == []


def test_flags_reach_the_server(served: list[ServerConfig]) -> None:
    flags = "--listen 127.0.0.1:0 --load-model a --load-model b --dtype float32 --insecure --drain-delay-seconds 0.5"
    assert cli.main(["serve", *flags.split()]) == 0
    (config,) = served
    assert (config.listen, config.load_model, config.dtype) == ("127.0.0.1:0", ("a", "b"), "float32")
    assert (config.insecure, config.drain_delay_seconds, config.model_control_mode) == (True, 0.5, "explicit")


def test_flags_that_are_not_given_leave_the_file_alone(served: list[ServerConfig], tmp_path: Path) -> None:
    (tmp_path / "my.toml").write_text('insecure = true\nlisten = "0.0.0.0:7"\nload_model = ["x"]\n')
    assert cli.main(["serve", "--config", "my.toml"]) == 0
    assert (served[0].insecure, served[0].listen, served[0].load_model) == (True, "0.0.0.0:7", ("x",))


@pytest.mark.parametrize(
    "arguments",
    [
        ["serve", "--listen", "nowhere"],
        ["serve", "--listen", "0.0.0.0:1"],
        ["serve", "--config", "absent.toml"],
        ["models", "list", "--model-repository", "absent"],
    ],
)
def test_wrong_configuration_is_one_line_and_exit_code_2(
    arguments: list[str], served: list[ServerConfig], capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(arguments) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("atelier-server: ")
    assert printed.err.count("\n") == 1
    assert served == []


@pytest.mark.parametrize("arguments", [[], ["serve", "--listn", "x"], ["serve", "--dtype", "int4"], ["models"]])
def test_wrong_usage_is_exit_code_2(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        cli.main(arguments)
    assert caught.value.code == 2


def test_an_error_at_start_is_one_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def fail(_: ServerConfig) -> int:
        raise InvalidArgument("cannot listen on 127.0.0.1:1: the port is taken")

    monkeypatch.setattr(cli, "import_module", lambda _: SimpleNamespace(serve=fail))
    monkeypatch.setattr(cli, "configure_logging", lambda *_: None)
    assert cli.main(["serve"]) == 2
    assert capsys.readouterr().err == "atelier-server: cannot listen on 127.0.0.1:1: the port is taken\n"


def test_models_list(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["models", "list"]) == 0
    absent, good = capsys.readouterr().out.splitlines()
    assert absent.startswith("absent  sdxl  -  not provided: its weights are missing; put")
    assert good == "good    echo  1  ok"
    assert cli.main(["models", "list", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)["models"]
    assert [(row["name"], row["status"], row["serves"]) for row in rows] == [
        ("absent", "not provided", []),
        ("good", "ok", ["1"]),
    ]


def test_models_list_of_an_empty_repository(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "none").mkdir()
    assert cli.main(["models", "list", "--model-repository", "none"]) == 0
    assert "holds no models" in capsys.readouterr().out


def test_models_check_fails_for_what_is_wrong_only(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["models", "check"]) == 0
    assert "2 models, 0 wrong" in capsys.readouterr().out
    (tmp_path / "models" / "good" / "config.pbtxt").write_text('backend: "echo"\nbatch: 3')
    assert cli.main(["models", "check"]) == 1
    assert "good/config.pbtxt:2:1" in capsys.readouterr().err
    assert cli.main(["models", "check", "--json"]) == 1
    checked = json.loads(capsys.readouterr().out)
    assert not checked["ok"]
    assert [row["name"] for row in checked["models"] if row["status"] == "wrong"] == ["good"]


def test_models_fetch_says_what_it_cannot(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["models", "fetch", "nobody"]) == 1
    assert "no model 'nobody'" in capsys.readouterr().err
    assert cli.main(["models", "fetch", "absent"]) == 1
    assert "no source_repo" in capsys.readouterr().err
    assert cli.main(["models", "fetch", "good"]) == 0
    assert capsys.readouterr().out.startswith("good lies in ")


def test_the_command_needs_neither_torch_nor_grpc_for_the_repository() -> None:
    code = "import sys, atelier_server.cli; print(sorted({'torch', 'grpc', 'diffusers'} & sys.modules.keys()))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_version_by_the_module() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "atelier_server", "--version"], capture_output=True, text=True, check=True
    )
    assert done.stdout == f"atelier-server {__version__}\n"
