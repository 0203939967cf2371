"""Ends instances that get no new calls, once the calls they have are done."""

import asyncio
import contextlib
from collections.abc import Sequence

from atelier_server.errors import AtelierError
from atelier_server.repository.state import Instance

IDLE_LOOKS = 3
"""An instance that is seen idle so often in a row has no caller left that was about to use it."""
IDLE_LOOK_SECONDS = 0.1


async def retire(instances: Sequence[Instance], timeout_seconds: float) -> None:
    """Stops every instance when it is idle, or when the time is over. A lost one is stopped at once.

    Cancelled, it stops at once what is left.
    """
    left = {id(instance): instance for instance in instances}

    async def retire_one(instance: Instance) -> None:
        await _idle(instance, timeout_seconds)
        if left.pop(id(instance), None) is not None:
            await asyncio.shield(instance.stop())

    try:
        await asyncio.gather(*map(retire_one, instances))
    finally:
        await asyncio.shield(asyncio.gather(*(instance.stop() for instance in left.values())))


async def _idle(instance: Instance, timeout_seconds: float) -> None:
    with contextlib.suppress(TimeoutError, AtelierError):
        async with asyncio.timeout(timeout_seconds):
            idle = 0
            while idle < IDLE_LOOKS:
                await asyncio.sleep(IDLE_LOOK_SECONDS)
                status = await instance.refresh()
                idle = 0 if status.waiting or status.running or status.calls else idle + 1
