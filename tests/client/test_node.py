"""The Node client against real servers: its own tests, its example, retries, TLS and token, types, package."""

import base64
import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from atelier_server.testing import echo_server_in_thread, write_echo_model
from tests.client.scripted import ScriptedServer, generation, png, refusal

PACKAGE = Path(__file__).resolve().parents[2] / "clients" / "node"
Node = Callable[..., subprocess.CompletedProcess[str]]


def _why_not() -> str:
    if shutil.which("node") is None:
        return "node is not installed"
    if not (PACKAGE / "node_modules" / "@grpc" / "grpc-js").is_dir():
        return "`make node` has not installed the Node client's packages"
    return ""


pytestmark = pytest.mark.skipif(bool(_why_not()), reason=_why_not())


@pytest.fixture
def node(tmp_path: Path) -> Node:
    """Runs node in an empty folder that has the client as a package; a script must print one JSON value."""
    (tmp_path / "node_modules").mkdir()
    (tmp_path / "node_modules" / "atelier-client").symlink_to(PACKAGE)

    def run(*words: str, script: str = "", server: str = "") -> subprocess.CompletedProcess[str]:
        if script:
            (tmp_path / "script.mjs").write_text(f"import {{ Atelier }} from 'atelier-client';\n{script}")
            words = ("script.mjs",)
        environment = {**os.environ, "ATELIER_SERVER": server, "NODE_OPTIONS": ""}
        command = ["node", "--preserve-symlinks-main", *words]
        return subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120, check=False
        )

    return run


def printed(done: subprocess.CompletedProcess[str]) -> Any:
    assert done.returncode == 0, done.stderr + done.stdout
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("server")
    write_echo_model(folder / "models", "echo")
    write_echo_model(folder / "models", "slow", step_seconds=0.05)
    with echo_server_in_thread(folder) as running:
        yield running


def test_its_own_tests(node: Node, address: str, tmp_path: Path) -> None:
    for name in ("test", "src", "package.json"):
        source, target = PACKAGE / name, tmp_path / name
        target.symlink_to(source)
    done = node("--test", "--test-reporter=spec", str(PACKAGE / "test" / "client.test.js"), server=address)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "pass 11" in done.stdout


def test_the_example(node: Node, address: str, tmp_path: Path) -> None:
    done = node(str(PACKAGE / "examples" / "generate.mjs"), address, "a bag", "bag.png")
    assert done.returncode == 0, done.stderr
    assert done.stdout == "bag.png 1024x1024 seed 42 by echo\n"
    assert (tmp_path / "bag.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("page", ["README.md", "clients/node/README.md"])
def test_the_readme(node: Node, address: str, tmp_path: Path, page: str) -> None:
    text = (PACKAGE.parents[1] / page).read_text()
    code = re.findall(r"```js[^\n]*\n(.*?)```", text, flags=re.S)[0]
    imported, body = code.split("\n", 1)
    assert imported == "import { Atelier } from 'atelier-client';"
    done = node(script=body.replace("127.0.0.1:8001", address))
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "bag.png").read_bytes().startswith(b"\x89PNG")


GENERATE = """
const atelier = new Atelier(process.env.ATELIER_SERVER, { token: 'secret', retry: { firstSeconds: 0.01 } });
try {
  const { images } = await atelier.generate('a bag', { seed: 3, %s });
  console.log(JSON.stringify(images[0].base64));
} catch ({ code, reason, message, retryAfterSeconds }) {
  console.log(JSON.stringify({ code, reason, message, retryAfterSeconds }));
}
atelier.close();
"""


def test_a_lost_stream_is_asked_for_again_under_its_name(server: ScriptedServer, node: Node) -> None:
    def lost_twice(request: Any, context: grpc.ServicerContext) -> Any:
        events = generation(request)
        if len(server.asked("Generate")) < 3:
            yield from events[:3]
            raise refusal("UNAVAILABLE", "Come back.", "RUNNER_LOST", retry_after=0.01)
        yield from events

    server.scripts["Generate"] = lost_twice
    data = printed(node(script=GENERATE % "", server=server.target))
    first, second, third = server.asked("Generate")
    assert first.request_id
    assert first.request_id == second.request_id == third.request_id
    assert third.resume_after_sequence == 0
    assert {headers["authorization"] for headers in server.headers} == {"Bearer secret"}
    assert base64.b64decode(data) == png(3)


