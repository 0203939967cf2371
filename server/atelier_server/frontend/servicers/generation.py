"""ImageGenerationService: makes pictures, and tells how the server is."""

from collections.abc import AsyncIterator
from contextlib import aclosing

import grpc

from atelier.v1 import health_pb2, image_generation_pb2, image_generation_pb2_grpc, scoring_pb2
from atelier_server.frontend import converters
from atelier_server.frontend.access import caller_of
from atelier_server.frontend.call import adopt_request_id, made_request_id
from atelier_server.frontend.drain import Drain
from atelier_server.frontend.health import HealthMonitor
from atelier_server.pipeline.judging import Judging
from atelier_server.pipeline.orchestrator import Pipeline
from atelier_server.telemetry.metrics import GenerationMetrics

Context = grpc.aio.ServicerContext[object, object]


class ImageGenerationServicer(image_generation_pb2_grpc.ImageGenerationServiceServicer):
    """Converts calls for the pipeline, and what is known of the server for the caller."""

    def __init__(
        self,
        pipeline: Pipeline,
        judging: Judging,
        health: HealthMonitor,
        metrics: GenerationMetrics,
        drain: Drain,
    ) -> None:
        self._pipeline = pipeline
        self._judging = judging
        self._health = health
        self._metrics = metrics
        self._drain = drain

    async def Generate(
        self, request: image_generation_pb2.GenerateRequest, context: Context
    ) -> AsyncIterator[image_generation_pb2.GenerateResponse]:
        """Streams the generation's log. Leaving the stream ends the work, unless somebody wants it to go on."""
        caller = caller_of(context)
        adopt_request_id(request.request_id)
        with self._drain.generation(), self._metrics.follow(caller.remaining_seconds) as record:
            wanted = converters.generate_request(request, made_request_id())
            generation = await self._pipeline.start(wanted, caller)
            try:
                async with aclosing(generation.read(wanted.resume_after_sequence)) as events:
                    async for numbered in events:
                        record.observe(numbered.event)
                        yield converters.generate_response(numbered, generation.request_id)
            finally:
                generation.cancel()

    async def Score(self, request: scoring_pb2.ScoreRequest, context: Context) -> scoring_pb2.ScoreResponse:
        """Judges a client's pictures. A server that ends waits for it, as for a generation."""
        caller = caller_of(context)
        with self._drain.generation():
            judged = await self._judging.judge(converters.score_request(request), caller)
        return scoring_pb2.ScoreResponse(scores=map(converters.scores, judged))

    async def Health(self, request: health_pb2.HealthRequest, context: Context) -> health_pb2.HealthResponse:
        """Tells how the server and each model instance are."""
        return converters.health_response(self._health.report())

    async def GetMetrics(
        self, request: health_pb2.GetMetricsRequest, context: Context
    ) -> health_pb2.GetMetricsResponse:
        """Tells what the server did in its rolling window."""
        return converters.metrics_response(self._metrics)
