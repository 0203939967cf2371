"""The statements on the brands' tables that several methods share, and rows from and to records."""

import json
from collections.abc import Callable
from typing import Any

from sqlalchemy import Connection, Row, Select, and_, func, insert, select, update
from sqlalchemy.dialects import postgresql, sqlite

from atelier_server.brand.palette import Swatch
from atelier_server.brand.records import Reference, Space
from atelier_server.brand.tables import BRANDS, EMBEDDINGS, REFERENCES
from atelier_server.errors import NotFound

_INSERTS: dict[str, Callable[..., Any]] = {"sqlite": sqlite.insert, "postgresql": postgresql.insert}


def no_brand(brand_id: str) -> NotFound:
    """The answer to an id that no brand has."""
    return NotFound(
        f"there is no brand {brand_id}; create it first, or leave brand_id out",
        field="brand_id",
        reason="BRAND_NOT_FOUND",
    )


def brand_records(space: Space | None) -> Select[Any]:
    """The columns of BrandRecord; what is embedded is counted in `space`."""
    owned = select(func.count()).where(REFERENCES.c.brand_id == BRANDS.c.brand_id).scalar_subquery()
    here = (EMBEDDINGS.c.model.is_(None),) if space is None else in_space(space)
    done = select(func.count()).where(EMBEDDINGS.c.brand_id == BRANDS.c.brand_id, *here).scalar_subquery()
    return select(BRANDS.c.brand_id, BRANDS.c.uid, BRANDS.c.name, BRANDS.c.revision, BRANDS.c.created, owned, done)


def in_space(space: Space) -> tuple[Any, ...]:
    """Conditions that hold for the embeddings of a space."""
    columns = EMBEDDINGS.c
    return (columns.model == space.model, columns.version == space.version, columns.digest == space.digest)


def same_reference() -> Any:
    """The condition that joins embeddings to their references."""
    return and_(EMBEDDINGS.c.brand_id == REFERENCES.c.brand_id, EMBEDDINGS.c.reference_id == REFERENCES.c.reference_id)


def revise(connection: Connection, brand_id: str) -> None:
    """Counts a change of a brand.

    Raises:
        NotFound: There is no such brand.
    """
    counted = update(BRANDS).where(BRANDS.c.brand_id == brand_id).values(revision=BRANDS.c.revision + 1)
    if not connection.execute(counted).rowcount:
        raise no_brand(brand_id)


def insert_reference(connection: Connection, brand_id: str, reference: Reference, position: int) -> None:
    """Adds a row; positions tell the order in which a brand's references came."""
    swatches = [[one.lightness, one.a, one.b, one.share] for one in reference.swatches]
    row = {
        "brand_id": brand_id,
        "reference_id": reference.reference_id,
        "pixels_id": reference.pixels_id,
        "position": position,
        "size_bytes": reference.size_bytes,
        "width": reference.width,
        "height": reference.height,
        "swatches": json.dumps(swatches),
    }
    connection.execute(insert(REFERENCES).values(row))


def insert_embedding(connection: Connection, row: dict[str, Any]) -> None:
    """Adds a row, unless there is one of its key."""
    connection.execute(_INSERTS[connection.dialect.name](EMBEDDINGS).values(row).on_conflict_do_nothing())


def reference_of(row: Row[Any]) -> Reference:
    """A row of the references' table."""
    swatches = tuple(Swatch(*values) for values in json.loads(row.swatches))
    return Reference(row.reference_id, row.pixels_id, row.size_bytes, row.width, row.height, swatches)
