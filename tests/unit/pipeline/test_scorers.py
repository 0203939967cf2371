"""Scoring models are prepared once, however many pictures come at the same time."""

import asyncio
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from atelier_server.backends.base import Tensor, TensorTask
from atelier_server.errors import Unavailable
from atelier_server.pipeline.brand_embedder import Embedders
from atelier_server.pipeline.clip_scorer import ClipScorer
from tests.integration.scoring_kit import WIDTH, write_brand_model, write_clip
from tests.unit.pipeline.conftest import ScriptedExecutor, ScriptedModels


class ScriptedClip(ScriptedExecutor):
    """Embeds every text alike, after a moment."""

    def __init__(self, folder: Path) -> None:
        super().__init__("clip", role="clip")
        self.spec = replace(self.spec, folder=folder)
        self.asked = 0

    async def infer(self, task: TensorTask) -> Mapping[str, Tensor]:
        self.asked += 1
        await asyncio.sleep(0.01)
        [texts] = task.inputs.values()
        return {"text_embeds": np.ones((len(texts), WIDTH), np.float32)}


async def test_a_clip_is_prepared_once(tmp_path: Path) -> None:
    clip = ScriptedClip(write_clip(tmp_path))
    scorer = ClipScorer(ScriptedModels(clip))
    prepared = await asyncio.gather(*(scorer.current() for _ in range(8)))
    assert clip.asked == 1
    assert len({id(one) for one in prepared}) == 1


async def test_a_brand_model_is_prepared_once(tmp_path: Path) -> None:
    instance = ScriptedExecutor("brand", role="brand")
    sizes = {"image_size": "16", "image_mean": "0.5 0.5 0.5", "image_std": "0.5 0.5 0.5"}
    instance.spec = replace(
        instance.spec, folder=write_brand_model(tmp_path), parameters={**instance.spec.parameters, **sizes}
    )
    with ThreadPoolExecutor(4) as pool:
        embedders = Embedders(ScriptedModels(instance), pool)
        prepared = await asyncio.gather(*(embedders.current() for _ in range(8)))
    assert len({id(one) for one in prepared}) == 1


async def test_a_damaged_tokenizer_is_named(tmp_path: Path) -> None:
    folder = write_clip(tmp_path)
    (folder / "tokenizer.json").write_text("{")
    with pytest.raises(Unavailable, match="the tokenizer in small_clip/1"):
        await ClipScorer(ScriptedModels(ScriptedClip(folder))).current()
