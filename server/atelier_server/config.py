"""The server's configuration, declared once: defaults < atelier.toml < ATELIER_… environment < flags.

Plain pydantic rather than pydantic-settings, which can neither refuse an unknown variable of our prefix nor tell where
a wrong value was set.
"""

import ipaddress
import os
import re
import tomllib
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    FilePath,
    SecretStr,
    ValidationError,
    field_validator,
    model_validator,
)

from atelier_server.errors import InvalidArgument

DEFAULT_CONFIG_FILE = Path("atelier.toml")
DEFAULT_MODEL_REPOSITORY = Path("models")
REMOTE_SCHEMES = ("s3", "gs", "memory")
"""Where model repositories may lie beside folders; memory is fsspec's own, for tests."""
ENVIRONMENT_PREFIX = "ATELIER_"
_FOREIGN_VARIABLES = {"ATELIER_SERVER", "ATELIER_TOKEN", "ATELIER_PLAINTEXT_TOKEN", "ATELIER_CONFIG"}
"""Variables of our prefix that are no fields: three belong to the client, one names the file of the fields."""
_KUBERNETES_VARIABLE = re.compile(r".*(_SERVICE_HOST|_SERVICE_PORT.*|_PORT|_PORT_\d+_.*)")
"""What Kubernetes adds to every container beside a service named atelier…; not meant for us."""