@pytest.mark.parametrize("kept", [True, False])
def test_half_a_picture_goes_on_only_where_the_server_keeps_it(server: ScriptedServer, node: Node, kept: bool) -> None:
    def cut_in_the_picture(request: Any, context: grpc.ServicerContext) -> Any:
        events = generation(request)
        if len(server.asked("Generate")) == 1:
            yield from events[:6]
            raise refusal("UNAVAILABLE", "Come back.", "RUNNER_LOST", retry_after=0.01)
        yield from events[request.resume_after_sequence :]

    server.scripts["Generate"] = cut_in_the_picture
    found = printed(node(script=GENERATE % ("onDisconnect: 'continue'" if kept else ""), server=server.target))
    if kept:
        assert base64.b64decode(found) == png(3)
        assert [request.resume_after_sequence for request in server.asked("Generate")] == [0, 6]
    else:
        assert (found["code"], found["reason"], found["retryAfterSeconds"]) == ("UNAVAILABLE", "RUNNER_LOST", 0.01)


def test_what_arrives_is_checked(server: ScriptedServer, node: Node) -> None:
    def spoilt(request: Any, context: grpc.ServicerContext) -> Any:
        events = generation(request)
        chunk = next(event.image_chunk for event in events if event.HasField("image_chunk"))
        chunk.data = bytes(len(chunk.data))
        return events

    server.scripts["Generate"] = spoilt
    assert printed(node(script=GENERATE % "", server=server.target))["code"] == "DATA_LOSS"


def test_a_server_that_is_not_there(server: ScriptedServer, node: Node) -> None:
    server.stop()
    found = printed(node(script=GENERATE % "", server=server.target))
    assert found["code"] == "UNAVAILABLE"
    assert server.target in found["message"]


def test_certificates(mutual: ScriptedServer, certificates: Path, node: Node) -> None:
    script = """
    const known = { caFile: '%(folder)s/ca.pem', certFile: '%(folder)s/client.pem', keyFile: '%(folder)s/client.key' };
    const codes = [];
    for (const options of [known, { caFile: known.caFile }, { ...known, caFile: '%(folder)s/other.pem' }, {}]) {
      const atelier = new Atelier(process.env.ATELIER_SERVER, { ...options, retry: { attempts: 1 } });
      codes.push(await atelier.health().then(({ status }) => status, ({ code }) => code));
      atelier.close();
    }
    console.log(JSON.stringify(codes));
    """
    codes = printed(node(script=script % {"folder": certificates}, server=mutual.target))
    assert codes == ["healthy", "UNAVAILABLE", "UNAVAILABLE", "UNAVAILABLE"]


def test_the_types_hold() -> None:
    compiler = PACKAGE / "node_modules" / ".bin" / "tsc"
    if not compiler.exists():
        pytest.skip("typescript is not installed")
    done = subprocess.run([compiler, "--project", "test/tsconfig.json"], cwd=PACKAGE, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_the_package_holds_the_contract_and_names_no_other_host(tmp_path: Path) -> None:
    command = ["npm", "pack", "--silent", "--json", "--pack-destination", str(tmp_path)]
    done = subprocess.run(command, cwd=PACKAGE, capture_output=True, text=True, check=True)
    (packed,) = json.loads(done.stdout[done.stdout.index("[") :])
    names = {file["path"] for file in packed["files"]}
    assert {
        "protos/atelier/v1/image_generation.proto",
        "src/index.js",
        "src/index.d.ts",
        "LICENSE",
        "README.md",
    } <= names
    assert not any("runner" in name or "node_modules" in name for name in names)
    assert not (PACKAGE / "protos").exists()
    lock = json.loads((PACKAGE / "package-lock.json").read_text())
    hosts = {
        package.get("resolved", "https://registry.npmjs.org/").split("/")[2] for package in lock["packages"].values()
    }
    assert hosts == {"registry.npmjs.org"}
