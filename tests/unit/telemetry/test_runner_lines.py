"""A runner's lines in the server's log keep their level, their ids and what else they told."""

import io
import json
import logging

import pytest

from atelier_server.telemetry.logging import configure_logging
from atelier_server.telemetry.origin import Origin, working_for
from atelier_server.telemetry.runner_lines import RunnerLog

ORIGIN = Origin("call-1", f"00-{'a' * 32}-{'b' * 16}-01")


pytestmark = pytest.mark.usefixtures("restored_logging")


def written_by_a_runner() -> str:
    """What a runner writes about a job that fails."""
    stream = io.StringIO()
    configure_logging("json", stream=stream)
    with working_for(ORIGIN):
        try:
            raise ValueError("broken")
        except ValueError:
            logging.getLogger("atelier_server.runner.x").exception("a job failed", extra={"rows": 2})
    return stream.getvalue()


def taken(log_format: str, *lines: str) -> str:
    stream = io.StringIO()
    configure_logging(log_format, stream=stream)
    log = RunnerLog("starter")
    for line in lines:
        log.take(line)
    return stream.getvalue()


def test_json_keeps_everything() -> None:
    record = json.loads(taken("json", written_by_a_runner()))
    assert record.pop("time").endswith("Z")
    assert "ValueError: broken" in record.pop("exception")
    assert record == {
        "level": "error",
        "logger": "atelier.runner.starter",
        "message": "atelier_server.runner.x: a job failed",
        "request_id": "call-1",
        "trace_id": "a" * 32,
        "rows": 2,
    }


def test_text_has_the_ids_and_the_traceback_below() -> None:
    first, *rest = taken("text", written_by_a_runner()).splitlines()
    assert "ERROR atelier.runner.starter [call-1] atelier_server.runner.x: a job failed rows=2" in first
    assert first.endswith(f"trace_id={'a' * 32}")
    assert rest[-1] == "ValueError: broken"


@pytest.mark.parametrize("line", ["terminate called", "{not json", '{"a": 1}', "[1]"])
def test_other_lines_come_through_at_the_level_before(line: str) -> None:
    last = taken("text", written_by_a_runner(), line).splitlines()[-1]
    assert last.endswith(f"ERROR atelier.runner.starter {line}")


def test_a_line_cannot_pretend_to_be_a_field_of_logging() -> None:
    forged = json.dumps({"level": "no such", "logger": "l", "message": "m", "args": 1, "msg": 2, "name": 3})
    record = json.loads(taken("json", forged, ""))
    assert (record["level"], record["logger"], record["message"]) == ("info", "atelier.runner.starter", "l: m")
