"""What is on disk: a folder of models, each with its config.pbtxt and its numbered version folders."""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from importlib.resources import files
from pathlib import Path

from atelier_server._generated.atelier.kserve.model_config_pb2 import ModelConfig
from atelier_server.backends.base import ModelSpec
from atelier_server.errors import InvalidArgument, NotFound
from atelier_server.repository.ensemble import PLATFORM, is_ensemble, parts_of
from atelier_server.repository.ensemble_parts import Part, part_problems
from atelier_server.repository.model_config import (
    CONFIG_FILE,
    as_plain_data,
    choose_versions,
    instance_devices,
    parameters_of,
    problem_told,
    read_model_config,
)

NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*")
"""Names of models; a leading dot would hide a folder, and '..' would leave the repository."""
VERSION = re.compile(r"[1-9][0-9]{0,17}")
_BACKEND_FILES = {"sdxl": ("model_index.json",), "onnx": ("model.onnx",)}
"""What a version's folder must hold, by backend; the parameter required_files overrides it."""
_LEADS_OUT = "leads out of the repository; copy it, do not link"
_BACKENDS_WITHOUT_FILES = ("echo", "openai")


@dataclass(frozen=True, slots=True)
class ModelEntry:
    """A model as it lies on disk.

    `versions` are the folders there, `chosen` those that the version policy serves, both ascending. `problem` says why
    it cannot be loaded, and what to do; `provided` is False when that is only because its weights, or a key in the
    environment, were never given. `config` is None when config.pbtxt is wrong. `temporary` is a folder to be removed
    with the model, because its files came with a load request.
    """

    name: str
    folder: Path
    config: ModelConfig | None
    versions: tuple[int, ...] = ()
    chosen: tuple[int, ...] = ()
    problem: str = ""
    provided: bool = True
    temporary: Path | None = None

    @property
    def backend(self) -> str:
        """The backend's name, "ensemble" for a chain of models, empty when config.pbtxt is wrong."""
        if self.config is None:
            return ""
        return PLATFORM if is_ensemble(self.config) else self.config.backend

    @property
    def parameters(self) -> dict[str, str]:
        """The `parameters {}` of config.pbtxt."""
        return parameters_of(self.config) if self.config else {}

    @property
    def parts(self) -> tuple[str, ...]:
        """The models that an ensemble chains; empty for others."""
        return parts_of(self.config) if self.config else ()

    @property
    def role(self) -> str:
        """diffusion, clip, brand, or empty."""
        return self.parameters.get("role", "")

    def specs(self, version: int, dtype: str | None = None) -> tuple[ModelSpec, ...]:
        """What the backends of a version are told, one an instance.

        Args:
            version: One of `chosen`.
            dtype: Overrides the model's own parameter.
        """
        if self.config is None:
            raise ValueError(f"{self.name} has no configuration")
        parameters = self.parameters
        return tuple(
            ModelSpec(
                name=self.name,
                version=str(version),
                folder=self.folder / str(version),
                parameters=parameters,
                config=as_plain_data(self.config),
                device=device,
                dtype=dtype or parameters.get("dtype", "auto"),
                threads=int(parameters.get("threads", "0")),
            )
            for device in instance_devices(self.config)
        )


