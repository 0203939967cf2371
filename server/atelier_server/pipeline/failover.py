"""What becomes of work whose runner was lost: it is done once more, by another instance or by the restarted one."""

import logging
from collections.abc import Awaitable, Callable
from typing import TypeVar

from atelier_server.errors import AtelierError, Unavailable
from atelier_server.executor.base import NOT_TAKEN, RUNNER_LOST, Executor
from atelier_server.pipeline.route import Models, is_remote

T = TypeVar("T")

MOST_RUNS_LOST = 1
"""A second loss ends the work: it may itself be what kills runners."""
MOST_REFUSALS = 3
"""How often a runner may turn out to be down before it began the work."""

logger = logging.getLogger(__name__)


class Failover:
    """Counts what one piece of work has lost, and finds who may do it again.

    Args:
        models: Where successors are.
    """

    def __init__(self, models: Models) -> None:
        self._models = models
        self._refusals = 0
        self._successor: Executor | None = None
        self.restarts = 0

    def instance(self, chosen: Executor) -> Executor:
        """The instance for further work that one was chosen for: its successor, once there is one."""
        return self._successor or chosen

    def check(self, error: AtelierError, instance: Executor) -> None:
        """Decides whether work that ended with an error on an instance is done again.

        Raises:
            AtelierError: `error` itself, when it is not.
        """
        lost = isinstance(error, Unavailable) and error.reason == RUNNER_LOST
        refused = isinstance(error, Unavailable) and error.reason in NOT_TAKEN
        if is_remote(instance) or not (lost or refused):
            raise error
        if (lost and self.restarts >= MOST_RUNS_LOST) or (refused and self._refusals >= MOST_REFUSALS):
            raise error
        self.restarts += lost
        self._refusals += refused

    async def successor(self, error: AtelierError, instance: Executor) -> Executor:
        """The instance that does it; waits for it, so the caller sets the time.

        Raises:
            AtelierError: `error` itself, when none will come.
        """
        try:
            self._successor = await self._models.successor(instance)
        except AtelierError as reason:
            logger.warning("work of %s is not done again: %s", instance.spec.name, reason.message)
            raise error from reason
        logger.warning("work of %s is done again: %s", instance.spec.name, error.message)
        return self._successor


async def done_again(models: Models, instance: Executor, work: Callable[[Executor], Awaitable[T]]) -> T:
    """Does idempotent work on an instance, and on a successor if the instance is lost meanwhile.

    Raises:
        AtelierError: What the work raises, at the second loss also that.
    """
    failover = Failover(models)
    while True:
        try:
            return await work(instance)
        except Unavailable as error:
            failover.check(error, instance)
            instance = await failover.successor(error, instance)
