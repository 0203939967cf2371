"""How calls wait for a model, by the fields of Triton's dynamic_batching."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

DEFAULT_MAX_QUEUE_SIZE = 4096
"""Bounds a queue where the configuration does not."""


@dataclass(frozen=True, slots=True)
class QueuePolicy:
    """Limits of one queue; times in seconds. `delays`: what timed out goes last, and is not refused."""

    max_queue_size: int = DEFAULT_MAX_QUEUE_SIZE
    timeout_seconds: float = math.inf
    may_override_timeout: bool = False
    delays: bool = False

    @classmethod
    def of(cls, policy: Mapping[str, Any]) -> Self:
        """Reads a ModelQueuePolicy as plain data."""
        return cls(
            max_queue_size=int(policy.get("max_queue_size", 0)) or DEFAULT_MAX_QUEUE_SIZE,
            timeout_seconds=int(policy.get("default_timeout_microseconds", 0)) / 1e6 or math.inf,
            may_override_timeout=bool(policy.get("allow_timeout_override", False)),
            delays=policy.get("timeout_action") == "DELAY",
        )

    def patience(self, asked_seconds: float) -> float:
        """How long an item may wait: as Triton has it, callers may shorten the policy's timeout where that is allowed.

        Args:
            asked_seconds: The caller's own timeout, 0 for none.
        """
        asked = asked_seconds if asked_seconds > 0 else math.inf
        return min(self.timeout_seconds, asked) if self.may_override_timeout else self.timeout_seconds


@dataclass(frozen=True, slots=True)
class BatchPolicy:
    """`max_rows` rows at most go together. Of `levels` priorities 1 goes first; 0 levels: all are equal."""

    max_rows: int
    preferred_rows: frozenset[int] = frozenset()
    delay_seconds: float = 0.0
    queue: QueuePolicy = QueuePolicy()
    levels: int = 0
    default_level: int = 0
    queues: Mapping[int, QueuePolicy] = field(default_factory=dict)

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> Self:
        """Reads max_batch_size and dynamic_batching of a ModelConfig as plain data."""
        batching = config.get("dynamic_batching")
        max_rows = int(config.get("max_batch_size", 0))
        if batching is None:
            return cls(max_rows=1)
        queues = batching.get("priority_queue_policy", {}).items()
        return cls(
            max_rows=max(max_rows, 1),
            preferred_rows=frozenset(int(rows) for rows in batching.get("preferred_batch_size", ())),
            delay_seconds=int(batching.get("max_queue_delay_microseconds", 0)) / 1e6 if max_rows > 1 else 0.0,
            queue=QueuePolicy.of(batching.get("default_queue_policy", {})),
            levels=int(batching.get("priority_levels", 0)),
            default_level=int(batching.get("default_priority_level", 0)),
            queues={int(level): QueuePolicy.of(policy) for level, policy in queues},
        )

    def level(self, asked: int) -> int:
        """The queue of a call with this `priority`; the default one where it names none, or one that is not there."""
        return asked if 1 <= asked <= self.levels else self.default_level

    def of_level(self, level: int) -> QueuePolicy:
        """The limits of a queue."""
        return self.queues.get(level, self.queue)