class Repository:
    """A folder of models.

    Args:
        root: The folder. The default `models` is found in the installed package where the present folder has none.
        environment: Where required_environment is looked up; None: the process's own.

    Raises:
        InvalidArgument: There is no such folder.
    """

    def __init__(self, root: Path, environment: Mapping[str, str] | None = None) -> None:
        self.root = locate(root)
        self._environment = os.environ if environment is None else environment

    def scan(self) -> list[ModelEntry]:
        """Reads the repository anew; models in the order of their names. Folders without config.pbtxt are no models."""
        folders = sorted(path for path in self.root.iterdir() if _is_model(path))
        return [self._read(folder) for folder in folders if not folder.name.startswith(".")]

    def find(self, name: str) -> ModelEntry:
        """Reads one model anew.

        Raises:
            NotFound: There is none of this name.
        """
        if not NAME.fullmatch(name) or not _is_model(self.root / name):
            raise NotFound(
                f"there is no model {name!r} in the repository; `atelier-server models list` shows what there is",
                reason="MODEL_NOT_FOUND",
                field="model_name",
            )
        return self._read(self.root / name)

    def overridden(self, folder: Path, config: ModelConfig) -> ModelEntry:
        """A model with another configuration than its config.pbtxt, in a folder here or elsewhere."""
        return self._read(folder, config)

    def _read(self, folder: Path, config: ModelConfig | None = None) -> ModelEntry:
        entry = self._read_alone(folder, config)
        if entry.config is None or entry.problem or not is_ensemble(entry.config):
            return entry
        for problem in part_problems(entry.config, self._part):
            text = "" if config else (folder / CONFIG_FILE).read_text(encoding="utf-8")
            return replace(entry, problem=problem_told(text, f"{folder.name}/{CONFIG_FILE}", *problem))
        return entry

    def _part(self, name: str) -> Part | None:
        """A model that an ensemble names."""
        if not NAME.fullmatch(name) or not _is_model(self.root / name):
            return None
        entry = self._read_alone(self.root / name)
        return Part(entry.config, entry.chosen) if entry.config else None

    def _read_alone(self, folder: Path, config: ModelConfig | None = None) -> ModelEntry:
        """Reads a model without looking at those that it may chain. One that cannot be read is no other's trouble."""
        try:
            return self._checked(folder, config)
        except OSError as error:
            return ModelEntry(folder.name, folder, None, problem=f"its folder cannot be read: {error.strerror}")

    def _checked(self, folder: Path, config: ModelConfig | None) -> ModelEntry:
        name = folder.name
        if not NAME.fullmatch(name):
            return ModelEntry(name, folder, None, problem="rename the folder: letters, digits, '.', '_' and '-' only")
        if not _inside(folder / CONFIG_FILE, folder.parent):
            return ModelEntry(name, folder, None, problem=f"the folder {_LEADS_OUT}")
        try:
            config = config or read_model_config(folder / CONFIG_FILE)
        except InvalidArgument as error:
            return ModelEntry(name, folder, None, problem=error.message)
        versions = self._versions(folder, config)
        chosen = choose_versions(config, versions)
        problem = self._missing_environment(config) or self._missing_files(folder, config, versions, chosen)
        provided = not problem
        if not problem and not all(_inside(folder / str(version), folder.parent) for version in chosen):
            problem = f"a version's folder {_LEADS_OUT}"
        return ModelEntry(name, folder, config, versions, chosen, problem, provided)

    def _versions(self, folder: Path, config: ModelConfig) -> tuple[int, ...]:
        numbers = [int(path.name) for path in folder.iterdir() if VERSION.fullmatch(path.name) and path.is_dir()]
        if not numbers and (is_ensemble(config) or config.backend in _BACKENDS_WITHOUT_FILES):
            return (1,)
        return tuple(sorted(numbers))

    def _missing_environment(self, config: ModelConfig) -> str:
        """`required_environment` lists variables; A|B means that either will do."""
        required = parameters_of(config).get("required_environment", "").split()
        missing = [
            names.replace("|", " or ")
            for names in required
            if not any(self._environment.get(name) for name in names.split("|"))
        ]
        return f"{' and '.join(missing)} must be set in the server's environment" if missing else ""

    def _missing_files(
        self, folder: Path, config: ModelConfig, versions: tuple[int, ...], chosen: tuple[int, ...]
    ) -> str:
        if versions and not chosen:
            return f"version_policy chooses none of the versions {', '.join(map(str, versions))}"
        if not chosen:
            return f"its weights are missing; {how_to_provide(folder.name, config)}"
        for version in chosen:
            for file in required_files(config):
                if not (folder / str(version) / file).is_file():
                    return f"{version}/{file} is missing; {how_to_provide(folder.name, config)}"
        return ""


def _is_model(folder: Path) -> bool:
    """Whether it has a config.pbtxt; a folder that cannot be looked into may, unless its name is none of a model."""
    try:
        return (folder / CONFIG_FILE).is_file()
    except OSError:
        return NAME.fullmatch(folder.name) is not None


def _inside(path: Path, root: Path) -> bool:
    return path.resolve().is_relative_to(root.resolve())


def required_files(config: ModelConfig) -> tuple[str, ...]:
    """The files that a version's folder must hold for the model to be loaded, relative to it."""
    named = parameters_of(config).get("required_files", "").split()
    if named:
        return tuple(named)
    if config.default_model_filename:
        return (config.default_model_filename,)
    return _BACKEND_FILES.get(config.backend, ())


def how_to_provide(name: str, config: ModelConfig) -> str:
    """The sentence that tells how a model gets its weights."""
    parameters = parameters_of(config)
    if "source_repo" in parameters and (config.backend == "sdxl" or "source_kind" in parameters):
        return f"run `atelier-server models fetch {name}`"
    files = ", ".join(required_files(config)) or "its files"
    return f"put {files} into {name}/<version>/ of the model repository"


def locate(root: Path) -> Path:
    """The folder itself, or the starter repository packaged with the wheel in place of the default `models`.

    Raises:
        InvalidArgument: There is neither.
    """
    if root.is_dir():
        return root.absolute()
    packaged = Path(str(files("atelier_server") / "models"))
    if root == Path("models") and packaged.is_dir():
        return packaged
    raise InvalidArgument(
        f"the model repository {root} is no folder; name it with --model-repository", field="model_repository"
    )
