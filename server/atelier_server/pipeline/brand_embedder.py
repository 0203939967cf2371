"""The brand model that is ready, and embeddings of pictures by it."""

import asyncio
from concurrent.futures import Executor as ThreadPool
from dataclasses import dataclass

from atelier_server.backends.base import Tensor
from atelier_server.brand.records import Space, Vectors
from atelier_server.errors import Unavailable
from atelier_server.executor.base import READY, Executor
from atelier_server.pipeline.clip_scorer import infer, ready_or_coming
from atelier_server.pipeline.route import Models
from atelier_server.scoring.clip import mean_embedding
from atelier_server.scoring.embedder import Preprocessing, load_impostors, preprocessing_of, space_of


@dataclass(frozen=True, slots=True)
class Embedder:
    """An instance of the brand model with all that is needed to use it."""

    models: Models
    instance: Executor
    preprocessing: Preprocessing
    space: Space
    impostors: Vectors | None

    async def embed(self, pixel_values: Tensor) -> Vectors:
        """The embedding [1, width], of length 1, of a picture's crops float32 [crops, 3, image_size, image_size].

        Raises:
            AtelierError: The instance failed.
        """
        return mean_embedding(await infer(self.models, self.instance, "pixel_values", pixel_values, "image_embeds"))


class Embedders:
    """Finds the brand model that is ready and prepares each of its instances once."""

    def __init__(self, models: Models, pool: ThreadPool) -> None:
        self._models = models
        self._pool = pool
        self._prepared: list[Embedder] = []
        self._preparing = asyncio.Lock()

    @property
    def is_ready(self) -> bool:
        """Whether there is one."""
        return bool(self._models.ready("brand"))

    async def current(self) -> Embedder:
        """The embedder to use.

        Raises:
            Unavailable: None is ready.
            FailedPrecondition: Its configuration is wrong.
        """
        instance = await ready_or_coming(self._models, "brand", [one.instance for one in self._prepared])
        if instance is None:
            raise Unavailable("no brand model is ready", reason="BRAND_MODEL_MISSING")
        known = self._known(instance)
        if known is None:
            async with self._preparing:  # those who come together wait for one
                known = self._known(instance)
                if known is None:
                    loop = asyncio.get_running_loop()
                    known = await loop.run_in_executor(self._pool, _prepare, self._models, instance)
                    running = [embedder for embedder in self._prepared if embedder.instance.status().state == READY]
                    self._prepared = [*running, known]
        return known

    def _known(self, instance: Executor) -> Embedder | None:
        return next((embedder for embedder in self._prepared if embedder.instance is instance), None)


def _prepare(models: Models, instance: Executor) -> Embedder:
    spec = instance.spec
    preprocessing = preprocessing_of(spec.name, spec.parameters)
    space = space_of(spec.name, spec.version, spec.folder, preprocessing)
    return Embedder(models, instance, preprocessing, space, load_impostors(spec.folder, space))
