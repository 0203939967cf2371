"""The events of one generation into its result, with every picture checked."""

import hashlib

from atelier_client._errors import DataLoss
from atelier_client._events import Completed, Event, ImageChunk, ImageCompleted, Started
from atelier_client._result import GeneratedImage, GenerationResult


class Assembler:
    """Collects events; `result` once Completed has come."""

    def __init__(self) -> None:
        self._files: dict[int, bytearray] = {}
        self._images: dict[int, GeneratedImage] = {}
        self._started: Started | None = None
        self._completed: Completed | None = None

    def add(self, event: Event) -> None:
        """Takes the next event.

        Raises:
            DataLoss: A piece is missing, or a picture's size or SHA-256 is wrong.
        """
        match event:
            case Started():
                self._started = event
            case ImageChunk():
                self._add_chunk(event)
            case ImageCompleted():
                self._images[event.image_index] = self._check(event)
            case Completed():
                self._completed = event

    def result(self) -> GenerationResult:
        """The generation.

        Raises:
            DataLoss: The stream ended early, or a picture is missing.
        """
        started, completed = self._started, self._completed
        if started is None or completed is None:
            raise DataLoss("The stream ended before the generation was completed; try again.")
        images = [self._images[index] for index in sorted(self._images)]
        if not images or len(images) != max(len(started.seeds), 1):
            raise DataLoss(f"{len(images)} of {len(started.seeds)} pictures arrived; try again.")
        return GenerationResult(
            request_id=completed.request_id,
            images=tuple(images),
            model_used=completed.model_used,
            model_version=completed.model_version,
            routing_reason=started.routing_reason,
            prompt_used=started.prompt_used,
            negative_prompt_used=started.negative_prompt_used,
            num_inference_steps=started.num_inference_steps,
            guidance_scale=started.guidance_scale,
            noise_schedule=started.noise_schedule,
            truncated_tokens=started.truncated_tokens,
            generation_time_ms=completed.generation_time_ms,
            timings_ms=completed.timings_ms,
            cached=completed.cached,
            attempts=completed.attempts,
            restarts=completed.restarts,
            reproducibility=completed.reproducibility,
            ignored_fields=completed.ignored_fields,
            timestamp=completed.timestamp,
            metadata=completed.metadata,
            usage=completed.usage,
            accelerations=completed.accelerations,
        )

    def _add_chunk(self, chunk: ImageChunk) -> None:
        file = self._files.setdefault(chunk.image_index, bytearray())
        if chunk.offset != len(file):
            raise DataLoss(f"Picture {chunk.image_index} has a gap at byte {len(file)}; try again.")
        file += chunk.data
        if len(file) > chunk.total_size or (chunk.last and len(file) != chunk.total_size):
            raise DataLoss(
                f"Picture {chunk.image_index} has {len(file)} bytes instead of {chunk.total_size}; try again."
            )

    def _check(self, done: ImageCompleted) -> GeneratedImage:
        data = bytes(self._files.pop(done.image_index, b""))
        if hashlib.sha256(data).hexdigest() != done.sha256:
            raise DataLoss(f"Picture {done.image_index} does not have its SHA-256; try again.")
        return GeneratedImage(
            data=data,
            seed=done.seed,
            sha256=done.sha256,
            media_type=done.media_type,
            dimensions=done.dimensions,
            native_dimensions=done.native_dimensions,
            scores=done.scores,
        )
