"""The port beside gRPC: a page that cannot be made says so, to its reader and in the log."""

import urllib.error
import urllib.request
from collections.abc import Iterator

import pytest
from prometheus_client import CollectorRegistry, Metric
from prometheus_client.registry import Collector

from atelier_server.frontend.metrics_http import MetricsServer


class _Broken(Collector):
    def describe(self) -> Iterator[Metric]:
        return iter(())

    def collect(self) -> Iterator[Metric]:
        raise ZeroDivisionError("a secret")


def test_a_page_that_cannot_be_made_is_told_and_logged(caplog: pytest.LogCaptureFixture) -> None:
    registry = CollectorRegistry()
    registry.register(_Broken())
    server = MetricsServer("127.0.0.1", 0, registry, lambda: True)
    try:
        with pytest.raises(urllib.error.HTTPError) as caught:
            urllib.request.urlopen(f"http://127.0.0.1:{server.port}/metrics", timeout=10)
        with caught.value as answer:
            assert answer.code == 500
            assert b"secret" not in answer.read()
    finally:
        server.stop()
    assert "could not be made" in caplog.text
