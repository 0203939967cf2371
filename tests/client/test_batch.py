"""`atelier generate --from FILE -o FOLDER`: every row once, whatever happens on the way."""

import itertools
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import pytest

from atelier_client import Retry
from atelier_client.cli import _batch, main
from tests.client.scripted import ScriptedServer, generation, png, refusal

Run = Callable[..., Any]
ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "11-clients.md").read_text()


@pytest.fixture
def run(
    server: ScriptedServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Run:
    """Runs `atelier generate --from … -o out --json` in an empty folder; its JSON object."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ATELIER_SERVER", server.target)
    monkeypatch.setattr(_batch, "PATIENT", Retry(attempts=1000, first_seconds=0.02, longest_seconds=0.1))
    server.scripts["Generate"] = lambda request, context: generation(request)
    server.scripts["Health"] = lambda request, context: _health()

    def command(*words: str, code: int = 0) -> Any:
        found = main(["generate", "-o", "out", "--json", *words])
        captured = capsys.readouterr()
        assert (found, captured.err) == (code, ""), captured.out
        return json.loads(captured.out)

    return command


def _health() -> Any:
    from tests.client import scripted

    return scripted.health()


def write_prompts(count: int, path: str = "prompts.csv") -> None:
    """Rows whose seeds are 0, 1, 2 …"""
    lines = [f"picture {number},{number}" for number in range(count)]
    Path(path).write_text("\n".join(["prompt,seed", *lines, ""]))


def results(folder: str = "out") -> list[dict[str, Any]]:
    return [json.loads(line) for line in Path(folder, "results.jsonl").read_text().splitlines()]


def pictures(folder: str = "out") -> list[Path]:
    return sorted(Path(folder).glob("*.png"))


def test_every_row_has_its_picture_and_its_line(server: ScriptedServer, run: Run) -> None:
    write_prompts(9)
    found = run("--from", "prompts.csv")
    assert found == {"rows": 9, "made": 9, "kept": 0, "failed": 0, "results": "out/results.jsonl", "sheet": None}
    lines = results()
    assert [(line["row"], line["images"][0]["seed"]) for line in lines] == [(n, n - 1) for n in range(1, 10)]
    assert sorted(Path("out", line["images"][0]["path"]) for line in lines) == pictures()
    assert Path("out", lines[3]["images"][0]["path"]).read_bytes() == png(3)
    assert lines[0]["model_used"] == "starter"
    assert len({request.request_id for request in server.asked("Generate")}) == 9


def test_a_second_run_does_only_what_is_missing(server: ScriptedServer, run: Run) -> None:
    write_prompts(5)
    run("--from", "prompts.csv")
    first = {request.prompt: request.request_id for request in server.asked("Generate")}
    pictures()[1].unlink()
    pictures()[2].write_bytes(b"half")
    lost = {line["prompt"] for line in results() if not _whole(line)}
    server.requests.clear()
    assert run("--from", "prompts.csv")["kept"] == 3
    assert {request.prompt: request.request_id for request in server.asked("Generate")} == {
        prompt: first[prompt] for prompt in lost
    }
    assert len(results()) == len(pictures()) == 5
    server.requests.clear()
    assert run("--from", "prompts.csv")["made"] == 0
    assert server.asked("Generate") == []


def _whole(line: dict[str, Any]) -> bool:
    path = Path("out", line["images"][0]["path"])
    return path.exists() and path.read_bytes() != b"half"


def test_rows_may_move_and_grow(server: ScriptedServer, run: Run) -> None:
    write_prompts(3)
    run("--from", "prompts.csv")
    rows = Path("prompts.csv").read_text().splitlines()
    Path("prompts.csv").write_text("\n".join([rows[0], "new,9", rows[3], rows[1], rows[2], rows[1]]))
    server.requests.clear()
    assert run("--from", "prompts.csv")["kept"] == 3
    assert sorted(request.prompt for request in server.asked("Generate")) == ["new", "picture 0"]
    assert [line["prompt"] for line in results()] == ["new", "picture 2", "picture 0", "picture 1", "picture 0"]
    assert len(pictures()) == 5


def test_rows_are_options(server: ScriptedServer, run: Run) -> None:
    rows = [
        {"prompt": "a", "style": "luxury", "steps": 7, "n": 2, "name": "first"},
        {"prompt": "b", "num_inference_steps": 8, "metadata": {"order": "7"}, "no_brand_check": True, "model": "echo"},
        {"prompt": "c", "size": "64x96", "format": None, "metadata.x": 1, "no-brand-check": "no"},
        {"prompt": "d", "guidance_interval": "0.2-1", "step-caching": 3},
    ]
    Path("p.jsonl").write_text("\n".join(map(json.dumps, rows)))
    run("--from", "p.jsonl", "--steps", "3", "--style", "bold", "--model", "sdxl", "--format", "png")
    a, b, c, d = sorted(server.asked("Generate"), key=lambda request: request.prompt)
    assert (a.style, a.num_inference_steps, a.num_images, a.model) == (2, 7, 2, 2)
    assert (b.style, b.num_inference_steps, dict(b.metadata), b.model_name, b.model) == (
        5,
        8,
        {"order": "7"},
        "echo",
        0,
    )
    assert (b.brand_consistency_check, c.HasField("brand_consistency_check")) == (False, False)
    assert (c.width, c.height, dict(c.metadata), c.output_format, c.num_inference_steps) == (64, 96, {"x": "1"}, 1, 3)
    assert (d.guidance_interval.start, d.guidance_interval.end, d.step_caching) == (0.2, 1.0, 3)
    assert {"first-1.png", "first-2.png"} < {path.name for path in pictures()}


def test_a_spreadsheet_of_another_country(server: ScriptedServer, run: Run) -> None:
    Path("p.csv").write_text('\ufeffprompt;seed\r\n"eine Tasche; rot\nund ""gut""";5\r\n\r\nnoch eine;6\r\n')
    assert run("--from", "p.csv")["made"] == 2
    assert {request.prompt for request in server.asked("Generate")} == {'eine Tasche; rot\nund "gut"', "noch eine"}


def test_the_server_may_go_and_come_back(server: ScriptedServer, run: Run) -> None:
    """Rows that were running when it went are asked for again under their own request_id."""
    write_prompts(12)
    asked: list[Any] = []
    number = itertools.count(1)  # its next is atomic: calls run on several threads
    restarted = threading.Event()

    def fifth_ends_it(request: Any, context: grpc.ServicerContext) -> Any:
        asked.append(request)
        events = generation(request)
        if next(number) == 5:
            threading.Thread(target=restart).start()
            yield from events[:4]
            restarted.wait(30)
        yield from events

    def restart() -> None:
        port = int(server.target.rpartition(":")[2])
        server.stop()
        again.append(ScriptedServer(port=port, scripts=server.scripts))
        restarted.set()

    again: list[ScriptedServer] = []
    server.scripts["Generate"] = fifth_ends_it
    try:
        assert run("--from", "prompts.csv", "--jobs", "3")["made"] == 12
    finally:
        again[0].stop()
    assert len(results()) == len(pictures()) == 12
    names = {}
    for request in asked:
        assert names.setdefault(request.prompt, request.request_id) == request.request_id
    assert len(asked) > 12


def test_a_full_queue_is_waited_for(server: ScriptedServer, run: Run) -> None:
    write_prompts(2)
    refusals = [refusal("RESOURCE_EXHAUSTED", "Later.", "QUEUE_FULL", retry_after=0.01) for _ in range(5)]

    def full_at_first(request: Any, context: Any) -> Any:
        if refusals:
            raise refusals.pop()
        return generation(request)

    server.scripts["Generate"] = full_at_first
    assert run("--from", "prompts.csv")["failed"] == 0


def test_a_refused_row_spoils_no_other(server: ScriptedServer, run: Run) -> None:
    write_prompts(3)

    def refuse_one(request: Any, context: Any) -> Any:
        if request.seed == 1:
            raise refusal("FAILED_PRECONDITION", "None passes.", "GATE_REFUSED")
        return generation(request)

    server.scripts["Generate"] = refuse_one
    found = run("--from", "prompts.csv", code=4)
    (failure,) = found["failures"]
    assert (found["made"], failure["row"], failure["reason"]) == (2, 2, "GATE_REFUSED")
    assert results()[1]["error"]["message"] == "None passes."
    run("--from", "prompts.csv", code=4)
    assert results()[1]["error"]["times"] == 2
    server.scripts["Generate"] = lambda request, context: generation(request)
    assert run("--from", "prompts.csv")["made"] == 1
    names = [request.request_id for request in server.asked("Generate") if request.seed == 1]
    assert len(set(names)) == len(names) == 3, "a call that has failed would fail again under its name"
    assert [len(line["images"]) for line in results()] == [1, 1, 1]


def test_people_read_which_rows_failed(server: ScriptedServer, run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    write_prompts(2)

    def refuse(request: Any, context: Any) -> Any:
        raise refusal("INVALID_ARGUMENT", "Too many.", "INVALID_ARGUMENT", field="seed")

    server.scripts["Generate"] = refuse
    assert main(["generate", "--from", "prompts.csv", "-o", "out"]) == 2
    captured = capsys.readouterr()
    assert captured.out.splitlines() == ["0 made, 0 there already, 2 failed", "results  out/results.jsonl"]
    assert captured.err.count("\n") == 1
    assert "2 of 2 rows failed, such as row 1: Too many." in captured.err


def test_no_more_calls_at_once_than_jobs(server: ScriptedServer, run: Run) -> None:
    write_prompts(12)
    lock, running, most = threading.Lock(), 0, 0

    def count(request: Any, context: Any) -> Any:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        yield from generation(request)
        with lock:
            running -= 1

    server.scripts["Generate"] = count
    run("--from", "prompts.csv", "--jobs", "2")
    assert most <= 2


def test_two_batches_do_not_share_a_folder(server: ScriptedServer, run: Run) -> None:
    from atelier_client.cli._results import Results

    write_prompts(1)
    Path("out").mkdir()
    with Results(Path("out")):
        assert run("--from", "prompts.csv", code=1)["error"]["field"] == "output"
    assert run("--from", "prompts.csv")["made"] == 1


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_a_batch_that_was_stopped_goes_on(server: ScriptedServer, run: Run, number: signal.Signals) -> None:
    write_prompts(6)
    stopped = threading.Event()

    def stop_at_the_fourth(request: Any, context: Any) -> Any:
        if len(server.asked("Generate")) == 4:
            while len(results()) < 3:  # the record is written by another thread than the call's
                time.sleep(0.01)
            os.kill(process.pid, number)
            stopped.wait(30)
        yield from generation(request)

    server.scripts["Generate"] = stop_at_the_fourth
    words = ["generate", "--from", "prompts.csv", "-o", "out", "--jobs", "1"]
    with subprocess.Popen([sys.executable, "-m", "atelier_client", *words], stderr=subprocess.PIPE) as process:
        _, err = process.communicate(timeout=60)
    stopped.set()
    if number == signal.SIGINT:
        assert (process.returncode, err.count(b"\n")) == (5, 1), err
    assert len(results()) == 3
    with Path("out", "results.jsonl").open("a") as record:
        record.write('{"row": 4, "key"')  # as when the process ends within a line
    server.scripts["Generate"] = lambda request, context: generation(request)
    assert run("--from", "prompts.csv")["kept"] == 3
    assert len(results()) == len(pictures()) == 6
    requests = [request for request in server.asked("Generate") if request.seed == 3]
    assert len({request.request_id for request in requests}) == 1


@pytest.mark.parametrize(
    ("name", "text", "field", "words"),
    [
        ("p.csv", "seed\n1\n", "prompt", "no column prompt"),
        ("p.csv", "", "prompt", "no column prompt"),
        ("p.csv", "prompt\n", "from", "no rows"),
        ("p.csv", "prompt,seed\na,1\n,2\n", "prompt", "row 2"),
        ("p.csv", "prompt,seed\na,one\n", "seed", "row 1"),
        ("p.csv", "prompt,style\na,lux\n", "style", "row 1"),
        ("p.csv", "prompt,colour\na,red\n", "colour", "there is no column"),
        ("p.csv", "prompt,output\na,x.png\n", "output", "there is no column"),
        ("p.csv", "prompt,seed\na,1,2\n", "from", "quote cells"),
        ("p.csv", "prompt,seed,seed\na,1,2\n", "from", "twice"),
        ("p.csv", 'prompt\n"a', "from", "no CSV"),
        ("p.csv", "prompt,no_brand_check\na,perhaps\n", "no_brand_check", "yes or no"),
        ("p.csv", "prompt,name\na,../up\n", "name", "no file name"),
        ("p.csv", "prompt,name\na,x\nb,X\n", "name", "row 2"),
        ("p.jsonl", "[1]", "from", "no JSON object"),
        ("p.jsonl", "{", "from", "no JSON"),
        ("p.jsonl", '{"prompt": 5}', "prompt", "no prompt"),
        ("p.jsonl", '{"prompt": "a", "seed": [1]}', "seed", "cannot be"),
        ("p.txt", "a", "from", "name it"),
    ],
)
def test_a_wrong_file_costs_no_call(
    server: ScriptedServer, run: Run, name: str, text: str, field: str, words: str
) -> None:
    Path(name).write_text(text)
    error = run("--from", name, code=2)["error"]
    assert (error["field"], words in error["message"]) == (field, True), error
    assert not server.requests


@pytest.mark.parametrize(
    ("words", "field"),
    [
        (["--from", "p.csv"], "output"),
        (["--from", "p.csv", "a bag", "-o", "out"], "prompt"),
        (["--from", "p.csv", "-o", "out", "--request-id", "x"], "request_id"),
        (["--from", "p.csv", "-o", "out", "--previews", "x"], "previews"),
        (["--from", "p.csv", "-o", "out", "--jobs", "0"], "jobs"),
        (["--from", "p.csv", "-o", "p.csv"], "output"),
        (["--from", "none.csv", "-o", "out"], "from"),
        (["a bag", "--sheet"], "sheet"),
        (["a bag", "--guidance-interval", "0.5"], "guidance_interval"),
    ],
)
def test_bad_usage(
    server: ScriptedServer, run: Run, capsys: pytest.CaptureFixture[str], words: list[str], field: str
) -> None:
    write_prompts(1, "p.csv")
    assert main(["generate", *words, "--json"]) == 2
    assert json.loads(capsys.readouterr().out)["error"]["field"] == field
    assert not server.requests


def test_a_server_that_is_not_there_ends_it_at_once(server: ScriptedServer, run: Run) -> None:
    write_prompts(1)
    server.stop()
    assert run("--from", "prompts.csv", code=3)["error"]["code"] == "UNAVAILABLE"


def test_the_example_of_the_documentation(server: ScriptedServer, run: Run) -> None:
    (line,) = re.findall(r"^atelier generate (--from .*)$", PAGE, flags=re.M)
    shutil.copy(ROOT / "clients" / "python" / "examples" / "prompts.csv", "prompts.csv")
    found = run(*shlex.split(line))
    assert (found["made"], found["sheet"]) == (8, "out/sheet.html")
    assert Path("out/sheet.html").read_text().count("<img ") == 8
    assert {request.num_inference_steps for request in server.asked("Generate")} == {20}


def test_columns_of_the_documentation_are_those_of_the_parser() -> None:
    from atelier_client.cli._parser import row_columns

    (table,) = [block for block in PAGE.split("\n\n") if block.startswith("| Column")]
    cells = [row.split("|")[1] for row in table.splitlines()[2:]]
    named = {name for cell in cells for name in re.findall(r"`([^`]+)`", cell)}
    assert named - {"prompt", "name", "metadata.KEY", "no_brand_check"} == {
        flag.removeprefix("--").replace("-", "_") for flag in row_columns().values()
    } - {"metadata", "no_brand_check"}
