"""The lines of docs/11-clients.md that call a server with buf curl and grpcurl do what the page says."""

import json
import os
import re
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from google.protobuf import json_format, message_factory

from atelier.v1 import brand_pb2, image_generation_pb2, model_pb2
from atelier_server.testing import echo_server_in_thread, write_echo_model
from tests.client.scripted import png

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "11-clients.md").read_text()
LINES = [line for block in re.findall(r"```[^\n]*\n(.*?)```", PAGE, flags=re.S) for line in block.splitlines()]
BUF = [line for line in LINES if "buf curl " in line]
GRPCURL = [line for line in LINES if "grpcurl " in line]
PLAIN, SECURE = "127.0.0.1:8001", "images.example.com:8001"


@pytest.fixture(scope="module")
def addresses(tmp_path_factory: pytest.TempPathFactory, certificates: Path) -> Iterator[dict[str, str]]:
    """Two servers with a model named starter, one of them with TLS."""
    plain, secure = tmp_path_factory.mktemp("plain"), tmp_path_factory.mktemp("secure")
    for folder in (plain, secure):
        write_echo_model(folder / "models", "starter")
    tls = {"tls_cert": certificates / "server.pem", "tls_key": certificates / "server.key"}
    with echo_server_in_thread(plain) as one, echo_server_in_thread(secure, **tls) as other:
        yield {PLAIN: one, SECURE: other}


@pytest.fixture
def folder(tmp_path: Path, certificates: Path) -> Path:
    (tmp_path / "bag.png").write_bytes(png(3, 128))
    (tmp_path / "token").write_text("secret")
    shutil.copy(certificates / "ca.pem", tmp_path)
    return tmp_path


def run(program: str, line: str, addresses: dict[str, str], folder: Path) -> str:
    """What a line prints; one that watches is ended after its first message."""
    tools = sorted(ROOT.glob(f"build/tools/*/node_modules/.bin/{program}"))
    path = os.pathsep.join([*(str(tool.parent) for tool in tools), os.environ["PATH"]])
    for needed in {program, *re.findall(r"\| (jq) ", line)}:
        if shutil.which(needed, path=path) is None:
            pytest.skip(f"{needed} is not installed")
    for written, real in addresses.items():
        line = line.replace(written, real)
    environment = {**os.environ, "PATH": path}
    command = ["bash", "-o", "pipefail", "-c", line]
    with subprocess.Popen(
        command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True
    ) as process:
        assert process.stdout is not None
        if line.endswith("/Watch"):
            first = next((text for text in process.stdout if b"status" in text), b"")
            os.killpg(process.pid, signal.SIGTERM)
            return first.decode()
        out, err = process.communicate(timeout=60)
    assert process.returncode == 0, f"{line}\n{err.decode()}"
    return out.decode()


def check(line: str, printed: str, folder: Path) -> None:
    """A line's answer has what its call answers with."""
    expected = {
        "--list-services": "atelier.v1.BrandService",
        "--list-methods": "atelier.v1.ImageGenerationService/Generate",
        " list": "Generate",
        "describe": "message GenerateRequest",
        "/Health": '"status"',
        "/GetMetrics": '"windowSeconds"',
        "/ListModels": '"starter"',
        "/Score": '"scores"',
        "/Watch": "SERVING",
        "/Generate": '"imageCompleted"',
    }
    if "> made.png" in line:
        assert (folder / "made.png").read_bytes().startswith(b"\x89PNG")
        return
    (mark, words) = next((mark, words) for mark, words in expected.items() if mark in line.replace("-H", ""))
    assert words in printed, (mark, printed)


@pytest.mark.parametrize("line", BUF)
def test_buf_curl(line: str, addresses: dict[str, str], folder: Path) -> None:
    check(line, run("buf", line, addresses, folder), folder)


@pytest.mark.parametrize("line", GRPCURL)
def test_grpcurl(line: str, addresses: dict[str, str], folder: Path) -> None:
    check(line, run("grpcurl", line, addresses, folder), folder)


@pytest.mark.parametrize("line", [line for line in BUF + GRPCURL if "atelier.v1." in line and " list " not in line])
def test_methods_and_messages_are_the_contracts(line: str) -> None:
    """Also where a program is not installed."""
    modules = (image_generation_pb2, brand_pb2, model_pb2)
    services = {service.full_name: service for m in modules for service in m.DESCRIPTOR.services_by_name.values()}
    if found := re.search(r"(atelier\.v1\.\w+Service)/(\w+)", line):
        method = services[found[1]].methods_by_name[found[2]]
        request = message_factory.GetMessageClass(method.input_type)()
        for text in re.findall(r"(?:-d|printf) '(\{.*?\})'", line):
            json_format.ParseDict(json.loads(text.replace("%s", "")), request)
    else:
        assert re.search(r"describe atelier\.v1\.GenerateRequest$", line)


def test_the_page_covers_what_callers_need() -> None:
    for lines, words in ((BUF, "-list-services"), (GRPCURL, " list"), (GRPCURL, "describe")):
        assert any(words in line for line in lines)
    for lines in (BUF, GRPCURL):
        for method in ("/Generate", "/Score", "/Health", "/Watch"):
            assert any(method in line for line in lines)
        assert any("cacert" in line and "Bearer" in line for line in lines)
