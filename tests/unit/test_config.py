"""Configuration: the order of its sources, and how it refuses."""

from pathlib import Path

import pytest

from atelier_server.config import ServerConfig, is_loopback, load_config, split_address
from atelier_server.errors import InvalidArgument


@pytest.fixture(autouse=True)
def _empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def refusal(flags: dict[str, object] | None = None, environment: dict[str, str] | None = None) -> InvalidArgument:
    with pytest.raises(InvalidArgument) as caught:
        load_config(flags, environment=environment or {})
    assert "\n" not in caught.value.message
    return caught.value


def test_defaults_are_those_of_the_contract() -> None:
    config = load_config(environment={})
    assert (config.listen, config.metrics_listen) == ("127.0.0.1:8001", "127.0.0.1:8002")
    assert (config.model_repository, config.model_control_mode) == (Path("models"), "none")
    assert config.heartbeat_seconds <= 10


def test_flags_win_over_environment_over_file_over_defaults(tmp_path: Path) -> None:
    (tmp_path / "atelier.toml").write_text('listen = "127.0.0.1:1"\ndtype = "float32"\nlog_level = "error"\n')
    environment = {"ATELIER_LISTEN": "127.0.0.1:2", "ATELIER_DTYPE": "bfloat16"}
    config = load_config({"listen": "127.0.0.1:3"}, environment=environment)
    assert (config.listen, config.dtype, config.log_level) == ("127.0.0.1:3", "bfloat16", "error")
    assert config.metrics_listen == "127.0.0.1:8002"


def test_the_file_can_be_named_by_flag_and_by_variable(tmp_path: Path) -> None:
    for name in ("one.toml", "two.toml"):
        (tmp_path / name).write_text(f'state_dir = "{name}"\n')
    named = {"ATELIER_CONFIG": "two.toml"}
    assert load_config(config_file=Path("one.toml"), environment=named).state_dir == Path("one.toml")
    assert load_config(environment=named).state_dir == Path("two.toml")


def test_a_named_file_must_exist() -> None:
    with pytest.raises(InvalidArgument, match=r"nowhere\.toml does not exist"):
        load_config(config_file=Path("nowhere.toml"), environment={})


def test_a_broken_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "atelier.toml").write_text("listen = \n")
    assert "atelier.toml cannot be read" in refusal().message


def test_unknown_keys_are_refused_with_the_nearest_name(tmp_path: Path) -> None:
    assert "did you mean ATELIER_DRAIN_DELAY_SECONDS?" in refusal(environment={"ATELIER_DRAIN_DELAY": "1"}).message
    (tmp_path / "atelier.toml").write_text("heartbeat_second = 3\n")
    error = refusal()
    assert "atelier.toml: unknown key 'heartbeat_second'; did you mean heartbeat_seconds?" in error.message
    assert error.field == "heartbeat_second"


def test_variables_of_the_client_and_of_kubernetes_are_left_alone() -> None:
    others = ("SERVER", "TOKEN", "SERVICE_HOST", "PORT", "PORT_8001_TCP_ADDR", "SERVICE_PORT_GRPC")
    load_config(environment={f"ATELIER_{name}": "tcp://10.0.0.1:8001" for name in others})


@pytest.mark.parametrize(
    "field", ["listen", "heartbeat_seconds", "drain_timeout_seconds", "event_log_capacity", "dtype"]
)
def test_a_wrong_value_is_told_with_its_field_and_origin(field: str) -> None:
    variable = f"ATELIER_{field.upper()}"
    error = refusal(environment={variable: "-7"})
    assert error.field == field
    assert f"{field} ({variable})" in error.message
    assert f"--{field.replace('_', '-')}" in refusal({field: "-7"}).message


def test_a_list_in_the_environment_is_separated_by_commas() -> None:
    assert load_config(environment={"ATELIER_LOAD_MODEL": "starter, echo,"}).load_model == ("starter", "echo")


def test_naming_models_implies_explicit_control_and_contradicts_the_others() -> None:
    assert load_config({"load_model": ["a"]}, environment={}).model_control_mode == "explicit"
    assert "explicit" in refusal({"load_model": ["a"], "model_control_mode": "poll"}).message


@pytest.mark.parametrize("field", ["listen", "metrics_listen"])
@pytest.mark.parametrize("address", ["0.0.0.0:1", "[::]:1", "10.1.2.3:1", "atelier.example:1"])
def test_addresses_beyond_loopback_need_insecure_said_aloud(field: str, address: str) -> None:
    error = refusal({field: address})
    assert address in error.message
    assert "--insecure" in error.message
    assert getattr(load_config({field: address, "insecure": True}, environment={}), field) == address


def test_certificate_and_key_go_together(tmp_path: Path) -> None:
    pem = tmp_path / "a.pem"
    pem.write_text("")
    assert "go together" in refusal({"tls_cert": pem}).message
    assert "tls_client_ca needs" in refusal({"tls_client_ca": pem}).message
    assert refusal({"tls_cert": tmp_path / "absent.pem", "tls_key": pem}).field == "tls_cert"
    load_config({"tls_cert": pem, "tls_key": pem, "tls_client_ca": pem}, environment={})


@pytest.mark.parametrize("field", ["listen", "metrics_listen"])
def test_addresses_beyond_loopback_need_both_tls_and_tokens(tmp_path: Path, field: str) -> None:
    file = tmp_path / "file"
    file.write_text("")
    tls, tokens = {"tls_cert": file, "tls_key": file}, {"tokens_file": file}
    for given in (tls, tokens):
        assert "--insecure" in refusal({field: "0.0.0.0:1", **given}).message
    load_config({field: "0.0.0.0:1", **tls, **tokens}, environment={})


@pytest.mark.parametrize("address", ["8001", ":8001", "::1:8001", "host:", "host:port", "host:65536", "host:-1", ""])
def test_addresses_that_are_none(address: str) -> None:
    with pytest.raises(ValueError, match=r"HOST:PORT|above"):
        split_address(address)


def test_addresses() -> None:
    assert split_address("[::1]:0") == ("::1", 0)
    assert is_loopback("[::1]:1")
    assert is_loopback("localhost:1")
    assert is_loopback("127.9.9.9:1")
    assert not is_loopback("192.168.0.1:1")


def test_effective_values_are_plain_data_of_every_field() -> None:
    effective = load_config(environment={}).effective()
    assert effective.keys() == ServerConfig.model_fields.keys()
    assert effective["model_repository"] == "models"


def test_every_field_is_described() -> None:
    assert [name for name, field in ServerConfig.model_fields.items() if not field.description] == []
