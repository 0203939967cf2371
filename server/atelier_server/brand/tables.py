"""The tables. A change here needs a migration beside it; a test compares the two."""

from sqlalchemy import (
    BigInteger,
    Column,
    Float,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
)

METADATA = MetaData()

BRANDS = Table(
    "brands",
    METADATA,
    Column("brand_id", String(64), primary_key=True),
    Column("uid", String(32), nullable=False),
    Column("name", Text, nullable=False),
    Column("revision", BigInteger, nullable=False),
    Column("created", Float(53), nullable=False),
)

REFERENCES = Table(
    "reference_images",
    METADATA,
    Column("brand_id", String(64), ForeignKey("brands.brand_id", ondelete="CASCADE"), primary_key=True),
    Column("reference_id", String(64), primary_key=True),
    Column("pixels_id", String(64), nullable=False),
    Column("position", BigInteger, nullable=False),
    Column("size_bytes", Integer, nullable=False),
    Column("width", Integer, nullable=False),
    Column("height", Integer, nullable=False),
    Column("swatches", Text, nullable=False),
    UniqueConstraint("brand_id", "pixels_id", name="one_reference_for_equal_pixels"),
    Index("reference_images_by_file", "reference_id"),
)

EMBEDDINGS = Table(
    "reference_embeddings",
    METADATA,
    Column("brand_id", String(64), primary_key=True),
    Column("reference_id", String(64), primary_key=True),
    Column("model", String(200), primary_key=True),
    Column("version", String(40), primary_key=True),
    Column("digest", String(64), primary_key=True),
    Column("vector", LargeBinary, nullable=False),
    ForeignKeyConstraint(
        ["brand_id", "reference_id"],
        ["reference_images.brand_id", "reference_images.reference_id"],
        ondelete="CASCADE",
        name="embedding_of_a_reference",
    ),
)
