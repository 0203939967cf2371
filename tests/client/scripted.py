"""A real gRPC server whose answers a test scripts, and the events of a whole generation."""

import hashlib
import io
import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
from google.protobuf import any_pb2
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2
from PIL import Image

from atelier.v1 import (
    brand_pb2,
    brand_pb2_grpc,
    health_pb2,
    image_generation_pb2,
    image_generation_pb2_grpc,
    model_pb2,
    model_pb2_grpc,
    scoring_pb2,
)

GenerateResponse = image_generation_pb2.GenerateResponse
Script = Callable[[Any, grpc.ServicerContext], Any]


class Refusal(Exception):
    """What a script raises to end a call with a status and google.rpc details."""

    def __init__(self, code: grpc.StatusCode, message: str, *details: Message) -> None:
        super().__init__(message)
        self.code, self.message, self.details = code, message, details

    def abort(self, context: grpc.ServicerContext) -> None:
        packed = []
        for detail in self.details:
            packed.append(any_pb2.Any())
            packed[-1].Pack(detail)
        status = status_pb2.Status(code=self.code.value[0], message=self.message, details=packed)
        context.set_trailing_metadata((("grpc-status-details-bin", status.SerializeToString()),))
        context.abort(self.code, self.message)


def refusal(code: str, message: str, reason: str, *, field: str = "", retry_after: float | None = None) -> Refusal:
    """A refusal as the real server writes it."""
    details: list[Message] = [
        error_details_pb2.ErrorInfo(reason=reason, domain="atelier", metadata={"fact": "1"}),
        error_details_pb2.RequestInfo(request_id="r"),
    ]
    if field:
        violation = error_details_pb2.BadRequest.FieldViolation(field=field, description=message)
        details.append(error_details_pb2.BadRequest(field_violations=[violation]))
    if retry_after is not None:
        retry = error_details_pb2.RetryInfo()
        retry.retry_delay.FromNanoseconds(round(retry_after * 1e9))
        details.append(retry)
    return Refusal(grpc.StatusCode[code], message, *details)


class ScriptedServer:
    """Answers each method by what `scripts` holds under its name, and keeps what it was asked."""

    def __init__(
        self,
        credentials: grpc.ServerCredentials | None = None,
        port: int = 0,
        scripts: Mapping[str, Script] | None = None,
    ) -> None:
        self.scripts: dict[str, Script] = dict(scripts or {})
        self.requests: list[tuple[str, Any]] = []
        self.headers: list[dict[str, Any]] = []
        self._server = grpc.server(ThreadPoolExecutor(max_workers=16))
        for add in (
            image_generation_pb2_grpc.add_ImageGenerationServiceServicer_to_server,
            brand_pb2_grpc.add_BrandServiceServicer_to_server,
            model_pb2_grpc.add_ModelServiceServicer_to_server,
        ):
            add(self, self._server)
        if credentials is None:
            port = self._server.add_insecure_port(f"127.0.0.1:{port}")
        else:
            port = self._server.add_secure_port("127.0.0.1:0", credentials)
        self.target = f"127.0.0.1:{port}"
        self._server.start()

    def stop(self) -> None:
        self._server.stop(grace=None).wait()

    def asked(self, method: str) -> list[Any]:
        """The requests that a method got."""
        return [request for name, request in self.requests if name == method]

    def __getattr__(self, method: str) -> Script:
        if method.startswith("_"):
            raise AttributeError(method)
        return self._stream if method == "Generate" else lambda request, context: self._unary(method, request, context)

    def _begin(self, method: str, request: Any, context: grpc.ServicerContext) -> Script:
        if isinstance(request, Iterator):
            request = list(request)
        self.requests.append((method, request))
        self.headers.append(dict(context.invocation_metadata()))
        script = self.scripts.get(method)
        if script is None:
            context.abort(grpc.StatusCode.UNIMPLEMENTED, f"{method} is not scripted")
        return lambda *_: script(request, context)

    def _unary(self, method: str, request: Any, context: grpc.ServicerContext) -> Any:
        try:
            return self._begin(method, request, context)(request, context)
        except Refusal as refused:
            refused.abort(context)

    def _stream(self, request: Any, context: grpc.ServicerContext) -> Iterator[GenerateResponse]:
        try:
            yield from self._begin("Generate", request, context)(request, context)
        except Refusal as refused:
            refused.abort(context)


def png(seed: int, side: int = 32) -> bytes:
    """A small picture that depends on the seed."""
    buffer = io.BytesIO()
    Image.new("RGB", (side, side), (seed % 256, 80, 120)).save(buffer, format="PNG")
    return buffer.getvalue()


def scores(**changes: Any) -> scoring_pb2.Scores:
    """Scores as of a picture that passes without a brand."""
    message = scoring_pb2.Scores(
        aesthetic_score=7.8125,
        sub_scores={"sharpness": 8.0},
        aesthetic_method="starter_clip 1",
        brand_consistency_score=1.0,
        brand_reference_missing=True,
        prompt_alignment=0.75,
        aesthetic_threshold=7.5,
        brand_threshold=0.85,
        aesthetic_passed=True,
        brand_passed=True,
        passed=True,
    )
    message.MergeFrom(scoring_pb2.Scores(**changes))
    return message


