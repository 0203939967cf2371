"""The cache as the pipeline sees it: memory before disk, and the newest result of a prompt whatever its seed."""

import asyncio
from collections import OrderedDict
from concurrent.futures import Executor as ThreadPool

from atelier_server.cache.disk import DiskCache
from atelier_server.cache.memory import MemoryCache
from atelier_server.cache.result import KeptResult

MAX_PROMPTS = 10_000


class ResultCache:
    """Finished generations by key.

    Args:
        memory: Asked first.
        disk: Asked next, if there is one.
        pool: Threads for the disk.
    """

    def __init__(self, memory: MemoryCache, disk: DiskCache | None, pool: ThreadPool) -> None:
        self._memory = memory
        self._disk = disk
        self._pool = pool
        self._newest: OrderedDict[str, str] = OrderedDict()

    async def get(self, key: str) -> KeptResult | None:
        """The result of a key, if it is kept."""
        result = self._memory.get(key)
        if result is None and self._disk is not None:
            result = await asyncio.get_running_loop().run_in_executor(self._pool, self._disk.get, key)
            if result is not None:
                self._memory.put(key, result)
        return result

    async def put(self, key: str, prompt_key: str, result: KeptResult) -> None:
        """Keeps a result under its key, and as the newest of its prompt."""
        self._memory.put(key, result)
        self._newest[prompt_key] = key
        self._newest.move_to_end(prompt_key)
        if len(self._newest) > MAX_PROMPTS:
            self._newest.popitem(last=False)
        if self._disk is not None:
            await asyncio.get_running_loop().run_in_executor(self._pool, self._disk.put, key, result)

    def newest_key(self, prompt_key: str) -> str | None:
        """The key of the newest result for a prompt, which may have been evicted since."""
        return self._newest.get(prompt_key)
