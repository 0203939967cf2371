"""The log: one line a record, with the request id, on the stream."""

import io
import json
import logging
import warnings

import pytest

from atelier_server.telemetry.logging import configure_logging, request_id

pytestmark = pytest.mark.usefixtures("restored_logging")


def logged(log_format: str, log_level: str = "info") -> tuple[io.StringIO, logging.Logger]:
    stream = io.StringIO()
    configure_logging(log_format, log_level, stream)
    return stream, logging.getLogger("atelier_server.test")


def test_a_text_line_has_time_level_logger_request_id_message_and_extras() -> None:
    stream, log = logged("text")
    token = request_id.set("req-1")
    log.warning("queue of %s is full", "starter", extra={"waiting": 64})
    request_id.reset(token)
    log.info("later")
    first, second = stream.getvalue().splitlines()
    assert first.endswith("Z WARNING atelier_server.test [req-1] queue of starter is full waiting=64")
    assert second.endswith("Z INFO atelier_server.test later")


def test_a_message_cannot_forge_a_second_line() -> None:
    stream, log = logged("text")
    log.info("name %s", "x\n2026-01-01 ERROR forged")
    assert len(stream.getvalue().splitlines()) == 1


def test_json_lines_are_objects_with_the_same_facts() -> None:
    stream, log = logged("json")
    token = request_id.set("req-2")
    try:
        raise ValueError("broken")
    except ValueError:
        log.exception("it failed\nbadly", extra={"model": "starter"})
    request_id.reset(token)
    (line,) = stream.getvalue().splitlines()
    record = json.loads(line)
    assert record.pop("time").endswith("Z")
    assert "ValueError: broken" in record.pop("exception")
    assert record == {
        "level": "error",
        "logger": "atelier_server.test",
        "message": "it failed\nbadly",
        "request_id": "req-2",
        "model": "starter",
    }


def test_a_text_traceback_follows_its_line() -> None:
    stream, log = logged("text")
    try:
        raise ValueError("broken")
    except ValueError:
        log.exception("it failed")
    assert stream.getvalue().splitlines()[-1] == "ValueError: broken"


def test_levels_hold_for_us_and_libraries_speak_from_warning_on() -> None:
    stream, log = logged("text", "debug")
    log.debug("ours")
    logging.getLogger("atelier.runner.starter").debug("a runner's")
    logging.getLogger("somebody.else").info("theirs")
    assert [line.split()[-1] for line in stream.getvalue().splitlines()] == ["ours", "runner's"]


def test_configuring_again_replaces_the_first() -> None:
    first, _ = logged("text")
    second, log = logged("text", "error")
    log.warning("quiet")
    log.error("loud")
    assert first.getvalue() == ""
    assert second.getvalue().count("\n") == 1


def test_warnings_are_logged() -> None:
    stream, _ = logged("text")
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        logging.captureWarnings(True)
        warnings.warn("old thing", stacklevel=1)
    assert "old thing" in stream.getvalue()
