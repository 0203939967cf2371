"""The examples in other languages, compiled and run against the real server; slow, and only where a toolchain is."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from atelier_server.testing import echo_server_in_thread

ROOT = Path(__file__).resolve().parents[2]
CLIENTS = ROOT / "clients"
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with echo_server_in_thread(tmp_path_factory.mktemp("server")) as running:
        yield running


def build(language: str, folder: Path, *needed: str) -> None:
    """Builds an example; skips the test where a program, or a file that the build reads, is missing."""
    for name in needed:
        if not (Path(name).exists() if name.startswith("/") else shutil.which(name)):
            pytest.skip(f"{name} is not installed")
    done = subprocess.run([CLIENTS / language / "build.sh", folder], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def check(command: list[str], address: str, folder: Path) -> None:
    """Runs an example and looks at its picture."""
    picture = folder / "bag.png"
    done, wrong = (
        subprocess.run([*command, address, prompt, path], capture_output=True, text=True, check=False, timeout=120)
        for prompt, path in (("a bag", picture), ("", folder / "none.png"))
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"{picture} 1024x1024 seed 42\n"
    data = picture.read_bytes()
    assert data.startswith(b"\x89PNG")
    assert data.endswith(b"IEND\xaeB`\x82")
    assert wrong.returncode == 1
    assert "prompt" in wrong.stderr


def test_cpp(address: str, tmp_path: Path) -> None:
    build("cpp", tmp_path, "g++", "protoc", "grpc_cpp_plugin", "pkg-config", "/usr/include/grpcpp/grpcpp.h")
    check([str(tmp_path / "generate")], address, tmp_path)


def test_go(address: str, tmp_path: Path) -> None:
    if os.environ.get("GO111MODULE") != "off":
        pytest.skip("set GO111MODULE=off and GOPATH to folders that hold google.golang.org/grpc")
    build("go", tmp_path, "go", "protoc", "protoc-gen-go", "protoc-gen-go-grpc")
    check([str(tmp_path / "generate")], address, tmp_path)


def test_java(address: str, tmp_path: Path) -> None:
    build("java", tmp_path, "javac", "protoc", "/usr/share/java/grpc-netty.jar", "/usr/share/java/perfmark-api.jar")
    classpath = f"{tmp_path}:{(tmp_path / 'classpath').read_text()}"
    check(["java", "-cp", classpath, "Generate"], address, tmp_path)
