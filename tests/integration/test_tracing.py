"""One Generate as a trace: from the caller's own context through the server into its runner processes.

Everything is real: the server is a process of its own, so are its runners, and the spans are taken from the wire.
"""

import json
import os
import re
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest
from PIL import Image

from atelier.v1 import image_generation_pb2, image_generation_pb2_grpc
from atelier_client import Atelier
from tests.integration.otlp_kit import Collector, SeenSpan, collecting

ROOT = Path(__file__).resolve().parents[2]
TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
TRACEPARENT = f"00-{TRACE}-{PARENT}-01"
PROMPT = "a zebrastriped handbag"
GENERATE = "atelier.v1.ImageGenerationService/Generate"
STEPS = 3


@dataclass
class TracedServer:
    """A server process whose spans and metrics go to a collector."""

    address: str
    collector: Collector
    log: Path


@pytest.fixture(scope="module")
def traced(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TracedServer]:
    folder = tmp_path_factory.mktemp("traced")
    with collecting() as collector, (folder / "log").open("w") as log:
        environment = os.environ | {
            "OTEL_EXPORTER_OTLP_ENDPOINT": collector.endpoint,
            "OTEL_BSP_SCHEDULE_DELAY": "100",
            "OTEL_METRIC_EXPORT_INTERVAL": "500",
            "OMP_NUM_THREADS": "1",
        }
        command = [
            *(sys.executable, "-m", "atelier_server", "serve", "--listen=127.0.0.1:0", "--metrics-listen=127.0.0.1:0"),
            *("--model-repository", str(ROOT / "models"), "--state-dir", str(folder / "state"), "--log-format=json"),
            *("--load-model=starter", "--load-model=starter_clip", "--load-model=starter_brand"),
        ]
        server = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True, env=environment, cwd=folder)
        try:
            assert server.stdout is not None
            ready = re.fullmatch(r"READY grpc=(\S+) metrics=\S+\n", server.stdout.readline())
            assert ready is not None, (folder / "log").read_text()
            yield TracedServer(ready[1], collector, folder / "log")
        finally:
            server.send_signal(signal.SIGTERM)
            server.communicate(timeout=60)


@pytest.fixture(scope="module")
def trace(traced: TracedServer, tmp_path_factory: pytest.TempPathFactory) -> list[SeenSpan]:
    """The spans of one Generate whose caller is within a trace of its own."""
    picture = tmp_path_factory.mktemp("brand") / "bag.png"
    Image.new("RGB", (64, 64), "navy").save(picture)
    with Atelier(traced.address) as client:
        client.brands.create("acme")
        client.brands.add("acme", [picture])
    request = image_generation_pb2.GenerateRequest(
        prompt=PROMPT, width=64, height=64, num_inference_steps=STEPS, seed=7, brand_id="acme", request_id="call-7"
    )
    with grpc.insecure_channel(traced.address) as channel:
        stub = image_generation_pb2_grpc.ImageGenerationServiceStub(channel)
        list(stub.Generate(request, metadata=(("traceparent", TRACEPARENT), ("tracestate", "caller=1"))))
    spans = traced.collector.wait_for(lambda spans: _complete([span for span in spans if span.trace_id == TRACE]))
    return [span for span in spans if span.trace_id == TRACE]


def test_every_stage_has_its_span_below_the_right_one(trace: list[SeenSpan]) -> None:
    by_id = {span.span_id: span for span in trace}
    parents = {(span.name, by_id[span.parent_id].name if span.parent_id in by_id else span.parent_id) for span in trace}
    assert parents >= {
        (GENERATE, PARENT),
        ("route", GENERATE),
        ("generate", GENERATE),
        ("cache_lookup", "generate"),
        ("diffuse", "generate"),
        ("run_diffusion", "diffuse"),
        ("queue", "run_diffusion"),
        ("encode_text", "run_diffusion"),
        ("denoise", "run_diffusion"),
        ("decode", "run_diffusion"),
        ("resize", "generate"),
        ("safety", "generate"),
        ("encode_image", "generate"),
        ("score", "generate"),
        ("clip", "score"),
        ("brand", "score"),
        ("infer", "clip"),
        ("infer", "brand"),
        ("run_tensors", "infer"),
        ("queue", "run_tensors"),
        ("compute", "run_tensors"),
    }
    assert [span.name for span in trace if span.parent_id not in by_id] == [GENERATE]
    assert not any(span.failed for span in trace)


def test_children_lie_within_the_time_of_their_parents(trace: list[SeenSpan]) -> None:
    by_id = {span.span_id: span for span in trace}
    slack = 5_000_000  # the clocks of processes are read one after another
    outside = [
        (span.name, by_id[span.parent_id].name)
        for span in trace
        if span.parent_id in by_id
        and not by_id[span.parent_id].start - slack <= span.start <= span.end <= by_id[span.parent_id].end + slack
    ]
    assert outside == []


def test_the_runners_tell_for_themselves(trace: list[SeenSpan]) -> None:
    told = {span.name: span.resource for span in trace}
    processes = {span.resource["process.pid"] for span in trace}
    assert len(processes) == 4  # the server, and a runner for each of three models
    assert told[GENERATE]["service.name"] == "atelier-server"
    assert (told["denoise"]["service.name"], told["denoise"]["atelier.model"]) == ("atelier-runner", "starter")
    assert told["denoise"]["process.pid"] != told[GENERATE]["process.pid"]


def test_denoise_notes_every_step(trace: list[SeenSpan]) -> None:
    denoise = next(span for span in trace if span.name == "denoise")
    assert [name for name, _ in denoise.events] == ["step"] * STEPS
    assert [attributes["atelier.step"] for _, attributes in denoise.events] == [1, 2, 3]
    assert all(attributes["atelier.rows"] >= 1 for _, attributes in denoise.events)


def test_no_prompt_leaves_in_a_span(traced: TracedServer, trace: list[SeenSpan]) -> None:
    assert trace
    assert b"zebrastriped" not in traced.collector.raw


def test_every_line_about_the_call_has_its_ids(traced: TracedServer, trace: list[SeenSpan]) -> None:
    assert trace
    lines = [json.loads(line) for line in traced.log.read_text().splitlines()]
    of_call = [line for line in lines if line.get("request_id") == "call-7"]
    assert any("/Generate OK in " in line["message"] for line in of_call)
    assert {line.get("trace_id") for line in of_call} == {TRACE}
    assert "zebrastriped" not in traced.log.read_text()


def test_the_metrics_are_pushed_under_their_names(traced: TracedServer, trace: list[SeenSpan]) -> None:
    assert trace

    def of_the_model(metric: Any) -> Any:
        """Its data point of starter; the server hears of a runner's numbers every 2 seconds."""
        points = metric.histogram.data_points
        return next(
            (point for point in points if "starter" in {one.value.string_value for one in point.attributes}), None
        )

    told = traced.collector.wait_for_metric(
        "atelier_step_seconds", lambda metric: (point := of_the_model(metric)) is not None and point.count >= STEPS
    )
    assert sum(of_the_model(told).bucket_counts) == of_the_model(told).count
    assert traced.collector.wait_for_metric("atelier_generations_total").sum.is_monotonic


def _complete(spans: list[SeenSpan]) -> bool:
    """Whether the outermost span is there, every span's parent, and what each runner tells of each call."""
    ids = {span.span_id for span in spans} | {PARENT}
    count = Counter(span.name for span in spans)
    told = count["infer"] == count["run_tensors"] == count["compute"] > 0
    return told and count[GENERATE] == count["run_diffusion"] == 1 and all(span.parent_id in ids for span in spans)
