"""Whose turn it is when several clients want one device. Pure Python, no clock.

Each client has an account in seconds of the device, and the device one of its own, the fair level: what a client would
have had by now if all who wanted something had shared evenly. A client who comes begins at the fair level, so nobody
saves up while away; one who had more than others keeps that against him until the device falls idle.

The turn is decided by when a client's next picture would be paid for: its account plus the seconds that this picture
still needs (virtual finish times of weighted fair queueing; Demers, Keshav and Shenker 1989). While a picture is
computed the account grows as the need falls, so two clients with equal work do not interrupt each other in turn, yet a
short call of one goes ahead of a long one of another. As the fair level rises with all work that is done, no number of
others, not even ever new ones, holds anybody off for ever.
"""

from collections.abc import Iterable, Mapping


class Shares:
    """Accounts of the clients who want the device."""

    def __init__(self) -> None:
        self._level = 0.0
        self._accounts: dict[str, float] = {}

    def enter(self, client: str, present: Iterable[str]) -> None:
        """A client has work again.

        Args:
            client: Who.
            present: The clients who have work already; none: the device is idle, and the past is forgotten.
        """
        staying = set(present)
        if not staying:
            self._level, self._accounts = 0.0, {}
        kept = {name: value for name, value in self._accounts.items() if name in staying or value > self._level}
        self._accounts = kept | {client: max(self._level, kept.get(client, 0.0))}

    def copy(self) -> "Shares":
        """Accounts to try things with."""
        twin = Shares()
        twin._level, twin._accounts = self._level, dict(self._accounts)
        return twin

    def account(self, client: str) -> float:
        """Seconds of the device that the client had, on the scale of the fair level."""
        return self._accounts.get(client, self._level)

    def forgive(self, longest_seconds: float) -> None:
        """Bounds what is held against a client, who may have used what nobody else wanted.

        Args:
            longest_seconds: Of the longest picture that anybody waits for: with this much against its owner's rivals,
                even that picture has its turn.
        """
        most = self._level + longest_seconds
        self._accounts = {name: min(value, most) for name, value in self._accounts.items()}

    def charge(self, seconds: Mapping[str, float], weights: Mapping[str, float]) -> None:
        """Notes device time.

        Args:
            seconds: That were spent on each client's pictures.
            weights: How much each client's turn counts; of all who wanted the device meanwhile.
        """
        for client, used in seconds.items():
            self._accounts[client] = self.account(client) + used / weights[client]
        self._level += sum(seconds.values()) / sum(weights.values())
