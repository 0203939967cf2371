"""A PostgreSQL for the tests of this folder."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.postgres_kit import running_postgres


@pytest.fixture(scope="session")
def postgres() -> Iterator[Path]:
    with running_postgres() as socket:
        yield socket
