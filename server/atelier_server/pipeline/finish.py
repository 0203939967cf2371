"""From decoded pixels to the events that carry a picture: resample, score, encode, cut into chunks."""

import asyncio
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Executor as ThreadPool
from dataclasses import dataclass, field
from functools import partial
from typing import ParamSpec, TypeVar

from PIL import Image

from atelier_server.backends.base import JobDone, Pixels
from atelier_server.pipeline.picture import EncodedPicture, encode, resample
from atelier_server.pipeline.plan import Plan
from atelier_server.pipeline.recall import chunks
from atelier_server.pipeline.safety import SafetyGate
from atelier_server.pipeline.score import Scorer
from atelier_server.telemetry.tracing import span
from atelier_server.types import Dimensions, ImageChunk, ImageCompleted, Scores, Usage

P = ParamSpec("P")
T = TypeVar("T")


@dataclass(slots=True)
class Timings:
    """Milliseconds by stage, summed over pictures and attempts; `exact` tells whether the runner kept EXACT.

    `model_used` and `usage` are what a paid service told, summed in the same way; `accelerations` are those that took
    effect.
    """

    by_stage: dict[str, float] = field(default_factory=dict)
    exact: bool = True
    model_used: str = ""
    usage: Usage | None = None
    accelerations: tuple[str, ...] = ()

    def add(self, stage: str, started: float) -> None:
        """Adds the time since `started` (time.monotonic())."""
        self.by_stage[stage] = self.by_stage.get(stage, 0.0) + (time.monotonic() - started) * 1000.0

    def merge(self, done: JobDone) -> None:
        """Adds what the runner measured."""
        self.sum_up(done.timings_ms)
        self.exact = self.exact and done.exact
        self.model_used = done.model_used or self.model_used
        if done.usage is not None:
            self.usage = done.usage if self.usage is None else self.usage + done.usage

    def sum_up(self, timings_ms: Mapping[str, float]) -> None:
        """Adds milliseconds by stage."""
        for stage, milliseconds in timings_ms.items():
            self.by_stage[stage] = self.by_stage.get(stage, 0.0) + milliseconds


@dataclass(frozen=True, slots=True)
class JudgedPicture:
    """A picture of the asked size and its scores, not encoded yet; `native` is the size it was composed at."""

    image_index: int
    seed: int
    attempt: int
    native: Dimensions
    image: Image.Image
    scores: Scores


@dataclass(frozen=True, slots=True)
class FinishedPicture:
    """A picture that is ready to leave."""

    image_index: int
    seed: int
    native: Dimensions
    encoded: EncodedPicture
    scores: Scores


class Finisher:
    """Finishes pictures in threads, so that nothing CPU-bound runs on the event loop."""

    def __init__(self, pool: ThreadPool, scorer: Scorer, safety: SafetyGate) -> None:
        self._pool = pool
        self._scorer = scorer
        self._safety = safety

    async def finish(self, plan: Plan, position: int, pixels: Pixels, timings: Timings) -> FinishedPicture:
        """Resamples, scores and encodes a picture.

        Args:
            position: Of the picture in the plan.
            pixels: uint8 [height, width, 3].

        Raises:
            ModerationBlocked: The safety gate refuses the picture.
        """
        image = await self._resample(plan, pixels, timings)
        encoding = asyncio.create_task(self._encode(plan, image, timings))
        try:
            scores = await self._score(plan, image, timings)
            encoded = await encoding
        finally:
            encoding.cancel()
        native = Dimensions(pixels.shape[1], pixels.shape[0])
        return FinishedPicture(plan.indexes[position], plan.seeds[position], native, encoded, scores)

    async def judge(self, plan: Plan, position: int, pixels: Pixels, timings: Timings) -> JudgedPicture:
        """As `finish`, without encoding what may never leave."""
        image = await self._resample(plan, pixels, timings)
        scores = await self._score(plan, image, timings)
        native = Dimensions(pixels.shape[1], pixels.shape[0])
        index, attempt = plan.indexes[position], plan.attempt_of(position)
        return JudgedPicture(index, plan.seeds[position], attempt, native, image, scores)

    async def encode(self, plan: Plan, picture: JudgedPicture, timings: Timings) -> FinishedPicture:
        """Finishes a judged picture."""
        encoded = await self._encode(plan, picture.image, timings)
        return FinishedPicture(picture.image_index, picture.seed, picture.native, encoded, picture.scores)

    async def _resample(self, plan: Plan, pixels: Pixels, timings: Timings) -> Image.Image:
        image = await self._timed(timings, "resize", resample, pixels, plan.delivered)
        await self._timed(timings, "safety", self._safety.check_picture, image, plan.request)
        return image

    async def _score(self, plan: Plan, image: Image.Image, timings: Timings) -> Scores:
        if not plan.request.score:
            return Scores(missing_reasons={"aesthetic_score": "the call asked for the picture alone"})
        started = time.monotonic()
        with span("score"):
            scores = await self._scorer.score(image, plan.request)
        timings.add("score", started)
        return scores

    async def _encode(self, plan: Plan, image: Image.Image, timings: Timings) -> EncodedPicture:
        request = plan.request
        return await self._timed(timings, "encode_image", encode, image, request.output_format, request.output_quality)

    async def _timed(
        self, timings: Timings, stage: str, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        started = time.monotonic()
        work = partial(function, *args, **kwargs)
        with span(stage):
            result = await asyncio.get_running_loop().run_in_executor(self._pool, work)
        timings.add(stage, started)
        return result


def picture_events(picture: FinishedPicture, plan: Plan) -> Iterator[ImageChunk | ImageCompleted]:
    """The chunks of a picture in order, then its completion."""
    yield from chunks(picture.image_index, picture.encoded.data)
    yield ImageCompleted(
        image_index=picture.image_index,
        seed=picture.seed,
        sha256=picture.encoded.sha256,
        media_type=plan.request.output_format.media_type,
        dimensions=plan.delivered,
        native_dimensions=picture.native,
        scores=picture.scores,
    )
