"""Who calls, and how long they will wait."""

import time
from dataclasses import dataclass, field

from atelier_server.security.quotas import NOBODY, Account


@dataclass(frozen=True, slots=True)
class Caller:
    """One call's origin: `client` names the token's owner ("" without tokens), `deadline_seconds` is the time left.

    `arrived` is time.monotonic() when the call came in. `account` is whose share of the devices the work uses, and what
    it is charged to; also without tokens each client has one.
    """

    client: str = ""
    deadline_seconds: float | None = None
    arrived: float = field(default_factory=time.monotonic)
    account: Account = NOBODY

    def remaining_seconds(self) -> float | None:
        """Time left now; None without a deadline."""
        if self.deadline_seconds is None:
            return None
        return self.deadline_seconds - (time.monotonic() - self.arrived)

    def elapsed_ms(self) -> float:
        """Time since the call came in."""
        return (time.monotonic() - self.arrived) * 1000.0
