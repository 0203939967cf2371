"""How many threads compute a step on a CPU: all, or one where waking the others costs more than they save. No torch.

A small model's step is hundreds of short operators. Where idle cores sleep deeply (virtual machines), each operator
waits longer for a second thread than it computes: on two cores a picture of the starter took 1.35 s with both threads
and 0.67 s with one. Spinning threads would be quick on a quiet machine, and five times slower beside any other work.
"""

from dataclasses import dataclass, field

QUICK_STEP_SECONDS = 0.15
"""One thread is not tried for steps that all threads need longer for: those are large operators, which share well."""
_GAIN = 0.95
"""All threads must be quicker by so much; otherwise one is better, which leaves the other cores to other work."""
_TRY_EVERY = 64
_HOPELESS = 3.0
_SMOOTHING = 0.25


@dataclass(slots=True)
class _Known:
    """Smoothed seconds for a unit of work by number of threads, and the steps so far."""

    pace: dict[int, float] = field(default_factory=dict)
    steps: int = 0


class StepThreads:
    """Learns for each size of batch, from the steps themselves, which number of threads is quicker, and keeps looking.

    Args:
        most: All threads.
    """

    def __init__(self, most: int) -> None:
        self.most = most
        self._known: dict[int, _Known] = {}

    def usual(self, work: int) -> int:
        """What is quicker by now.

        Args:
            work: Size of the batch: the numbers in its latents.
        """
        pace = self._of(work).pace
        if 1 not in pace or self.most not in pace:
            return self.most
        return self.most if pace[self.most] < _GAIN * pace[1] else 1

    def choose(self, work: int) -> int:
        """Threads of the next step: the usual number, and now and then the other one."""
        known, usual = self._of(work), self.usual(work)
        other = 1 if usual == self.most else self.most
        if self.most == 1 or usual not in known.pace or not self._may_try(known, work, usual, other):
            return usual
        return other if other not in known.pace or known.steps % _TRY_EVERY == 0 else usual

    def took(self, work: int, threads: int, seconds: float) -> None:
        """Takes in a step."""
        known, pace = self._of(work), seconds / work
        known.steps += 1
        old = known.pace.get(threads, pace)
        known.pace[threads] = old + _SMOOTHING * (min(pace, _HOPELESS * old) - old)

    def _may_try(self, known: _Known, work: int, usual: int, other: int) -> bool:
        if other in known.pace:
            return known.pace[other] < _HOPELESS * known.pace[usual]
        return known.steps >= 2 and known.pace[usual] * work <= QUICK_STEP_SECONDS  # the first step warms up

    def _of(self, work: int) -> _Known:
        return self._known.setdefault(work.bit_length(), _Known())
