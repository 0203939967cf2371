"""Calls to a served starter that nothing answers from a cache."""

from __future__ import annotations

import itertools
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from atelier_client import Atelier
from common import NEGATIVE, PROMPT


class Caller:
    """Calls from threads of this process."""

    def __init__(self, address: str) -> None:
        self._atelier = Atelier(address)
        self._seeds = itertools.count(1)

    def call(self, steps: int, side: int) -> tuple[float, Any]:
        """One call from request to picture: its seconds and its result."""
        begin = time.perf_counter()
        result = self._atelier.generate(
            PROMPT,
            style="none",
            negative_prompt=NEGATIVE,
            width=side,
            height=side,
            seed=next(self._seeds),
            num_inference_steps=steps,
            cache="bypass",
            brand_consistency_check=False,
        )
        return time.perf_counter() - begin, result

    def make(self, steps: int, side: int, count: int = 1, seed: int = 1) -> float:
        """So many calls at once; the seconds until the last picture. The same arguments as a contender's."""
        begin = time.perf_counter()
        with ThreadPoolExecutor(count) as pool:
            for future in [pool.submit(self.call, steps, side) for _ in range(count)]:
                future.result()
        return time.perf_counter() - begin
