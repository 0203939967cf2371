"""Opens the brands' database: SQLite in a file, or PostgreSQL for several servers; brings its tables up to date."""

import sqlite3
from importlib.resources import files
from typing import Any

from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, Engine, create_engine, event, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, SQLAlchemyError

from atelier_server.errors import InvalidArgument

BUSY_SECONDS = 30.0
"""How long a SQLite transaction waits for another one's end."""
CONNECT_SECONDS = 5
MIGRATION_LOCK = 0x4154_454C  # "ATEL"
"""PostgreSQL's advisory lock, so that of two servers that start at once one migrates and the other waits."""
WRITES = "atelier_writes"


def open_engine(url: str) -> Engine:
    """Makes an engine; nothing is connected yet.

    Raises:
        InvalidArgument: The URL is none of SQLite or PostgreSQL, or the driver is not installed.
    """
    try:
        parsed = make_url(url)
    except ArgumentError:
        raise _bad_url("it is no URL such as postgresql://user@host/database") from None
    kind = parsed.get_backend_name()
    if kind == "sqlite":
        return _sqlite(url)
    if kind != "postgresql":
        raise _bad_url(f"{kind} is not supported; take postgresql:// or leave it out for SQLite")
    try:
        return create_engine(
            parsed.set(drivername="postgresql+psycopg"),
            pool_pre_ping=True,
            pool_size=4,
            connect_args={"connect_timeout": CONNECT_SECONDS},
        )
    except ModuleNotFoundError:
        raise _bad_url("PostgreSQL needs the extra: pip install 'atelier-server[postgres]'") from None


def migrate(engine: Engine) -> None:
    """Brings the tables to the newest revision, in one transaction.

    Raises:
        SQLAlchemyError: The database cannot be reached or refuses.
    """
    with engine.execution_options(**{WRITES: True}).begin() as connection:
        if connection.dialect.name == "postgresql":
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": MIGRATION_LOCK})
        config = Config()
        config.set_main_option("script_location", str(files("atelier_server.brand") / "migrations").replace("%", "%%"))
        config.attributes["connection"] = connection
        command.upgrade(config, "head")


def _sqlite(url: str) -> Engine:
    engine = create_engine(url, connect_args={"timeout": BUSY_SECONDS, "check_same_thread": False})

    @event.listens_for(engine, "connect")
    def prepare(connection: sqlite3.Connection, _: Any) -> None:
        connection.isolation_level = None  # transactions begin below, not at the driver's own discretion
        for pragma in ("journal_mode = WAL", "synchronous = FULL", "foreign_keys = ON"):
            connection.execute(f"PRAGMA {pragma}")

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        # A transaction that reads first and writes later could not be retried; it takes the write lock at once.
        writes = connection.get_execution_options().get(WRITES)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

    return engine


def _bad_url(why: str) -> InvalidArgument:
    return InvalidArgument(f"database_url cannot be used: {why}", field="database_url")


__all__ = ["WRITES", "SQLAlchemyError", "migrate", "open_engine"]