class ServerConfig(BaseModel):
    """What can be set. Every field is a flag (`--metrics-listen`), a variable and a key of atelier.toml."""

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())

    listen: str = Field("127.0.0.1:8001", description="HOST:PORT of the gRPC services; port 0 takes a free one")
    metrics_listen: str = Field("127.0.0.1:8002", description="HOST:PORT of Prometheus metrics, /healthz and /readyz")
    model_repository: Path | str = Field(
        DEFAULT_MODEL_REPOSITORY, description="folder of the models, or its address on s3:// or gs:// (an extra)"
    )
    state_dir: Path = Field(Path("state"), description="folder of what outlives a restart, such as brands")
    model_control_mode: Literal["none", "explicit", "poll"] = Field(
        "none",
        description="which models are loaded: none: all at start; explicit: those of --load-model and by request; "
        "poll: all, following the repository's changes. Default: explicit with --load-model, else none",
    )
    load_model: tuple[str, ...] = Field(
        (), description="a model to load at start, repeated for more, * for all (environment: separated by commas)"
    )
    repository_poll_seconds: float = Field(
        15.0, gt=0, description="time between two looks at the repository under --model-control-mode poll"
    )
    dtype: Literal["auto", "float32", "bfloat16", "float16"] | None = Field(
        None,
        description="number format of all models, over their own parameter; auto: bfloat16 where the device is fast at "
        "it, float32 elsewhere",
    )
    compile: Literal["auto", "on", "off"] | None = Field(
        None,
        description="whether diffusion models are compiled for the CPU, over their own parameter; auto: small ones, "
        "beside their work, where there is a C++ compiler; on a GPU on records steps as CUDA graphs",
    )
    tls_cert: FilePath | None = Field(None, description="PEM file of the server's certificate chain")
    tls_key: FilePath | None = Field(None, description="PEM file of the certificate's private key")
    tls_client_ca: FilePath | None = Field(None, description="PEM file of the authority that signs clients")
    tokens_file: FilePath | None = Field(
        None, description="TOML file of the bearer tokens that may call, as `atelier-server tokens new` writes it"
    )
    max_connections: int = Field(
        10_000, ge=1, description="connections of clients that are open at once; more are closed as they come"
    )
    max_concurrent_calls: int = Field(
        2000, ge=1, description="calls that are under way at once, of all clients; more are refused"
    )
    idle_connection_seconds: float = Field(900.0, ge=1, description="after which a connection without a call is closed")
    unread_seconds: float = Field(
        120.0, gt=0, description="how long a client may leave what it was sent unread before its call is ended"
    )
    insecure: bool = Field(False, description="listen beyond loopback although TLS or tokens are missing")
    prompt_templates: FilePath | None = Field(
        None, description="TOML file in place of the shipped words of styles, refused words and routing features"
    )
    safety_gate: str = Field(
        "", description="module:function that makes the gate for prompts and pictures, in place of the refused words"
    )
    log_format: Literal["text", "json"] = Field("text", description="form of the log lines on stderr")
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="least level that is logged")
    log_prompts: bool = Field(False, description="let the log have the prompts of calls; otherwise it never does")
    heartbeat_seconds: float = Field(
        8.0, gt=0, le=10, description="longest silence of a running Generate before its last event is repeated"
    )
    slo_policy: Literal["observe", "shed"] = Field(
        "observe",
        description="the objective that 95% of the calls are done within 30 s: observe tells in Health whether it is "
        "kept, shed keeps it by refusing the calls that would miss it, those of the lowest priority first",
    )
    drain_delay_seconds: float = Field(
        1.0, ge=0, description="time between saying NOT_SERVING and refusing new calls, for load balancers to notice"
    )
    drain_timeout_seconds: float = Field(
        120.0, ge=0, description="time that running calls get after SIGTERM before they are cancelled"
    )
    event_log_capacity: int = Field(
        256, ge=16, description="events kept for each generation before replaced progress events are dropped"
    )
    cache_memory_bytes: int = Field(
        256 * 1024 * 1024, ge=0, description="picture files kept in memory for repeated calls; 0 keeps none"
    )
    cache_disk_bytes: int = Field(
        1024**3, ge=0, description="picture files kept under state_dir for repeated calls; 0 keeps none"
    )
    result_keep_seconds: float = Field(
        120.0, ge=0, description="how long finished work can be asked for again by its request_id"
    )
    result_keep_bytes: int = Field(
        256 * 1024 * 1024, ge=0, description="picture files that such finished work may hold in memory"
    )
    default_brand: str = Field("", description="the brand of calls that name none; empty: such calls have no brand")
    database_url: SecretStr | None = Field(
        None,
        description="where brands are kept, such as postgresql://user@host/database for several servers; "
        "unset: a SQLite file under state_dir",
    )
    metrics_window_seconds: float = Field(
        3600.0, gt=0, description="length of the rolling window of averages and percentiles"
    )

    @field_validator("model_repository", mode="before")
    @classmethod
    def _path_or_url(cls, value: object) -> object:
        """An address stays text, since a path would lose one of its slashes."""
        scheme, separator, _ = str(value).partition("://")
        if not separator:
            return Path(str(value))
        if scheme not in REMOTE_SCHEMES:
            raise ValueError(f"{scheme}:// is not known; use a folder, s3://BUCKET/FOLDER or gs://BUCKET/FOLDER")
        return value

    @field_validator("load_model", mode="before")
    @classmethod
    def _split_names(cls, value: object) -> object:
        return [name.strip() for name in value.split(",") if name.strip()] if isinstance(value, str) else value

    @field_validator("listen", "metrics_listen")
    @classmethod
    def _check_address(cls, value: str) -> str:
        split_address(value)
        return value

    @model_validator(mode="before")
    @classmethod
    def _imply_explicit(cls, values: dict[str, Any]) -> dict[str, Any]:
        if values.get("load_model") and "model_control_mode" not in values:
            return {**values, "model_control_mode": "explicit"}
        return values

    @model_validator(mode="after")
    def _check_together(self) -> Self:
        if self.load_model and self.model_control_mode != "explicit":
            raise ValueError("load_model needs model_control_mode explicit")
        if (self.tls_cert is None) != (self.tls_key is None):
            raise ValueError("tls_cert and tls_key go together; give both or none")
        if self.tls_client_ca is not None and self.tls_cert is None:
            raise ValueError("tls_client_ca needs tls_cert and tls_key")
        if not self.insecure and not (self.tls_cert and self.tokens_file):
            for field in ("listen", "metrics_listen"):
                if not is_loopback(getattr(self, field)):
                    raise ValueError(
                        f"{field} {getattr(self, field)} can be reached from other machines without TLS and tokens; "
                        "say --insecure if that is meant"
                    )
        return self

    @property
    def repository_cache(self) -> Path:
        """Where the copy of a model repository on s3:// or gs:// lies."""
        return self.state_dir / "repository"

    def effective(self) -> dict[str, Any]:
        """All values as JSON-like data for the log at start. Secrets are files here, of which only the names appear."""
        return self.model_dump(mode="json")


