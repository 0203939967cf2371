"""Transactions on the brands' database, and what its failures mean to callers."""

import logging
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

from sqlalchemy import Connection
from sqlalchemy.exc import IntegrityError, SQLAlchemyError

from atelier_server.brand.database import WRITES, migrate, open_engine
from atelier_server.errors import Unavailable

RETRY_AFTER_SECONDS = 2.0
logger = logging.getLogger(__name__)


class Sessions:
    """The connections to one database; any thread may use them.

    Args:
        url: SQLAlchemy's.

    Raises:
        InvalidArgument: The URL cannot be used.
    """

    def __init__(self, url: str) -> None:
        self.engine = open_engine(url)
        self._writer = self.engine.execution_options(**{WRITES: True})
        # SQLite lets one write at a time; those who wait look again now and then, and may find it taken for ever.
        is_sqlite = self.engine.dialect.name == "sqlite"
        self._turn: AbstractContextManager[Any] = threading.Lock() if is_sqlite else nullcontext()

    def migrate(self) -> None:
        """Brings the tables up to date.

        Raises:
            SQLAlchemyError: The database cannot be reached or refuses.
        """
        migrate(self.engine)

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """A transaction that only reads.

        Raises:
            Unavailable: The database cannot be reached.
        """
        with told(), self.engine.begin() as connection:
            yield connection

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """A transaction that is committed at the end of the block, and taken back when that raises.

        Raises:
            Unavailable: The database cannot be reached.
            IntegrityError: A constraint would be broken, which is the caller's matter.
        """
        with told(), self._turn, self._writer.begin() as connection:
            yield connection

    def close(self) -> None:
        """Ends the connections."""
        self.engine.dispose()


@contextmanager
def told() -> Iterator[None]:
    """Turns the failures of the database and of the disk into ours; a broken constraint stays what it is."""
    try:
        yield
    except IntegrityError:
        raise
    except SQLAlchemyError as error:
        logger.warning("the brands' database failed: %s", error)
        raise Unavailable(
            "the brands' database cannot be reached; try again soon",
            reason="BRAND_DATABASE_UNAVAILABLE",
            retry_after_seconds=RETRY_AFTER_SECONDS,
        ) from error
    except OSError as error:
        logger.warning("the folder of the brands' pictures failed: %s", error)
        raise Unavailable(
            "the brands' pictures cannot be written now, perhaps because the disk is full; try again later",
            reason="BRAND_FILES_UNAVAILABLE",
            retry_after_seconds=RETRY_AFTER_SECONDS,
        ) from error
