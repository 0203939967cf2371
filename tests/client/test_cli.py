"""The command `atelier`: errors, usage, exit codes and signals."""

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from atelier.v1.image_generation_pb2 import GenerateRequest
from atelier_client.cli import main
from tests.client import scripted
from tests.client.cli_kit import Run, document
from tests.client.scripted import GenerateResponse, Refusal, ScriptedServer, generation, refusal


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (refusal("INVALID_ARGUMENT", "Do this.", "INVALID_ARGUMENT", field="num_images"), 2),
        (refusal("INVALID_ARGUMENT", "Do this.", "MODERATION_BLOCKED", field="prompt"), 2),
        (refusal("UNAVAILABLE", "Do this.", "MODEL_LOADING", retry_after=999.0), 3),
        (refusal("FAILED_PRECONDITION", "Do this.", "GATE_REFUSED"), 4),
        (refusal("DEADLINE_EXCEEDED", "Do this.", "DEADLINE_EXCEEDED"), 5),
        (refusal("CANCELLED", "Do this.", "CANCELLED"), 5),
        (refusal("FAILED_PRECONDITION", "Do this.", "WEIGHTS_MISSING", field="model_name"), 1),
        (refusal("NOT_FOUND", "Do this.", "MODEL_NOT_FOUND", field="model_name"), 1),
        (refusal("RESOURCE_EXHAUSTED", "Do this.", "QUEUE_FULL"), 1),
        (refusal("INTERNAL", "Do\nthis.", "INTERNAL"), 1),
    ],
)
def test_errors_and_exit_codes(server: ScriptedServer, run: Run, error: Refusal, code: int) -> None:
    def refuse(request: Any, context: grpc.ServicerContext) -> Any:
        raise error

    server.scripts["Generate"] = refuse
    found = document(run("generate", "a bag", "--json"), code)
    info, *_ = error.details
    violations = [v.field for d in error.details if hasattr(d, "field_violations") for v in d.field_violations]
    assert found == {
        "error": {
            "code": error.code.name,
            "message": error.message,
            "field": violations[0] if violations else None,
            "reason": info.reason,  # type: ignore[attr-defined]
        }
    }
    outcome = run("generate", "a bag")
    field = f"{violations[0]}: " if violations else ""
    assert outcome == (code, "", f"atelier: {field}Do this. [{info.reason}]\n")  # type: ignore[attr-defined]
    assert os.listdir() == []


@pytest.mark.parametrize(
    ("words", "field"),
    [
        (["generate"], "prompt"),
        (["generate", "a bag", "--style", "lux"], "style"),
        (["generate", "a bag", "--aspect", "round"], "aspect_ratio"),
        (["generate", "a bag", "--size", "640"], "size"),
        (["generate", "a bag", "--seed", "1.5"], "seed"),
        (["generate", "a bag", "--seed", "-1"], "seed"),
        (["generate", "a bag", "-n", "many"], "num_images"),
        (["generate", "a bag", "--timeout", "0"], "timeout"),
        (["generate", "a bag", "--timeout", "nan"], "timeout"),
        (["generate", "a bag", "--metadata", "a"], "metadata"),
        (["generate", "a bag", "-o", "."], "output"),
        (["generate", "a bag", "-o", "file/out.png"], "output"),
        (["generate", "a bag", "--previews", "file"], "previews"),
        (["generate", "a bag", "--ste", "4"], None),
        (["generate", "a", "bag"], None),
        (["generate", "a bag", "--token-file", "no"], "token_file"),
        (["generate", "a bag", "--ca", "no"], "ca_file"),
        (["score"], "image"),
        (["score", "no.png"], "image"),
        (["brand", "create", "acme", "no.png"], "image"),
        (["brand", "add", "acme"], "image"),
        (["brand"], "action"),
        (["models", "load"], "name"),
        (["paint"], "command"),
        ([], "command"),
    ],
)
def test_bad_usage_is_one_line_and_costs_no_call(
    server: ScriptedServer, run: Run, words: list[str], field: str
) -> None:
    Path("file").write_bytes(b"")
    assert document(run(*words, "--json"), 2)["error"]["field"] == field
    code, out, err = run(*words)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert err.startswith("atelier: ")
    assert not server.requests


def test_a_server_that_is_not_there(server: ScriptedServer, run: Run) -> None:
    server.stop()
    error = document(run("health", "--json"), 3)["error"]
    assert (error["code"], server.target in error["message"]) == ("UNAVAILABLE", True)


def test_what_the_server_does_not_offer_is_one_line(run: Run) -> None:
    code, out, err = run("metrics")
    assert (code, out, err.count("\n")) == (1, "", 1)
    assert "does not offer this" in err


def test_the_timeout_holds(server: ScriptedServer, run: Run) -> None:
    def slow(request: Any, context: grpc.ServicerContext) -> Any:
        over = threading.Event()
        context.add_callback(over.set)
        yield generation(request)[0]
        over.wait(30)

    server.scripts["Generate"] = slow
    assert document(run("generate", "a bag", "--timeout", "0.3", "--json"), 5)["error"]["code"] == "DEADLINE_EXCEEDED"


def test_options_before_and_after_the_command(
    server: ScriptedServer, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.scripts["Health"] = lambda request, context: scripted.health()
    Path("token").write_text("from-file\n")
    monkeypatch.setenv("ATELIER_SERVER", "127.0.0.1:1")
    document(run("--server", server.target, "--json", "health"))
    document(run("health", "--json", "--server", server.target, "--token-file", "token"))
    monkeypatch.setenv("ATELIER_TOKEN", "from-environment")
    document(run("--server", server.target, "health", "--json"))
    document(run("--server", server.target, "--token-file", "token", "health", "--json"))
    sent = [headers.get("authorization") for headers in server.headers]
    assert sent == [None, "Bearer from-file", "Bearer from-environment", "Bearer from-file"]


def test_the_process_exits_with_the_code_and_prints_one_line(server: ScriptedServer, tmp_path: Path) -> None:
    server.stop()
    command = [sys.executable, "-m", "atelier_client", "--server", server.target, "generate", "a bag", "--json"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (3, "")
    assert json.loads(done.stdout)["error"]["code"] == "UNAVAILABLE"


def test_a_reader_who_leaves_is_no_error(server: ScriptedServer, tmp_path: Path) -> None:
    server.scripts["Health"] = lambda request, context: scripted.health()
    command = [sys.executable, "-m", "atelier_client", "--server", server.target, "health"]
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, check=False)
    os.close(writer)
    assert (done.returncode, done.stderr) == (1, b"")


def test_help_needs_no_server(capsys: pytest.CaptureFixture[str]) -> None:
    for words in ([], ["generate"], ["score"], ["brand", "create"], ["models", "load"]):
        with pytest.raises(SystemExit) as left:
            main([*words, "--help"])
        assert left.value.code == 0
        assert "usage: atelier" in capsys.readouterr().out


def test_ctrl_c_gives_up_and_cancels(server: ScriptedServer, tmp_path: Path) -> None:
    cancelled = threading.Event()

    def slow(request: GenerateRequest, context: grpc.ServicerContext) -> Iterator[GenerateResponse]:
        context.add_callback(cancelled.set)
        yield generation(request)[0]
        os.kill(process.pid, signal.SIGINT)
        cancelled.wait(30)

    server.scripts["Generate"] = slow
    command = [sys.executable, "-m", "atelier_client", "--server", server.target, "generate", "a bag"]
    with subprocess.Popen(
        command,
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        out, err = process.communicate(timeout=60)
    assert (process.returncode, out, err.count("\n")) == (5, "", 1), err
    assert cancelled.wait(10)
