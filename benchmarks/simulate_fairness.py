"""Slowdown of one client's calls beside flooding clients, by the scheduler alone: no model, no clock.

    python benchmarks/simulate_fairness.py

A device is t(rows) = fixed + per_row × rows. Each flooding client keeps 64 jobs waiting; the other one sends five
calls, one after another. Printed is the slowest of the five, as a multiple of its time alone. Every run prints this.
"""

import random
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from tests.unit.sdxl.test_fairness import Flood, slowdowns
from tests.unit.sdxl.test_scheduler import Line, Machine

DEVICES = {"nothing gained by width": Line(0.0, 1.0, 8), "a CPU": Line(0.3, 0.3, 16), "a GPU": Line(1.0, 0.02, 16)}
STEPS = ((25, 25), (4, 50), (100, 4))


def main() -> None:
    """Prints a table."""
    print(f"{'device':<26}{'flooding':>9}{'their steps':>12}{'its steps':>10}{'BATCHED':>9}{'EXACT':>7}")
    for name, line in DEVICES.items():
        for clients in (1, 2, 4):
            for flood_steps, steps in STEPS:
                found = []
                for exact in (False, True):
                    before = random.Random(clients).randrange(50, 150)
                    flood = Flood(Machine(line), clients, flood_steps, 64, exact=exact)
                    found.append(max(slowdowns(flood, 5, steps, before=before)))
                print(f"{name:<26}{clients:>9}{flood_steps:>12}{steps:>10}{found[0]:>9.2f}{found[1]:>7.2f}", flush=True)


if __name__ == "__main__":
    main()
