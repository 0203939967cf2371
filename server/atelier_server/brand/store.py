"""Brands in a database, their pictures in files. Every method blocks and may be called from any thread."""

import logging
import secrets
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from sqlalchemy import Connection, and_, delete, func, insert, select
from sqlalchemy.exc import IntegrityError

from atelier_server.brand.files import PictureFiles
from atelier_server.brand.records import MAX_REFERENCES, BrandRecord, Embedded, Reference, Space, Vectors
from atelier_server.brand.sessions import Sessions, told
from atelier_server.brand.statements import (
    brand_records,
    in_space,
    insert_embedding,
    insert_reference,
    no_brand,
    reference_of,
    revise,
    same_reference,
)
from atelier_server.brand.tables import BRANDS, EMBEDDINGS, REFERENCES
from atelier_server.errors import AlreadyExists, AtelierError, NotFound, ResourceExhausted

logger = logging.getLogger(__name__)


class BrandStore:
    """All brands.

    Args:
        database_url: SQLAlchemy's; empty for SQLite beside the pictures.
        folder: Where pictures, and SQLite's file, lie.

    Raises:
        InvalidArgument: The URL cannot be used.
    """

    def __init__(self, database_url: str, folder: Path) -> None:
        self._folder = folder
        self._sessions = Sessions(database_url or f"sqlite:///{folder.absolute() / 'brands.db'}")
        self._files = PictureFiles(folder / "pictures")
        self._opening = threading.Lock()
        self._opened = False

    def open(self) -> None:
        """Brings the tables up to date and removes what killed processes left; other methods do it when need be.

        Raises:
            Unavailable: The database cannot be reached, or the folder not be written.
        """
        with self._opening, told(), self._files.removing():
            if not self._opened:
                self._sessions.migrate()
                self._remove_leftovers()
                self._opened = True

    def close(self) -> None:
        """Ends the connections."""
        self._sessions.close()

    def create(self, brand_id: str, name: str) -> None:
        """Makes a brand.

        Raises:
            AlreadyExists: There is one of this id.
        """
        row = {"brand_id": brand_id, "uid": secrets.token_hex(16), "name": name, "revision": 1, "created": time.time()}
        try:
            with self._writing() as connection:
                connection.execute(insert(BRANDS).values(row))
        except IntegrityError:
            raise AlreadyExists(
                f"there is a brand {brand_id} already; add pictures to it, or delete it first",
                field="brand_id",
                reason="BRAND_EXISTS",
            ) from None

    def get(self, brand_id: str, space: Space | None) -> BrandRecord:
        """One brand; what is embedded is counted in `space`.

        Raises:
            NotFound: There is none.
        """
        with self._reading() as connection:
            row = connection.execute(brand_records(space).where(BRANDS.c.brand_id == brand_id)).one_or_none()
        if row is None:
            raise no_brand(brand_id)
        return BrandRecord(*row)

    def page(self, after: str, size: int, space: Space | None) -> list[BrandRecord]:
        """At most `size` brands whose ids come after `after`, in the order of the ids."""
        query = brand_records(space).where(BRANDS.c.brand_id > after).order_by(BRANDS.c.brand_id).limit(size)
        with self._reading() as connection:
            return [BrandRecord(*row) for row in connection.execute(query)]

    def delete(self, brand_id: str) -> None:
        """Removes a brand, its pictures and embeddings.

        Raises:
            NotFound: There is none.
        """
        with self._removing():
            with self._writing() as connection:
                owned = select(REFERENCES.c.reference_id).where(REFERENCES.c.brand_id == brand_id)
                reference_ids = set(connection.scalars(owned))
                for table in (EMBEDDINGS, REFERENCES):
                    connection.execute(delete(table).where(table.c.brand_id == brand_id))
                if not connection.execute(delete(BRANDS).where(BRANDS.c.brand_id == brand_id)).rowcount:
                    raise no_brand(brand_id)
            self._remove_unused(reference_ids)

    def references(self, brand_id: str) -> list[Reference]:
        """A brand's reference pictures, in the order in which they were added."""
        query = select(REFERENCES).where(REFERENCES.c.brand_id == brand_id).order_by(REFERENCES.c.position)
        with self._reading() as connection:
            return [reference_of(row) for row in connection.execute(query)]

    def add_reference(self, brand_id: str, reference: Reference, data: bytes) -> str | None:
        """Keeps a picture; when this returns it outlives a crash.

        Returns:
            The id of the equal picture that the brand already has, None when this one is new.

        Raises:
            NotFound: There is no such brand.
            ResourceExhausted: It has as many pictures as it may.
            Unavailable: It cannot be kept now.
        """
        with self._adding(), self._writing() as connection:
            brand = select(BRANDS.c.revision).where(BRANDS.c.brand_id == brand_id).with_for_update()
            if connection.execute(brand).one_or_none() is None:
                raise no_brand(brand_id)
            equal = select(REFERENCES.c.reference_id).where(
                REFERENCES.c.brand_id == brand_id, REFERENCES.c.pixels_id == reference.pixels_id
            )
            known: str | None = connection.scalars(equal).one_or_none()
            if known is not None:
                if known == reference.reference_id:
                    self._files.write(known, data)  # its file may have been lost
                return known
            owned = select(func.count(), func.max(REFERENCES.c.position)).where(REFERENCES.c.brand_id == brand_id)
            count, last = connection.execute(owned).one()
            if count >= MAX_REFERENCES:
                raise ResourceExhausted(
                    f"brand {brand_id} has {count} reference pictures, the most that it may; remove some first",
                    reason="TOO_MANY_REFERENCES",
                    field="data",
                )
            self._files.write(reference.reference_id, data)
            insert_reference(connection, brand_id, reference, (last or 0) + 1)
            revise(connection, brand_id)
        return None

    def remove_reference(self, brand_id: str, reference_id: str) -> None:
        """Removes one picture of a brand.

        Raises:
            NotFound: There is no such brand, or it has no such picture.
        """
        with self._removing():
            with self._writing() as connection:
                revise(connection, brand_id)
                for table in (EMBEDDINGS, REFERENCES):
                    rows = and_(table.c.brand_id == brand_id, table.c.reference_id == reference_id)
                    removed = connection.execute(delete(table).where(rows)).rowcount
                if not removed:
                    raise NotFound(
                        f"brand {brand_id} has no reference picture {reference_id}",
                        field="reference_id",
                        reason="REFERENCE_NOT_FOUND",
                    )
            self._remove_unused({reference_id})

    def embedded(self, brand_id: str, space: Space) -> Embedded:
        """The references of a brand that are embedded in a space."""
        query = (
            select(EMBEDDINGS.c.reference_id, EMBEDDINGS.c.vector)
            .join(REFERENCES, same_reference())
            .where(EMBEDDINGS.c.brand_id == brand_id, *in_space(space))
            .order_by(REFERENCES.c.position)
        )
        with self._reading() as connection:
            rows = connection.execute(query).all()
        vectors = np.stack([np.frombuffer(row.vector, "<f4") for row in rows]) if rows else np.zeros((0, 1), np.float32)
        return Embedded(tuple(row.reference_id for row in rows), np.asarray(vectors, np.float32))

    def pending(self, space: Space) -> list[tuple[str, str]]:
        """(brand_id, reference_id) of references that have no embedding in a space."""
        query = (
            select(REFERENCES.c.brand_id, REFERENCES.c.reference_id)
            .outerjoin(EMBEDDINGS, and_(same_reference(), *in_space(space)))
            .where(EMBEDDINGS.c.reference_id.is_(None))
            .order_by(REFERENCES.c.brand_id, REFERENCES.c.position)
        )
        with self._reading() as connection:
            return [(row.brand_id, row.reference_id) for row in connection.execute(query)]

    def put_embedding(self, brand_id: str, reference_id: str, space: Space, vector: Vectors) -> None:
        """Keeps an embedding [width]. One that is there already stays; one of a picture that is gone is dropped."""
        keys = {"model": space.model, "version": space.version, "digest": space.digest}
        row = {"brand_id": brand_id, "reference_id": reference_id, "vector": vector.astype("<f4").tobytes(), **keys}
        try:
            with self._writing() as connection:
                insert_embedding(connection, row)
        except IntegrityError:
            logger.debug("reference %s of brand %s is gone", reference_id, brand_id)

    def picture(self, reference_id: str) -> bytes:
        """A reference picture's file.

        Raises:
            OSError: It is not on this machine.
        """
        return self._files.read(reference_id)

    def _remove_leftovers(self) -> None:
        self._files.remove_unfinished()
        with self._sessions.reading() as connection:
            used = set(connection.scalars(select(REFERENCES.c.reference_id)))
        leftovers = [name for name in self._files.names() if name not in used]
        self._files.remove(leftovers)
        if leftovers:
            logger.info("removed %d pictures that no brand has", len(leftovers))

    def _remove_unused(self, reference_ids: set[str]) -> None:
        """Removes files that no brand has any more; the exclusive lock is held, and their rows are gone for good."""
        mine = select(REFERENCES.c.reference_id).where(REFERENCES.c.reference_id.in_(reference_ids))
        try:
            with self._reading() as connection:
                used = set(connection.scalars(mine))
            self._files.remove(reference_ids - used)
        except (AtelierError, OSError) as error:
            logger.warning("pictures that no brand has stay until the next start: %s", error)

    @contextmanager
    def _adding(self) -> Iterator[None]:
        self._open_once()
        with told(), self._files.adding():
            yield

    @contextmanager
    def _removing(self) -> Iterator[None]:
        self._open_once()
        with told(), self._files.removing():
            yield

    @contextmanager
    def _reading(self) -> Iterator[Connection]:
        self._open_once()
        with self._sessions.reading() as connection:
            yield connection

    @contextmanager
    def _writing(self) -> Iterator[Connection]:
        self._open_once()
        with self._sessions.writing() as connection:
            yield connection

    def _open_once(self) -> None:
        if not self._opened:
            self.open()