def generation(
    request: image_generation_pb2.GenerateRequest, steps: int = 3, pieces: int = 2
) -> list[GenerateResponse]:
    """All events of a generation, as the server sends them."""
    seeds = [(request.seed if request.HasField("seed") else 7) + index for index in range(max(request.num_images, 1))]
    size = image_generation_pb2.Started().dimensions.__class__(width=32, height=32)
    started = image_generation_pb2.Started(
        model="starter",
        model_version="1",
        routing_reason="nothing but the starter is ready",
        prompt_used=f"{request.prompt}, rich",
        seeds=seeds,
        dimensions=size,
        native_dimensions=size,
        num_inference_steps=steps,
        guidance_scale=7.5,
        noise_schedule="euler",
        truncated_tokens=[image_generation_pb2.TruncatedTokens(encoder="text_encoder_2", prompt_tokens=4)],
    )
    events: list[dict[str, Any]] = [{"queued": image_generation_pb2.Queued(position=0)}, {"started": started}]
    for step in range(1, steps + 1):
        progress = image_generation_pb2.Progress(step=step, total_steps=steps, attempt=1)
        progress.estimated_remaining.FromMilliseconds(1000 * (steps - step))
        if request.preview.every_n_steps:
            preview = image_generation_pb2.Preview(data=png(step), media_type="image/png", dimensions=size)
            progress.preview.CopyFrom(preview)
        events.append({"progress": progress})
    for index, seed in enumerate(seeds):
        events += _picture(index, seed, size, pieces)
    completed = image_generation_pb2.Completed(
        generation_time_ms=1234.5,
        timings_ms={"denoise": 1000.0, "decode": 100.0, "queue": 0.5},
        attempts=1,
        reproducibility=request.reproducibility or 1,
        model_used="starter",
        model_version="1",
        ignored_fields=["output_quality"],
        accelerations=["step_caching"] if request.HasField("step_caching") else [],
        metadata=dict(request.metadata),
    )
    completed.timestamp.FromJsonString("2026-01-02T03:04:05Z")
    events.append({"completed": completed})
    return numbered(events, request.request_id)


def paid_generation(request: image_generation_pb2.GenerateRequest) -> list[GenerateResponse]:
    """A generation that a paid service made."""
    events = generation(request)
    usage = events[-1].completed.usage
    usage.input_tokens, usage.output_tokens, usage.total_tokens = 20, 1000, 1020
    usage.estimated_cost_usd, usage.upstream_calls = 0.0301, 2
    return events


def numbered(events: Iterable[dict[str, Any]], request_id: str) -> list[GenerateResponse]:
    """Events with their sequence numbers."""
    return [
        GenerateResponse(sequence=number, request_id=request_id, **event)
        for number, event in enumerate(events, start=1)
    ]


def _picture(index: int, seed: int, size: Any, pieces: int) -> list[dict[str, Any]]:
    data = png(seed)
    edges = [len(data) * piece // pieces for piece in range(pieces + 1)]
    chunks = [
        image_generation_pb2.ImageChunk(
            image_index=index, offset=start, total_size=len(data), data=data[start:end], last=end == len(data)
        )
        for start, end in itertools.pairwise(edges)
    ]
    done = image_generation_pb2.ImageCompleted(
        image_index=index,
        seed=seed,
        sha256=hashlib.sha256(data).hexdigest(),
        media_type="image/png",
        dimensions=size,
        native_dimensions=size,
        scores=scores(),
    )
    return [*({"image_chunk": chunk} for chunk in chunks), {"image_completed": done}]


def brand(brand_id: str, references: int = 0) -> brand_pb2.Brand:
    """A brand as the server tells it."""
    message = brand_pb2.Brand(brand_id=brand_id, name=brand_id.title(), reference_count=references, palette=["#aa3300"])
    message.created_at.FromJsonString("2026-01-02T03:04:05Z")
    return message


def model(name: str, state: str = "READY") -> model_pb2.ModelInfo:
    """A model as the server tells it."""
    return model_pb2.ModelInfo(name=name, version="1", state=state, backend="sdxl", instances=[instance(name)])


def instance(name: str) -> health_pb2.ModelInstance:
    """An instance as the server tells it."""
    return health_pb2.ModelInstance(model=name, version="1", state="READY", device="cpu", memory_bytes=2**30, pid=12)


def health() -> health_pb2.HealthResponse:
    """A healthy server that has made nothing yet."""
    return health_pb2.HealthResponse(
        status="healthy",
        initialized=True,
        device="cpu",
        models_available=health_pb2.ModelsAvailable(stable_diffusion_xl=True, clip_scoring=True),
        instances=[instance("starter")],
        server_version="0.1.0",
    )
