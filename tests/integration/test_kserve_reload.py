"""What `make soak-models` shows with 50 rounds, with two."""

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_replacing_under_traffic_and_unloading_lose_and_leave_nothing() -> None:
    command = [sys.executable, str(ROOT / "scripts" / "soak_models.py"), "--rounds", "2"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    facts = json.loads(done.stdout)
    assert facts["replace"]["failed"] == []
    assert sum(facts["replace"]["answered_by_version"].values()) >= 200
    assert (facts["cycles"]["outlived_unload"], facts["cycles"]["left"]) == ([], {})
    assert facts["cycles"]["returned_by_each_unload_bytes"] > 2**20
