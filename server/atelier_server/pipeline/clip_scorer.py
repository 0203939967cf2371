"""Aesthetic score and prompt alignment by the CLIP model that is ready."""

import asyncio
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from uuid import uuid4

import numpy as np

from atelier_server.backends.base import Tensor, TensorTask
from atelier_server.errors import AtelierError, Unavailable
from atelier_server.executor.base import READY, Executor
from atelier_server.pipeline.digest import model_digest
from atelier_server.pipeline.failover import done_again
from atelier_server.pipeline.route import Models, preferred
from atelier_server.scoring.calibration import Calibration, load_calibration
from atelier_server.scoring.clip import Embeddings, aesthetics, alignment, mean_embedding, normalised
from atelier_server.scoring.text import ClipTokenizer

METHOD = "clip_antonym_pairs"
HEAD_METHOD = "clip_aesthetic_head"
HEAD_FILE = "aesthetic_head.onnx"
"""An optional second graph beside the model: image_embeds [rows, width] of length 1 to aesthetic_score [rows, 1], 0 to
10, such as LAION's aesthetic predictor on CLIP ViT-L/14."""
KNOWN_PROMPTS = 1024


@dataclass(frozen=True, slots=True)
class ClipScores:
    """What a CLIP says of a picture; `prompt_alignment` None without a prompt."""

    aesthetic_score: float
    sub_scores: Mapping[str, float]
    method: str
    prompt_alignment: float | None
    warnings: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Clip:
    """A CLIP instance with all that is needed to use it; pair embeddings are [pairs, width]."""

    models: Models
    instance: Executor
    calibration: Calibration
    tokenizer: ClipTokenizer
    positives: Embeddings
    negatives: Embeddings
    has_head: bool
    prompts: OrderedDict[str, Embeddings] = field(default_factory=OrderedDict)

    async def judge(self, pixel_values: Tensor, prompt: str | None) -> ClipScores:
        """Scores a picture.

        Args:
            pixel_values: float32 [crops, 3, image_size, image_size].
            prompt: What it should show.

        Raises:
            AtelierError: The instance failed.
        """
        picture = mean_embedding(await infer(self.models, self.instance, "pixel_values", pixel_values, "image_embeds"))
        judged = aesthetics(picture, self.positives, self.negatives, self.calibration)
        score, method = judged.score, METHOD
        if self.has_head:
            head = await infer(self.models, self.instance, "image_embeds", picture, "aesthetic_score")
            score, method = float(np.clip(head.reshape(-1)[0], 0.0, 10.0)), HEAD_METHOD
        spec = self.instance.spec
        described = f"{method} {spec.name}/{spec.version} calibration {self.calibration.version}"
        aligned: float | None = None
        warnings: tuple[str, ...] = ()
        if prompt is not None:
            aligned = alignment(picture, await self._prompt(prompt), self.calibration)
            if self.tokenizer.cuts(prompt):
                length = self.calibration.context_length
                warnings = (f"prompt_alignment reads the first {length} tokens of the prompt; the rest was cut",)
        return ClipScores(score, judged.sub_scores, described, aligned, warnings)

    async def _prompt(self, prompt: str) -> Embeddings:
        known = self.prompts.get(prompt)
        if known is None:
            known = self.prompts[prompt] = await embed_texts(self.models, self.instance, self.tokenizer, [prompt])
        self.prompts.move_to_end(prompt)
        if len(self.prompts) > KNOWN_PROMPTS:
            self.prompts.popitem(last=False)
        return known


class ClipScorer:
    """Finds the CLIP that is ready and prepares each of its instances once."""

    def __init__(self, models: Models) -> None:
        self._models = models
        self._prepared: list[Clip] = []
        self._preparing = asyncio.Lock()

    @property
    def is_ready(self) -> bool:
        """Whether there is one."""
        return bool(self._models.ready("clip"))

    def version(self) -> str:
        """Changes when its scores may; empty without one."""
        ready = self._models.ready("clip")
        if not ready:
            return ""
        instance = preferred(ready)
        return f"{instance.spec.name}/{instance.spec.version}/{model_digest(instance)}"

    async def current(self) -> Clip:
        """The CLIP to use.

        Raises:
            Unavailable: None is ready, or its calibration or tokenizer cannot be used.
        """
        instance = await ready_or_coming(self._models, "clip", [clip.instance for clip in self._prepared])
        if instance is None:
            raise Unavailable("no CLIP model is ready")
        known = self._known(instance)
        if known is None:
            async with self._preparing:  # those who come together wait for one
                known = self._known(instance)
                if known is None:
                    known = await _prepare(self._models, instance)
                    running = [clip for clip in self._prepared if clip.instance.status().state == READY]
                    self._prepared = [*running, known]
        return known

    def _known(self, instance: Executor) -> Clip | None:
        return next((clip for clip in self._prepared if clip.instance is instance), None)


async def ready_or_coming(models: Models, role: str, known: Sequence[Executor]) -> Executor | None:
    """The instance to use for a role; those that were used before are waited for while they are restarted."""
    ready = models.ready(role)
    if ready:
        return preferred(ready)
    for instance in reversed(known):
        with suppress(AtelierError):
            return await models.successor(instance)
    return None


async def infer(models: Models, instance: Executor, input_name: str, tensor: Tensor, output_name: str) -> Embeddings:
    """Runs one tensor through a model; once more if its runner is lost meanwhile."""

    async def run(on: Executor) -> Mapping[str, Tensor]:
        return await on.infer(TensorTask(uuid4().hex, {input_name: tensor}, (output_name,)))

    outputs = await done_again(models, instance, run)
    return np.asarray(outputs[output_name], np.float32)


async def embed_texts(models: Models, instance: Executor, tokenizer: ClipTokenizer, texts: Sequence[str]) -> Embeddings:
    """Embeddings [texts, width] of length 1."""
    return normalised(await infer(models, instance, "input_ids", tokenizer(texts), "text_embeds"))


async def _prepare(models: Models, instance: Executor) -> Clip:
    folder = instance.spec.folder
    calibration, tokenizer = await asyncio.to_thread(_read, folder)
    texts = [pair.positive for pair in calibration.pairs] + [pair.negative for pair in calibration.pairs]
    embedded = await embed_texts(models, instance, tokenizer, texts)
    count = len(calibration.pairs)
    has_head = (folder / HEAD_FILE).is_file()
    return Clip(models, instance, calibration, tokenizer, embedded[:count], embedded[count:], has_head)


def _read(folder: Path) -> tuple[Calibration, ClipTokenizer]:
    """What lies beside a model's graphs. Blocks."""
    calibration = load_calibration(folder)
    try:
        return calibration, ClipTokenizer(folder, calibration)
    except Exception as error:  # the library raises nothing more precise
        raise Unavailable(f"the tokenizer in {folder.parent.name}/{folder.name} cannot be used: {error}") from None
