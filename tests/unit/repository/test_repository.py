"""The repository on disk: what is found, what lacks, and that nothing leads out of it."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from atelier_server.errors import InvalidArgument, NotFound
from atelier_server.repository import repository as module
from atelier_server.repository.repository import ModelEntry, Repository, locate

ROOT = Path(__file__).resolve().parents[3]
SHIPPED = {"starter", "starter_clip", "starter_brand", "sdxl", "clip_vit_l14", "brand_dinov2", "openai_images"}


def add(root: Path, name: str, config: str = 'backend: "echo"', versions: tuple[str, ...] = ("1",)) -> Path:
    folder = root / name
    for version in versions:
        (folder / version).mkdir(parents=True)
    folder.mkdir(exist_ok=True)
    (folder / "config.pbtxt").write_text(config)
    return folder


def entry(root: Path, name: str = "m", **environment: str) -> ModelEntry:
    return Repository(root, environment).find(name)


def test_models_come_in_the_order_of_their_names_and_other_folders_are_none(tmp_path: Path) -> None:
    add(tmp_path, "b")
    add(tmp_path, "a")
    add(tmp_path, ".hidden")
    (tmp_path / "notes").mkdir()
    (tmp_path / "README.md").write_text("")
    assert [one.name for one in Repository(tmp_path).scan()] == ["a", "b"]


@pytest.fixture
def ordinary_user() -> Iterator[Path]:
    """A folder of a user to whom permissions mean something."""
    root = Path(tempfile.mkdtemp())
    root.chmod(0o755)
    before = os.geteuid()
    if before == 0:
        os.chown(root, 65534, -1)
        os.seteuid(65534)
    yield root
    os.seteuid(before)
    for folder in (root, *root.iterdir()):
        folder.chmod(0o755)
    shutil.rmtree(root)


def test_a_folder_that_cannot_be_read_is_no_other_models_trouble(ordinary_user: Path) -> None:
    """A file system of its own has a lost+found at its top, for the superuser only."""
    add(ordinary_user, "good")
    add(ordinary_user, "closed").chmod(0)
    add(ordinary_user, "unlisted").chmod(0o311)
    (ordinary_user / "lost+found").mkdir(mode=0)
    repository = Repository(ordinary_user)
    problems = {one.name: one.problem for one in repository.scan()}
    assert problems.keys() == {"closed", "good", "unlisted"}
    assert problems["good"] == ""
    assert problems["closed"] == "closed/config.pbtxt cannot be read: Permission denied"
    assert problems["unlisted"] == "its folder cannot be read: Permission denied"
    assert repository.find("closed").problem == problems["closed"]


def test_versions_are_positive_numbers_and_the_newest_is_chosen(tmp_path: Path) -> None:
    add(tmp_path, "m", versions=("1", "10", "9", "0", "01", "-3", "latest"))
    (tmp_path / "m" / "11").write_text("a file is no version")
    found = entry(tmp_path)
    assert (found.versions, found.chosen, found.problem) == ((1, 9, 10), (10,), "")


def test_specs_tell_a_backend_everything(tmp_path: Path) -> None:
    config = """backend: "echo" instance_group [ { count: 2 kind: KIND_CPU } ]
    parameters { key: "dtype" value { string_value: "float32" } }
    parameters { key: "threads" value { string_value: "3" } }"""
    add(tmp_path, "m", config)
    first, second = entry(tmp_path).specs(1)
    assert first == second
    assert (first.name, first.version, first.folder) == ("m", "1", tmp_path / "m" / "1")
    assert (first.device, first.dtype, first.threads) == ("cpu", "float32", 3)
    assert first.parameters == {"dtype": "float32", "threads": "3"}
    assert first.config["backend"] == "echo"
    assert entry(tmp_path).specs(1, dtype="bfloat16")[0].dtype == "bfloat16"


def test_missing_weights_come_with_the_command_that_fetches_them(tmp_path: Path) -> None:
    source = 'backend: "sdxl" parameters { key: "source_repo" value { string_value: "somebody/model" } }'
    add(tmp_path, "m", source, versions=())
    found = entry(tmp_path)
    assert not found.provided
    assert "atelier-server models fetch m" in found.problem
    add(tmp_path, "own", 'backend: "onnx"')
    assert "1/model.onnx is missing; put model.onnx into own/" in entry(tmp_path, "own").problem


@pytest.mark.parametrize(
    ("config", "file"),
    [
        ('backend: "sdxl"', "model_index.json"),
        ('backend: "onnx"', "model.onnx"),
        ('backend: "onnx" default_model_filename: "net.onnx"', "net.onnx"),
        ('backend: "onnx" parameters { key: "required_files" value { string_value: "a/v.onnx" } }', "a/v.onnx"),
    ],
)
def test_the_files_that_a_backend_wants(tmp_path: Path, config: str, file: str) -> None:
    folder = add(tmp_path, "m", config)
    assert f"1/{file} is missing" in entry(tmp_path).problem
    (folder / "1" / file).parent.mkdir(exist_ok=True)
    (folder / "1" / file).write_text("")
    assert entry(tmp_path).problem == ""
    assert entry(tmp_path).provided


def test_a_missing_key_means_never_provided(tmp_path: Path) -> None:
    config = 'backend: "openai" parameters { key: "required_environment" value { string_value: "A_KEY" } }'
    add(tmp_path, "m", config, versions=())
    found = entry(tmp_path)
    assert (found.provided, found.versions) == (False, (1,))
    assert "A_KEY" in found.problem
    assert entry(tmp_path, A_KEY="x").problem == ""


def test_a_broken_configuration_is_a_problem_and_not_an_error(tmp_path: Path) -> None:
    add(tmp_path, "m", "backendd: 3")
    found = entry(tmp_path)
    assert (found.config, found.provided, found.backend, found.role) == (None, True, "", "")
    assert found.problem.startswith("m/config.pbtxt:1:1: ")


def test_a_policy_that_chooses_nothing_is_a_problem(tmp_path: Path) -> None:
    add(tmp_path, "m", 'backend: "echo" version_policy { specific { versions: [ 5 ] } }', versions=("1", "2"))
    assert "none of the versions 1, 2" in entry(tmp_path).problem


def test_links_do_not_lead_out_of_the_repository(tmp_path: Path) -> None:
    outside, root = tmp_path / "outside", tmp_path / "models"
    add(outside, "m")
    root.mkdir()
    (root / "linked").symlink_to(outside / "m")
    add(root, "version_linked", versions=())
    (root / "version_linked" / "1").symlink_to(outside / "m" / "1")
    for name in ("linked", "version_linked"):
        assert "leads out of the repository" in entry(root, name).problem
    add(root, "twin", versions=())
    (root / "real").mkdir()
    (root / "twin" / "1").symlink_to(root / "real")
    assert entry(root, "twin").problem == ""


@pytest.mark.parametrize("name", ["../m", "..", ".", "", "/etc", "a/b", "a\\b", "m\n", "ü", "absent"])
def test_names_that_are_none_are_not_found(tmp_path: Path, name: str) -> None:
    add(tmp_path / "models" / "a", "b")
    add(tmp_path, "m")
    with pytest.raises(NotFound) as caught:
        Repository(tmp_path / "models").find(name)
    assert caught.value.field == "model_name"


def test_a_folder_whose_name_is_none_is_shown_with_its_problem(tmp_path: Path) -> None:
    add(tmp_path, "my model")
    (found,) = Repository(tmp_path).scan()
    assert "rename the folder" in found.problem


def test_the_packaged_repository_stands_in_for_the_default_one_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    packaged = tmp_path / "package"
    add(packaged / "models", "starter")
    monkeypatch.setattr(module, "files", lambda _: packaged)
    assert locate(Path("models")) == packaged / "models"
    with pytest.raises(InvalidArgument, match="others is no folder"):
        locate(Path("others"))
    (tmp_path / "models").mkdir()
    assert locate(Path("models")) == tmp_path / "models"


def test_the_shipped_descriptions_are_right() -> None:
    entries = {one.name: one for one in Repository(ROOT / "models", environment={}).scan()}
    assert entries.keys() >= SHIPPED
    for name in SHIPPED:
        assert entries[name].config is not None, entries[name].problem
        assert entries[name].role in {"diffusion", "clip", "brand"}
        assert not entries[name].problem or not entries[name].provided
    assert entries["sdxl"].parameters["native_width"] == "1024"
    for one in entries.values():
        assert ("source_repo" in one.parameters) == ("source_revision" in one.parameters)
