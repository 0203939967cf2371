"""How patient the supervision of runners is."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    """All times in seconds.

    Args:
        load_seconds: A model that takes longer to load is given up.
        heartbeat_seconds: Between two questions how a runner is.
        silence_seconds: A runner that does not answer for so long hangs, and is killed and started again.
        stall_seconds: The same for one whose model is in one step for so long, doing work of a kind that it never did
            before; a step of a large model on a CPU may take minutes.
        stall_factor: With work that it knows, so many times the longest step until now is the limit…
        least_stall_seconds: … but no less than this.
        first_backoff_seconds: Before the first restart; doubled at each crash that follows quickly.
        longest_backoff_seconds: The doubling's end.
        quick_crash_seconds: A crash sooner than this after the start counts as quick.
        most_quick_crashes: So many quick crashes in a row are a crash loop: no more restarts.
        stop_seconds: Between SIGTERM and SIGKILL.
    """

    load_seconds: float = 900.0
    heartbeat_seconds: float = 2.0
    silence_seconds: float = 10.0
    stall_seconds: float = 900.0
    stall_factor: float = 20.0
    least_stall_seconds: float = 60.0
    first_backoff_seconds: float = 1.0
    longest_backoff_seconds: float = 30.0
    quick_crash_seconds: float = 60.0
    most_quick_crashes: int = 5
    stop_seconds: float = 5.0

    def step_seconds(self, usual_seconds: float) -> float:
        """How long a step may take, when the longest one until now took `usual_seconds`; 0: nothing is known."""
        if usual_seconds <= 0:
            return self.stall_seconds
        return min(self.stall_seconds, max(self.least_stall_seconds, self.stall_factor * usual_seconds))

    def backoff_seconds(self, quick_crashes: int) -> float:
        """Before the restart after so many quick crashes in a row (from 1)."""
        doubled = self.first_backoff_seconds * 2.0 ** min(max(quick_crashes, 1) - 1, 30)
        return min(doubled, self.longest_backoff_seconds)
