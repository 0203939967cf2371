"""Faults of real runner processes: killed, stopped, stuck, crashing, orphaned."""

import asyncio
import dataclasses
import logging
import os
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from atelier_server.backends.base import JobDone
from atelier_server.errors import Unavailable
from atelier_server.executor.base import READY, UNAVAILABLE, UNLOADING, InstanceStatus
from atelier_server.executor.client import RunnerClient
from atelier_server.executor.process import _forward
from atelier_server.executor.socket_folder import SocketFolder
from atelier_server.executor.subprocess import SubprocessExecutor
from tests.integration.executor_kit import (
    PATIENCE,
    QUICK,
    diffusion_task,
    echo_spec,
    orphan_to_be,
    run,
    started,
    wait_until,
)


@pytest.fixture
def folder(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Where socket folders are made; it must be empty at the end."""
    tmp_path_factory.getbasetemp()  # pytest's own folder shall not be made inside this one
    parent = SocketFolder()
    monkeypatch.setattr("tempfile.tempdir", str(parent.path))
    yield parent.path
    left = list(parent.path.iterdir())
    parent.remove()
    assert left == []


def executor_of(**parameters: object) -> SubprocessExecutor:
    return SubprocessExecutor(echo_spec(**parameters), "echo", limits=QUICK)


def is_gone(pid: int) -> bool:
    return not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


async def test_a_killed_runner_fails_its_calls_and_is_started_again(folder: Path) -> None:
    changes: list[InstanceStatus] = []
    executor = SubprocessExecutor(echo_spec(step_seconds=0.02), "echo", limits=QUICK, on_change=changes.append)
    async with started(executor):
        first = executor.status().pid
        jobs = [asyncio.create_task(run(executor, diffusion_task(100_000))) for _ in range(3)]
        await wait_until(lambda: executor.status().running == 3)
        os.kill(first, signal.SIGKILL)
        for job in jobs:
            with pytest.raises(Unavailable) as caught:
                await job
            assert caught.value.reason == "RUNNER_LOST"
            assert caught.value.retry_after_seconds
        await wait_until(lambda: executor.status().restarts == 1 and executor.status().state == READY)
        assert executor.status().pid not in (0, first)
        assert isinstance((await run(executor, diffusion_task()))[-1], JobDone)
    down = [change for change in changes if change.state == UNAVAILABLE and "SIGKILL" in change.reason]
    assert down[0].pid == 0
    assert all(change.restart_seconds for change in down), "it is coming back, and says about when"


async def test_calls_between_crash_and_restart_are_told_when_to_come_back(folder: Path) -> None:
    limits = dataclasses.replace(QUICK, first_backoff_seconds=PATIENCE, longest_backoff_seconds=PATIENCE)
    executor = SubprocessExecutor(echo_spec(), "echo", limits=limits)
    async with started(executor):
        os.kill(executor.status().pid, signal.SIGTERM)
        await wait_until(lambda: "restarting in 20 s" in executor.status().reason)
        with pytest.raises(Unavailable) as caught:
            await run(executor, diffusion_task())
    assert caught.value.retry_after_seconds is not None
    assert caught.value.retry_after_seconds >= PATIENCE


async def test_a_crash_inside_the_backend_is_told_with_its_signal(folder: Path) -> None:
    changes: list[str] = []
    executor = SubprocessExecutor(
        echo_spec(crash_at_step=2, on_prompt="deadly"),
        "echo",
        limits=QUICK,
        on_change=lambda status: changes.append(status.reason),
    )
    async with started(executor):
        with pytest.raises(Unavailable, match="lost"):
            await run(executor, diffusion_task(prompt="a deadly cup"))
        await wait_until(lambda: executor.status().restarts == 1 and executor.status().state == READY)
        assert isinstance((await run(executor, diffusion_task()))[-1], JobDone)
    assert any("SIGABRT" in reason for reason in changes)


async def test_a_crash_loop_ends(folder: Path) -> None:
    limits = dataclasses.replace(QUICK, most_quick_crashes=3)
    executor = SubprocessExecutor(echo_spec(crash_at_step=1), "echo", limits=limits)
    async with started(executor):
        for crash in range(3):
            await wait_until(lambda crash=crash: executor.status().restarts == crash and executor.status().pid > 0)
            await wait_until(lambda: executor.status().state == READY)
            with pytest.raises(Unavailable):
                await run(executor, diffusion_task())
        await wait_until(lambda: "crash loop" in executor.status().reason)
        assert executor.status().state == UNAVAILABLE
        assert executor.status().restarts == 2
        await executor.start()  # an operator may ask for it again
        assert executor.status().state == READY


async def test_a_runner_that_dies_while_loading_is_given_up(folder: Path) -> None:
    executor = executor_of(load_seconds=3600)
    starting = asyncio.create_task(executor.start())
    await wait_until(lambda: executor.status().pid > 0)
    os.kill(executor.status().pid, signal.SIGKILL)
    with pytest.raises(Unavailable, match=r"SIGKILL.*while loading"):
        await starting
    assert executor.status().state == UNAVAILABLE
    await executor.stop()


async def test_a_runner_that_loads_for_too_long_is_given_up(folder: Path) -> None:
    limits = dataclasses.replace(QUICK, load_seconds=1.0)
    executor = SubprocessExecutor(echo_spec(load_seconds=3600), "echo", limits=limits)
    starting = asyncio.create_task(executor.start())
    await wait_until(lambda: executor.status().pid > 0)
    pid = executor.status().pid
    with pytest.raises(Unavailable, match="did not load within 1 s"):
        await starting
    assert is_gone(pid)


async def test_an_unknown_backend_is_no_crash(folder: Path) -> None:
    executor = SubprocessExecutor(echo_spec(), "nonesuch", limits=QUICK)
    with pytest.raises(Unavailable, match="no backend named 'nonesuch'"):
        await executor.start()


async def test_a_stopped_process_is_noticed_and_replaced(folder: Path) -> None:
    changes: list[str] = []
    executor = SubprocessExecutor(
        echo_spec(step_seconds=0.02),
        "echo",
        limits=dataclasses.replace(QUICK, silence_seconds=1.0),
        on_change=lambda status: changes.append(status.reason),
    )
    async with started(executor):
        hung = executor.status().pid
        job = asyncio.create_task(run(executor, diffusion_task(100_000)))
        await wait_until(lambda: executor.status().running == 1)
        os.kill(hung, signal.SIGSTOP)
        with pytest.raises(Unavailable) as caught:
            await job
        assert caught.value.reason == "RUNNER_LOST"
        await wait_until(lambda: executor.status().restarts >= 1 and executor.status().state == READY)
        assert is_gone(hung)
    assert any("not answered for 1 s" in reason for reason in changes)


async def test_a_step_that_never_ends_is_noticed(folder: Path) -> None:
    changes: list[str] = []
    limits = dataclasses.replace(QUICK, stall_seconds=0.5)
    executor = SubprocessExecutor(
        echo_spec(hang_at_step=2, on_prompt="endless"),
        "echo",
        limits=limits,
        on_change=lambda status: changes.append(status.reason),
    )
    async with started(executor):
        with pytest.raises(Unavailable) as caught:
            await run(executor, diffusion_task(prompt="an endless cup"))
        assert caught.value.reason == "RUNNER_LOST"
        await wait_until(lambda: executor.status().restarts == 1 and executor.status().state == READY)
    assert any("one step has taken more than 0.5 s" in reason for reason in changes)


async def test_a_step_that_hangs_is_noticed_by_how_long_its_like_took(folder: Path) -> None:
    """While the work is of a known kind; of a new kind nobody knows what a step takes."""
    changes: list[str] = []
    limits = dataclasses.replace(QUICK, least_stall_seconds=0.3)
    executor = SubprocessExecutor(
        echo_spec(hang_at_step=2, on_prompt="endless"),
        "echo",
        limits=limits,
        on_change=lambda status: changes.append(status.reason),
    )
    async with started(executor):
        assert isinstance((await run(executor, diffusion_task()))[-1], JobDone)
        with pytest.raises(Unavailable) as caught:
            await run(executor, diffusion_task(prompt="an endless cup"))
        assert caught.value.reason == "RUNNER_LOST"
        await wait_until(lambda: executor.status().restarts == 1 and executor.status().state == READY)
        new = asyncio.create_task(run(executor, diffusion_task(prompt="an endless cup")))
        await wait_until(lambda: executor.status().facts["stalled_seconds"] > 0.6)
        assert executor.status().state == READY
    assert any("one step has taken more than 0.3 s" in reason for reason in changes)
    with pytest.raises(Unavailable):
        await new


async def test_an_engine_that_gives_up_is_replaced(folder: Path) -> None:
    async with started(executor_of(fail_at_step=1, on_prompt="broken")) as executor:
        for _ in range(3):
            with pytest.raises(Exception, match="failed at this job"):
                await run(executor, diffusion_task(prompt="a broken cup"))
        await wait_until(lambda: executor.status().restarts == 1 and executor.status().state == READY)
        assert isinstance((await run(executor, diffusion_task()))[-1], JobDone)


async def test_a_runner_stuck_in_a_step_still_stops_quickly(folder: Path) -> None:
    async with started(executor_of(hang_at_step=1)) as executor:
        pid = executor.status().pid
        job = asyncio.create_task(run(executor, diffusion_task()))
        await wait_until(lambda: executor.status().facts["stalled_seconds"] > 0)
        async with asyncio.timeout(PATIENCE / 2):  # SIGTERM is enough: SIGKILL would come after PATIENCE
            await executor.stop()
        assert is_gone(pid)
        with pytest.raises(Unavailable):
            await job


async def test_a_runner_that_ignores_sigterm_is_killed(folder: Path) -> None:
    limits = dataclasses.replace(QUICK, stop_seconds=0.1)
    executor = SubprocessExecutor(echo_spec(), "echo", limits=limits)
    await executor.start()
    pid = executor.status().pid
    os.kill(pid, signal.SIGSTOP)
    await executor.stop()
    assert is_gone(pid)


async def test_two_stops_at_once_end_it_too(folder: Path) -> None:
    limits = dataclasses.replace(QUICK, stop_seconds=0.3)
    executor = SubprocessExecutor(echo_spec(), "echo", limits=limits)
    await executor.start()
    pid = executor.status().pid
    os.kill(pid, signal.SIGSTOP)
    first = asyncio.create_task(executor.stop())
    await wait_until(lambda: executor.status().state == UNLOADING)
    await executor.stop()
    await first
    assert is_gone(pid)


async def test_a_stop_while_a_lost_runner_is_cleared_away_leaves_nothing(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server closes the connection first; a stop in that moment must not leave the process to itself."""
    closing, go_on = asyncio.Event(), asyncio.Event()
    close = RunnerClient.close

    async def slow_close(client: RunnerClient) -> None:
        closing.set()
        await go_on.wait()
        await close(client)

    monkeypatch.setattr(RunnerClient, "close", slow_close)
    executor = SubprocessExecutor(
        echo_spec(hang_at_step=1), "echo", limits=dataclasses.replace(QUICK, stall_seconds=0.1)
    )
    await executor.start()
    pid = executor.status().pid
    job = asyncio.create_task(run(executor, diffusion_task()))
    await closing.wait()
    stopping = asyncio.create_task(executor.stop())
    await asyncio.sleep(0.05)
    go_on.set()
    await stopping
    assert is_gone(pid)
    with pytest.raises(Unavailable):
        await job


async def test_a_signal_without_a_name_ends_a_runner_as_others_do(folder: Path) -> None:
    changes: list[str] = []
    executor = SubprocessExecutor(
        echo_spec(), "echo", limits=QUICK, on_change=lambda status: changes.append(status.reason)
    )
    async with started(executor):
        os.kill(executor.status().pid, signal.SIGRTMIN + 6)
        await wait_until(lambda: executor.status().restarts == 1 and executor.status().state == READY)
    assert any(f"ended by signal {signal.SIGRTMIN + 6}" in reason for reason in changes)


async def test_ctrl_c_is_the_servers_business(folder: Path) -> None:
    async with started(executor_of()) as executor:
        pid = executor.status().pid
        os.kill(pid, signal.SIGINT)
        assert isinstance((await run(executor, diffusion_task()))[-1], JobDone)
        assert executor.status().pid == pid


async def test_ps_shows_the_model(folder: Path) -> None:
    async with started(executor_of()) as executor:
        command = Path(f"/proc/{executor.status().pid}/cmdline").read_text().split("\0")
    assert command[command.index("atelier_server.runner") + 1] == "echo"
    assert "--version=1" in command


async def test_no_secret_reaches_a_runner(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OPENAI_API_KEY", "ATELIER_TOKEN", "AWS_SECRET_ACCESS_KEY", "HF_TOKEN", "ANYTHING_ELSE"):
        monkeypatch.setenv(name, "s3cr3t-value")
    async with started(executor_of()) as executor:
        environment = Path(f"/proc/{executor.status().pid}/environ").read_bytes()
    assert b"PATH=" in environment
    assert b"OMP_NUM_THREADS=1" in environment
    assert b"s3cr3t-value" not in environment


async def test_no_file_of_the_server_is_open_in_a_runner(folder: Path, tmp_path: Path) -> None:
    with (tmp_path / "private").open("w") as private:
        os.set_inheritable(private.fileno(), True)
        async with started(executor_of()) as executor:
            links = [os.readlink(link) for link in Path(f"/proc/{executor.status().pid}/fd").iterdir()]
    assert str(tmp_path / "private") not in links


async def test_the_socket_is_private_and_gone_afterwards(folder: Path) -> None:
    async with started(executor_of()):
        (socket_folder,) = folder.iterdir()
        assert stat.S_IMODE(socket_folder.stat().st_mode) == 0o700
        assert {path.name for path in socket_folder.iterdir()} == {"runner.sock", "lane.sock"}
        assert len(bytes(socket_folder / "runner.sock")) < 108
    assert list(folder.iterdir()) == []


def test_a_long_temporary_folder_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    long = tmp_path / ("x" * 100)
    long.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(long))
    made = SocketFolder()
    assert len(bytes(made.socket)) < 108
    assert list(long.iterdir()) == []
    made.remove()
    assert not made.path.exists()


async def test_nothing_is_left_of_many_runners(folder: Path) -> None:
    me = psutil.Process()
    async with started(executor_of()):
        pass
    before, others = me.num_fds(), me.children()  # others: left by neighbours, such as multiprocessing's tracker
    for _ in range(3):
        async with started(executor_of()) as executor:
            await run(executor, diffusion_task())
            os.kill(executor.status().pid, signal.SIGKILL)
            await wait_until(lambda: executor.status().restarts == 1 and executor.status().state == READY)
    assert me.num_fds() <= before + 1
    assert [child for child in me.children() if child not in others] == []


async def test_a_line_that_cannot_be_logged_does_not_end_the_reading(caplog: pytest.LogCaptureFixture) -> None:
    """Nested deeper than Python reads JSON; a runner whose output nobody reads stands still at a full pipe."""
    output = asyncio.StreamReader()
    output.feed_data(b'{"a":' * 1500 + b"\nand on it goes\n")
    output.feed_eof()
    with caplog.at_level(logging.INFO):
        await _forward(output, "echo")
    assert "and on it goes" in [record.getMessage() for record in caplog.records]


async def test_the_runners_output_is_in_the_servers_log(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    async with started(executor_of(fail_at_step=1)) as executor:
        with caplog.at_level(logging.INFO), pytest.raises(Exception, match="failed at this job"):
            await run(executor, diffusion_task())
        await wait_until(lambda: "a step failed" in caplog.text)
    (record,) = [record for record in caplog.records if record.name == "atelier.runner.echo"]
    assert record.getMessage().startswith("atelier_server.runner.engine: a step failed")
    assert record.levelno == logging.ERROR
    assert "RuntimeError: told to fail" in record.__dict__["exception"]


def test_runners_do_not_outlive_a_killed_server(folder: Path) -> None:
    server, runner = orphan_to_be(folder)
    assert runner.is_running()
    server.kill()
    server.wait(PATIENCE)
    runner.wait(PATIENCE)
    assert not runner.is_running()


def by_hand(socket: Path) -> list[str]:
    arguments = ["echo", "--version=1", "--backend=echo", "--folder=/", f"--socket={socket}"]
    return [sys.executable, "-m", "atelier_server.runner", *arguments]


def test_a_socket_that_cannot_be_bound_ends_the_runner_with_a_line(tmp_path: Path) -> None:
    ended = subprocess.run(
        by_hand(tmp_path / "absent" / "s"), check=False, capture_output=True, text=True, timeout=PATIENCE
    )
    assert ended.returncode == 1
    assert "cannot be bound" in ended.stderr
    assert "Traceback" not in ended.stderr


async def test_a_runner_started_by_hand_serves_until_sigterm(folder: Path) -> None:
    made = SocketFolder()
    runner = await asyncio.create_subprocess_exec(*by_hand(made.socket))
    try:
        await wait_until(made.socket.exists)
        client = RunnerClient(made.socket, "echo")
        assert (await client.get_status(PATIENCE)).state in ("LOADING", "READY")
        await client.close()
    finally:
        runner.terminate()
        assert await runner.wait() == 0
        made.remove()


async def test_a_fault_in_the_supervision_is_not_silent(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def broken(process: object) -> str:
        raise ZeroDivisionError

    executor = executor_of()
    monkeypatch.setattr(executor, "_watch", broken)
    await executor.start()
    await wait_until(lambda: executor.status().state == UNAVAILABLE)
    assert "supervision failed" in executor.status().reason


def test_an_echo_runner_never_imports_torch() -> None:
    code = "import sys, atelier_server.runner.main, atelier_server.backends.echo; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=PATIENCE).returncode == 0
