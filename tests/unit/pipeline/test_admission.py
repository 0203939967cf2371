"""A call is admitted soon, or refused soon: before that it hears nothing, not even a heartbeat."""

import asyncio
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from atelier_server.brand.store import BrandStore
from atelier_server.errors import Unavailable
from atelier_server.pipeline import score
from atelier_server.pipeline.brand_embedder import Embedders
from atelier_server.pipeline.brand_look import BrandLooks
from atelier_server.pipeline.clip_scorer import ClipScorer
from atelier_server.pipeline.score import ModelScorer
from atelier_server.types import Gate, GenerateRequest
from tests.unit.pipeline.conftest import ScriptedExecutor, ScriptedModels


@pytest.fixture
def stuck_scorer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModelScorer]:
    """A scorer whose database does not answer: the only thread that may ask it waits."""
    monkeypatch.setattr(score, "ADMISSION_SECONDS", 0.05)
    models, store, answers = (
        ScriptedModels(ScriptedExecutor("clip", role="clip")),
        BrandStore("", tmp_path),
        threading.Event(),
    )
    with ThreadPoolExecutor(1) as pool:
        pool.submit(answers.wait)
        try:
            yield ModelScorer(ClipScorer(models), BrandLooks(store, Embedders(models, pool), pool), pool)
        finally:
            answers.set()
    store.close()


async def test_a_database_that_does_not_answer_does_not_hold_a_call_up(stuck_scorer: ModelScorer) -> None:
    request = GenerateRequest("a bag", brand_id="acme")
    async with asyncio.timeout(10):
        versions = [await stuck_scorer.admit(request) for _ in range(2)]
    assert versions[0] != versions[1], "what comes of an unknown brand is nobody else's"


async def test_a_gate_is_refused_when_its_brand_cannot_be_looked_up(stuck_scorer: ModelScorer) -> None:
    async with asyncio.timeout(10):
        with pytest.raises(Unavailable, match="cannot be looked up") as caught:
            await stuck_scorer.admit(GenerateRequest("a bag", brand_id="acme", gate=Gate.ENFORCE))
    assert caught.value.reason == "SCORER_MISSING"