def load_config(
    flags: Mapping[str, Any] | None = None,
    config_file: Path | None = None,
    environment: Mapping[str, str] | None = None,
) -> ServerConfig:
    """Puts defaults, file, environment and flags together.

    Args:
        flags: Values by field name; they win.
        config_file: A TOML file that must exist. None: ATELIER_CONFIG, or atelier.toml where there is one.
        environment: None: the process's own.

    Raises:
        InvalidArgument: A value is wrong or a key unknown; the message names it and where it was set.
    """
    environment = os.environ if environment is None else environment
    from_file = _read_file(config_file, environment)
    from_environment = _read_environment(environment)
    try:
        return ServerConfig(**{**from_file, **from_environment, **(flags or {})})
    except ValidationError as error:
        first = error.errors()[0]
        field = str(first["loc"][0]) if first["loc"] else ""
        message = str(first["msg"]).removeprefix("Value error, ")
        where = f"{field} ({_origin(field, flags or {}, from_environment, from_file)}): " if field else ""
        raise InvalidArgument(f"{where}{message}", field=field) from None


def split_address(address: str) -> tuple[str, int]:
    """Takes HOST:PORT apart; an IPv6 host stands in brackets.

    Raises:
        ValueError: It is no such address.
    """
    host, separator, port = address.rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    if not separator or not host or (":" in host and not bracketed) or not re.fullmatch(r"\d{1,5}", port):
        raise ValueError(f"{address!r} is not HOST:PORT, such as 127.0.0.1:8001 or [::1]:8001")
    if int(port) > 65535:
        raise ValueError(f"port {port} is above 65535")
    return host.strip("[]"), int(port)


def is_loopback(address: str) -> bool:
    """Whether HOST:PORT can be reached from this machine only."""
    host, _ = split_address(address)
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _read_file(path: Path | None, environment: Mapping[str, str]) -> dict[str, Any]:
    named = path or (Path(environment["ATELIER_CONFIG"]) if environment.get("ATELIER_CONFIG") else None)
    path = named or DEFAULT_CONFIG_FILE
    if not path.is_file():
        if named:
            raise InvalidArgument(f"the configuration file {path} does not exist", field="config")
        return {}
    try:
        values = tomllib.loads(path.read_text())
    except (ValueError, OSError) as error:
        raise InvalidArgument(f"the configuration file {path} cannot be read: {error}", field="config") from None
    for key in values.keys() - ServerConfig.model_fields.keys():
        raise InvalidArgument(f"{path}: unknown key {key!r}{_suggest(key)}", field=key)
    return values


def _read_environment(environment: Mapping[str, str]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for variable, value in environment.items():
        if not variable.startswith(ENVIRONMENT_PREFIX) or variable in _FOREIGN_VARIABLES:
            continue
        key = variable.removeprefix(ENVIRONMENT_PREFIX).lower()
        if key in ServerConfig.model_fields:
            values[key] = value
        elif not _KUBERNETES_VARIABLE.fullmatch(variable):
            raise InvalidArgument(f"unknown environment variable {variable}{_suggest(key, variable=True)}", field=key)
    return values


def _suggest(key: str, *, variable: bool = False) -> str:
    nearest = get_close_matches(key, ServerConfig.model_fields, n=1)
    if not nearest:
        return ""
    return f"; did you mean {ENVIRONMENT_PREFIX + nearest[0].upper() if variable else nearest[0]}?"


def _origin(
    field: str, flags: Mapping[str, Any], from_environment: Mapping[str, Any], from_file: Mapping[str, Any]
) -> str:
    if field in flags:
        return "--" + field.replace("_", "-")
    if field in from_environment:
        return ENVIRONMENT_PREFIX + field.upper()
    return "configuration file" if field in from_file else "default"
