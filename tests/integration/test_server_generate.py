"""Generate on a real server: what a caller hears, in which order, and what a caller who leaves costs."""

import hashlib
import io
from pathlib import Path

import grpc
import pytest
from PIL import Image

from atelier.v1 import common_pb2, health_pb2, image_generation_pb2, image_generation_pb2_grpc
from atelier_server.pipeline import recall
from atelier_server.testing import RunningServer, echo_server, write_echo_model
from tests.integration.grpc_kit import Events, failing, heard, idle, images, request, until


def kinds(events: Events) -> list[str | None]:
    return [event.WhichOneof("event") for event in events]


def pictures(events: Events) -> dict[int, bytes]:
    """Puts the chunks together, and checks each picture against its completion."""
    files: dict[int, bytes] = {}
    for event in events:
        match event.WhichOneof("event"):
            case "image_chunk":
                chunk = event.image_chunk
                assert chunk.offset == len(files.get(chunk.image_index, b""))
                assert 0 < len(chunk.data) <= 2**20
                files[chunk.image_index] = files.get(chunk.image_index, b"") + chunk.data
                assert chunk.last == (len(files[chunk.image_index]) == chunk.total_size)
            case "image_completed":
                done = event.image_completed
                assert hashlib.sha256(files[done.image_index]).hexdigest() == done.sha256
    return files


async def test_events_come_in_the_contracts_order(server: RunningServer) -> None:
    events = await heard(server)
    assert [event.sequence for event in events] == list(range(1, len(events) + 1))
    order = [kind for kind in kinds(events) if kind != "queued"]
    assert order == ["started", "progress", "progress", "progress", "image_chunk", "image_completed", "completed"]
    assert kinds(events)[0] == "queued"
    assert [event.progress.step for event in events if event.HasField("progress")] == [1, 2, 3]
    started = next(event.started for event in events if event.HasField("started"))
    assert (started.model, started.model_version, list(started.seeds)) == ("echo", "1", [7])
    completed = events[-1].completed
    assert completed.generation_time_ms > 0
    assert completed.model_used == "echo"


async def test_the_first_event_leaves_before_any_work_is_done(tmp_path: Path) -> None:
    write_echo_model(tmp_path / "models", step_seconds=0.5)
    async with echo_server(tmp_path) as server:
        call = images(server).Generate(request())
        first = await call.read()
        assert (first.sequence, first.WhichOneof("event")) == (1, "queued")
        assert (await server.app.registry.get("echo").refresh()).counters["rows_total"] == 0
        call.cancel()


async def test_chunks_make_the_file_that_was_promised(server: RunningServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recall, "CHUNK_BYTES", 1000)  # the double's smooth pictures are small files
    events = await heard(server, width=256, height=192, num_images=2, output_format=common_pb2.IMAGE_FORMAT_PNG)
    assert sum(kind == "image_chunk" for kind in kinds(events)) > 4, "pictures too small to be cut"
    files = pictures(events)
    assert sorted(files) == [0, 1]
    for data in files.values():
        picture = Image.open(io.BytesIO(data))
        assert picture.size == (256, 192)
        picture.load()
    completions = [event.image_completed for event in events if event.HasField("image_completed")]
    assert sorted(done.seed for done in completions) == [7, 8]


async def test_metadata_and_request_id_come_back(server: RunningServer) -> None:
    events = await heard(server, request_id="order-7", metadata={"shop": "north"})
    assert {event.request_id for event in events} == {"order-7"}
    assert dict(events[-1].completed.metadata) == {"shop": "north"}


async def test_the_log_follows_the_callers_header_but_generations_have_ids_of_their_own(server: RunningServer) -> None:
    ids = set()
    for _ in range(2):
        call = images(server).Generate(request(), metadata=(("x-request-id", "trace-1"),))
        ids |= {event.request_id async for event in call}
        assert dict(await call.trailing_metadata())["x-request-id"] == "trace-1"
    assert len(ids) == 2
    assert "trace-1" not in ids


async def test_previews_come_as_often_as_asked(server: RunningServer) -> None:
    preview = image_generation_pb2.PreviewOptions(every_n_steps=2, max_side=16)
    events = await heard(server, num_inference_steps=4, preview=preview)
    shown = {event.progress.step: event.progress.preview for event in events if event.progress.HasField("preview")}
    assert sorted(shown) == [2, 4]
    picture = Image.open(io.BytesIO(shown[2].data))
    assert picture.format == "JPEG"
    assert picture.size == (shown[2].dimensions.width, shown[2].dimensions.height) == (16, 16)


async def test_leaving_the_stream_ends_the_work(tmp_path: Path) -> None:
    write_echo_model(tmp_path / "models", step_seconds=0.02)
    async with echo_server(tmp_path) as server:
        call = images(server).Generate(request(num_inference_steps=150))
        async for event in call:
            if event.HasField("progress"):
                break
        call.cancel()
        before = (await until(server, lambda status: idle(status) and status.counters["aborts_total"] == 1)).counters
        assert before["rows_total"] < 150
        await heard(server, num_inference_steps=3)
        after = (await until(server, lambda status: idle(status) and status.counters["pictures_total"] == 1)).counters
        assert after["rows_total"] - before["rows_total"] in (3, 4), "at most the step that was running then"
        assert after["pictures_total"] == 1
        assert server.app.pipeline.running == 0


