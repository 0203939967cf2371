"""How wide a batch should be: sums over t(rows), without state. Entries are taken to keep their rows until they end."""

from collections.abc import Sequence

from atelier_server.backends.sdxl.entries import Entry

SPLIT_GAIN = 0.08
"""A narrower batch must be better than the widest by this share, so that noise in the curve does not decide."""


def bearable(order: Sequence[Entry], turn: str, parts: float, seconds: Sequence[float]) -> list[Entry]:
    """As many of the first entries as make the client whose turn it is at most `parts` times slower than alone.

    `seconds` is t by rows.
    """
    rows = own = count = 0
    for place, entry in enumerate(order, start=1):
        rows += entry.rows
        own += entry.rows if entry.client == turn else 0
        if seconds[rows] <= parts * seconds[own]:
            count = place
    return list(order[: max(1, count)])


def fitting(order: Sequence[Entry], cap: int) -> list[Entry]:
    """The first entries whose rows fit under the cap; at least one."""
    rows = 0
    fitting: list[Entry] = []
    for entry in order:
        if fitting and rows + entry.rows > cap:
            break
        rows += entry.rows
        fitting.append(entry)
    return fitting


def best_width(order: Sequence[Entry], seconds: Sequence[float]) -> int:
    """How many of the first entries share the next step: all, or a power of two of them where that is much better."""
    best, least = len(order), penalty(order, len(order), seconds) * (1 - SPLIT_GAIN)
    count = 1
    while count < len(order):
        candidate = penalty(order, count, seconds)
        if candidate < least:
            best, least = count, candidate
        count *= 2
    return best


def least_density(order: Sequence[Entry], seconds: Sequence[float]) -> float:
    """Seconds for each picture, if as many of the first entries as is best for that were computed together."""
    counts = {len(order), *(1 << power for power in range(len(order).bit_length()))}
    return min(finish(order[:count], seconds)[-1] / count for count in counts)


def finish(entries: Sequence[Entry], seconds: Sequence[float]) -> list[float]:
    """When each entry would end, shortest first, if they all shared every step; `seconds` is t by rows."""
    rows = sum(entry.rows for entry in entries)
    elapsed, done, ends = 0.0, 0, []
    for entry in sorted(entries, key=lambda entry: entry.steps_left):
        elapsed += (entry.steps_left - done) * seconds[rows]
        done = entry.steps_left
        rows -= entry.rows
        ends.append(elapsed)
    return ends


def penalty(order: Sequence[Entry], count: int, seconds: Sequence[float]) -> float:
    """How bad it is to run the first `count` entries before the others: sum of slowdowns times time until all are done.

    The slowdown of an entry is the time until its end over the time it needs alone. The product weighs what callers
    feel against what the device gets done: a split that costs 15% of the pictures a second must save more than that.
    """
    total, start = 0.0, 0.0
    for group in (order[:count], order[count:]):
        if not group:
            continue
        ends = finish(group, seconds)
        for entry, end in zip(sorted(group, key=lambda entry: entry.steps_left), ends, strict=True):
            total += (start + end) / (entry.steps_left * seconds[entry.rows])
        start += ends[-1]
    return total * start
