"""The three distributions: what they declare, pin and import fits together."""

import ast
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).resolve().parents[2]
OWN = {"atelier-server", "atelier-protos", "atelier-client"}
PROJECTS = {
    "atelier-server": (ROOT / "pyproject.toml", ROOT / "server" / "atelier_server"),
    "atelier-protos": (ROOT / "protos" / "pyproject.toml", ROOT / "protos" / "python"),
    "atelier-client": (ROOT / "clients" / "python" / "pyproject.toml", ROOT / "clients" / "python" / "atelier_client"),
}


def project(name: str) -> dict[str, object]:
    """The [project] table of a distribution."""
    table: dict[str, object] = tomllib.loads(PROJECTS[name][0].read_text())["project"]
    return table


def requirements(name: str, *, extras: bool = True) -> list[Requirement]:
    """What a distribution depends on, with all its extras or without any."""
    table = project(name)
    texts = list(table["dependencies"])
    if extras:
        texts += [text for group in table.get("optional-dependencies", {}).values() for text in group]
    return [Requirement(text) for text in texts]


def pins() -> dict[str, Version]:
    """The exact versions of constraints.txt."""
    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if line and not line.startswith("#")]
    parts = [line.split("==") for line in lines]
    return {canonicalize_name(name): Version(version) for name, version in parts}


def imported_names(folder: Path) -> Iterator[tuple[Path, str]]:
    """Top-level names imported anywhere in the modules below `folder`."""
    for path in folder.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                yield from ((path, alias.name.split(".")[0]) for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
                yield path, node.module.split(".")[0]


@pytest.mark.parametrize("name", PROJECTS)
def test_every_dependency_is_pinned_within_its_range(name: str) -> None:
    pinned = pins()
    for requirement in requirements(name):
        key = canonicalize_name(requirement.name)
        if key not in OWN:
            assert key in pinned, f"{requirement.name} is not in constraints.txt"
            assert pinned[key] in requirement.specifier, f"{requirement} excludes the pinned {pinned[key]}"


def test_no_pin_forces_a_cpu_or_cuda_build() -> None:
    assert [name for name, version in pins().items() if version.local] == []


def test_the_stub_compiler_loads_on_the_oldest_protobuf_we_support() -> None:
    lines = (ROOT / "protos" / "requirements-compiler.txt").read_text().splitlines()
    compiler = dict(line.split("==") for line in lines if "==" in line)
    for name in PROJECTS:
        for requirement in requirements(name):
            if requirement.name == "protobuf":
                assert Version(compiler["protobuf"]) in requirement.specifier


@pytest.mark.parametrize("name", PROJECTS)
def test_every_import_is_declared(name: str) -> None:
    """Also the lazy ones: an import inside a function fails only at a user's."""
    declared = {canonicalize_name(requirement.name) for requirement in requirements(name)} | {name}
    providers = {top: {canonicalize_name(dist) for dist in dists} for top, dists in packages_distributions().items()}
    local = {"atelier": "atelier-protos", "atelier_client": "atelier-client", "atelier_server": "atelier-server"}
    undeclared = set()
    for path, top in imported_names(PROJECTS[name][1]):
        if top in sys.stdlib_module_names:
            continue
        given_by = {local[top]} if top in local else providers.get(top, set())
        if not given_by & declared:
            undeclared.add((str(path.relative_to(ROOT)), top))
    assert undeclared == set()


def test_own_distributions_accept_each_other() -> None:
    server = (ROOT / "server" / "atelier_server" / "__init__.py").read_text()
    version = ast.literal_eval(server.split("__version__ = ")[1].split("\n")[0])
    for name in PROJECTS:
        assert project(name).get("version", version) == version
        for requirement in requirements(name):
            if requirement.name in OWN:
                assert Version(version) in requirement.specifier


@pytest.mark.parametrize("name", PROJECTS)
def test_each_distribution_carries_the_licence(name: str) -> None:
    copy = PROJECTS[name][0].with_name("LICENSE")
    assert copy.read_bytes() == (ROOT / "LICENSE").read_bytes()
    assert project(name)["license"] == "Apache-2.0"


def test_no_package_hides_a_folder_of_several() -> None:
    """An __init__.py there would turn the folder itself into a package."""
    folders = ("server", "clients", "clients/python", "models", "protos", "protos/python", "protos/python/atelier")
    assert [folder for folder in folders if (ROOT / folder / "__init__.py").exists()] == []