async def test_closing_the_channel_ends_the_work_too(tmp_path: Path) -> None:
    write_echo_model(tmp_path / "models", step_seconds=0.02)
    async with echo_server(tmp_path) as server:
        async with grpc.aio.insecure_channel(server.address) as channel:
            stub = image_generation_pb2_grpc.ImageGenerationServiceStub(channel)
            call = stub.Generate(request(num_inference_steps=150))
            await call.read()
        assert (await until(server, idle)).counters["pictures_total"] == 0


async def test_work_goes_on_when_the_caller_wants_it_to(tmp_path: Path) -> None:
    write_echo_model(tmp_path / "models", step_seconds=0.02)
    async with echo_server(tmp_path) as server:
        call = images(server).Generate(request(num_inference_steps=20, on_disconnect=common_pb2.ON_DISCONNECT_CONTINUE))
        await call.read()
        call.cancel()
        await until(server, lambda status: status.counters["pictures_total"] == 1)


async def test_a_deadline_ends_the_call_and_its_work(tmp_path: Path) -> None:
    write_echo_model(tmp_path / "models", step_seconds=0.05)
    async with echo_server(tmp_path) as server:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            async for _ in images(server).Generate(request(num_inference_steps=150), timeout=0.3):
                pass
        assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        assert (await until(server, idle)).counters["pictures_total"] == 0


async def test_a_waiting_call_is_heard_of_again_and_again(tmp_path: Path) -> None:
    write_echo_model(tmp_path / "models", step_seconds=0.5)
    async with echo_server(tmp_path, heartbeat_seconds=0.05) as server:
        events = await heard(server, num_inference_steps=1)
    signs = [kind for kind in kinds(events) if kind in ("queued", "progress")]
    assert len(signs) > 4


async def test_a_failing_model_says_nothing_of_its_inside(tmp_path: Path) -> None:
    write_echo_model(tmp_path / "models", fail_at_step=1, on_prompt="break")
    async with echo_server(tmp_path) as server:
        error = await failing(images(server).Generate(request(prompt="break")))
        assert error.code() is grpc.StatusCode.INTERNAL
        assert "told to fail" not in str(error)
        assert "Traceback" not in str(error)
        response = await images(server).Health(health_pb2.HealthRequest())
        assert response.status == "healthy"
        assert (await heard(server))[-1].HasField("completed")
        metrics = await images(server).GetMetrics(health_pb2.GetMetricsRequest())
        assert (metrics.failed_generations, metrics.total_generations, metrics.success_rate) == (1, 1, 0.5)
        assert dict(metrics.generations_by_model) == {"echo": 1}


async def test_a_slow_reader_misses_steps_but_never_a_chunk_or_the_end(tmp_path: Path) -> None:
    write_echo_model(tmp_path / "models", max_side=2048, native_width=1024, native_height=1024)
    preview = image_generation_pb2.PreviewOptions(every_n_steps=1, max_side=1024, format=common_pb2.IMAGE_FORMAT_PNG)
    slow = request(width=1024, height=1024, num_inference_steps=60, preview=preview)
    narrow = [("grpc.http2.bdp_probe", 0), ("grpc.http2.lookahead_bytes", 65_535)]  # no room for what nobody reads
    async with (
        echo_server(tmp_path, event_log_capacity=16) as server,
        grpc.aio.insecure_channel(server.address, options=narrow) as channel,
    ):
        events = aiter(image_generation_pb2_grpc.ImageGenerationServiceStub(channel).Generate(slow))
        seen = [await anext(events)]
        await until(server, lambda _: server.app.pipeline.running == 0)
        seen += [event async for event in events]
    steps = [event.progress.step for event in seen if event.HasField("progress")]
    assert steps == sorted(steps)
    assert len(steps) < 60, "this reader was not slow enough to tell"
    assert seen[-1].HasField("completed")
    assert list(pictures(seen)) == [0]


async def test_a_kept_generation_can_be_read_on_from_where_the_stream_broke(tmp_path: Path) -> None:
    write_echo_model(tmp_path / "models", step_seconds=0.01)
    async with echo_server(tmp_path) as server:
        named = {"request_id": "order-8", "on_disconnect": common_pb2.ON_DISCONNECT_CONTINUE, "num_inference_steps": 10}
        first = images(server).Generate(request(**named))
        heard_first = [await first.read() for _ in range(3)]
        first.cancel()
        rest = await heard(server, **named, resume_after_sequence=heard_first[-1].sequence)
        status = await until(server, idle)
    assert min(event.sequence for event in rest) > heard_first[-1].sequence
    assert rest[-1].HasField("completed")
    assert list(pictures(rest)) == [0]
    assert status.counters["pictures_total"] == 1
