"""A job's steps that were never computed are counted low rather than high."""

import dataclasses

import pytest

from atelier_server.backends.base import DiffusionTask, JobDone, JobEvent, JobStarted, JobStep
from atelier_server.runner.followed import FollowedJob

TASK = DiffusionTask("job", "a bag", None, (1, 2), 64, 64, 10, 1.0)
STARTED = JobStarted("euler")


def step(index: int, number: int, total: int = 10) -> JobStep:
    return JobStep(index, number, total, 0.0)


@pytest.mark.parametrize(
    ("events", "saved"),
    [
        ([], 20),
        ([STARTED], 18),  # one step of each picture may be under way
        ([STARTED, step(0, 3), step(1, 2)], 13),
        ([STARTED, *(step(0, number) for number in range(1, 11)), step(1, 4)], 5),
        ([STARTED, step(0, 10, 13), step(1, 10, 13)], 4),  # a second pass makes more of them
        ([STARTED, step(0, 10), step(1, 10)], 0),
        ([STARTED, step(0, 10), step(1, 10), JobDone({}, exact=False)], 0),
    ],
)
def test_steps_that_an_abort_made_needless(events: list[JobEvent], saved: int) -> None:
    job = FollowedJob(TASK)
    for event in events:
        job.observe(event)
    assert job.aborted() == saved


def test_a_job_without_pictures_saves_nothing() -> None:
    assert FollowedJob(dataclasses.replace(TASK, seeds=())).aborted() == 0
