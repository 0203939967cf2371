"""A PostgreSQL of the test's own, from the installed packages (Debian's: postgresql); skipped by name without them."""

import os
import pwd
import shutil
import subprocess
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

ROLE = "atelier"


def programs() -> Path | None:
    """The folder of initdb, newest version first."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: float(path.parts[-3]))
    on_path = shutil.which("initdb")
    return found[-1].parent if found else Path(on_path).parent if on_path else None


@contextmanager
def running_postgres() -> Iterator[Path]:
    """Runs a server for the time of the block; gives the folder of its socket, the only way to it."""
    binaries = programs()
    if binaries is None:
        pytest.skip("PostgreSQL is not installed (Debian: apt install postgresql)")
    folder = Path(tempfile.mkdtemp(prefix="atelier-pg-"))  # short: a socket's path may have 107 characters
    user = _other_user()
    if user is not None:  # PostgreSQL refuses to run as root
        os.chown(folder, user.pw_uid, user.pw_gid)
    try:
        _run([binaries / "initdb", "-D", folder / "data", "-A", "trust", "-U", ROLE, "-E", "UTF8", "--no-sync"], user)
        options = f"-k {folder} -c listen_addresses='' -c fsync=off"
        start = ["-D", folder / "data", "-w", "-l", folder / "log", "-o", options, "start"]
        _run([binaries / "pg_ctl", *start], user)
        try:
            yield folder
        finally:
            _run([binaries / "pg_ctl", "-D", folder / "data", "-m", "immediate", "-w", "stop"], user)
    finally:
        shutil.rmtree(folder)


def fresh_database(socket: Path) -> str:
    """The URL of a new, empty database."""
    import psycopg

    name = f"test_{uuid.uuid4().hex[:12]}"
    with psycopg.connect(host=str(socket), user=ROLE, dbname="postgres", autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    return f"postgresql://{ROLE}@/{name}?host={socket}"


def _other_user() -> pwd.struct_passwd | None:
    if os.getuid() != 0:
        return None
    names = {entry.pw_name: entry for entry in pwd.getpwall()}
    return names.get("postgres") or names["nobody"]


def _run(command: list[object], user: pwd.struct_passwd | None) -> None:
    # Output goes to a file: the server that pg_ctl leaves behind would keep a pipe open.
    with tempfile.TemporaryFile() as output:
        done = subprocess.run(
            [str(word) for word in command],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            cwd="/",
            timeout=120,
            user=user.pw_uid if user else None,
            group=user.pw_gid if user else None,
            extra_groups=[] if user else None,
            check=False,
        )
        output.seek(0)
        assert done.returncode == 0, output.read().decode(errors="replace")
