"""Fixtures of all unit tests."""

import logging
from collections.abc import Iterator

import pytest

from atelier_server.telemetry.origin import request_id


@pytest.fixture(autouse=True)
def outside_of_any_call() -> Iterator[None]:
    """A test that served a call on this thread may have left its id."""
    token = request_id.set("")
    yield
    request_id.reset(token)


@pytest.fixture
def restored_logging() -> Iterator[None]:
    """The root logger is as before after the test."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.captureWarnings(False)
