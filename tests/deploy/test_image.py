"""The Dockerfile: what it says, and (slow) its steps in an empty folder and environment, up to a healthy server."""

import json
import re
import signal
import socket
import subprocess
import time
from pathlib import Path

import grpc
import pytest

from atelier.v1 import image_generation_pb2, image_generation_pb2_grpc
from atelier_server.config import ServerConfig
from tests.deploy.docker_kit import Image, instructions_of, read_stages

ROOT = Path(__file__).resolve().parents[2]
STAGES = read_stages(ROOT / "Dockerfile")
TARGETS = ("server", "server-cpu")


@pytest.mark.parametrize("target", TARGETS)
def test_a_target_runs_as_nobody_in_particular_behind_tini_with_a_health_check(target: str) -> None:
    instructions = list(instructions_of(STAGES, target))
    (user,) = [one.text for one in instructions if one.name == "USER"]
    assert re.fullmatch(r"[1-9]\d+:[1-9]\d+", user)  # numbers, so that runAsNonRoot can be checked
    (entry,) = [one.text for one in instructions if one.name == "ENTRYPOINT"]
    assert json.loads(entry) == ["tini", "--", "atelier-server"]
    (check,) = [one.text for one in instructions if one.name == "HEALTHCHECK"]
    assert json.loads(check.partition(" CMD ")[2]) == ["atelier-server", "health"]


@pytest.mark.parametrize("target", TARGETS)
def test_a_target_says_nothing_insecure_by_itself(target: str) -> None:
    instructions = list(instructions_of(STAGES, target))
    assert [one.text for one in instructions if "insecure" in one.text.lower()] == []
    assert [json.loads(one.text) for one in instructions if one.name == "CMD"] == [["serve"]]


def test_both_targets_install_with_the_script_that_make_uses() -> None:
    installs = {name: STAGES[f"install-{name}"].instructions[-1].text for name in ("cpu", "gpu")}
    assert installs["cpu"].replace(" cpu ", " gpu ") == installs["gpu"]
    assert installs["cpu"].startswith("scripts/install.sh ")
    assert "scripts/install.sh $(VENV) $(DEVICE)" in (ROOT / "Makefile").read_text()


def test_every_variable_of_ours_is_a_setting() -> None:
    names = set(re.findall(r"\bATELIER_(\w+)=", (ROOT / "Dockerfile").read_text()))
    assert names
    assert {name.lower() for name in names} <= ServerConfig.model_fields.keys()


def test_what_is_copied_is_there_and_not_ignored(tmp_path: Path) -> None:
    image = Image(ROOT, tmp_path)
    copies = [one.text.split() for stage in STAGES.values() for one in stage.instructions if one.name == "COPY"]
    sources = {
        word
        for words in copies
        if not words[0].startswith("--from")
        for word in words[:-1]
        if not word.startswith("--")
    }
    assert [source for source in sources if not (ROOT / source).exists()] == []
    assert [source for source in sources if image.ignores(Path(source))] == []


def test_fetched_weights_stay_out_of_the_context(tmp_path: Path) -> None:
    image = Image(ROOT, tmp_path)
    fetched = (ROOT / "models" / ".gitignore").read_text().split("\n")
    folders = [line.strip("/").replace("[1-9]*", "1").replace("*", "sdxl") for line in fetched if line.startswith("/")]
    assert len(folders) >= 4
    assert [folder for folder in folders if not image.ignores(Path("models") / folder)] == []
    assert not image.ignores(Path("models/starter/1"))


@pytest.mark.slow
def test_the_steps_end_in_a_healthy_server(tmp_path: Path) -> None:
    """Minutes: it installs torch and everything else from the package index."""
    image = Image(ROOT, tmp_path)
    began = time.monotonic()
    image.build("server-cpu")
    print(f"\nsteps run in {time.monotonic() - began:.0f} s:", *image.ran, sep="\n  ")
    print("left out, since they need another root:", *image.skipped, sep="\n  ")
    port, metrics = _free_port(), _free_port()
    given = {"ATELIER_LISTEN": f"127.0.0.1:{port}", "ATELIER_METRICS_LISTEN": f"127.0.0.1:{metrics}"}
    began = time.monotonic()
    server = image.start(image.command(), **given)
    try:
        _until_healthy(image, given, server)
        print(f"healthy {time.monotonic() - began:.0f} s after the start")
        _makes_a_picture(port)
        server.send_signal(signal.SIGTERM)
        output, _ = server.communicate(timeout=60)
        assert server.returncode == 0, output
    finally:
        server.kill()
        server.communicate()
    assert _check(image, given) != 0  # the check tells a server that is gone from one that serves


def _until_healthy(image: Image, given: dict[str, str], server: "subprocess.Popen[str]") -> None:
    deadline = time.monotonic() + 180
    while _check(image, given) != 0:
        assert time.monotonic() < deadline, "never healthy"
        assert server.poll() is None, server.communicate()[0]
        time.sleep(1)


def _check(image: Image, given: dict[str, str]) -> int:
    checked = image.start(image.exec["HEALTHCHECK"], **given)
    checked.communicate(timeout=60)
    return checked.returncode


def _makes_a_picture(port: int) -> None:
    request = image_generation_pb2.GenerateRequest(prompt="a red bag", width=64, height=64, num_inference_steps=2)
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        events = list(image_generation_pb2_grpc.ImageGenerationServiceStub(channel).Generate(request, timeout=120))
    assert events[-1].HasField("completed")


def _free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])
