"""Brands, their reference pictures and the embeddings of these."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Makes the three tables."""
    op.create_table(
        "brands",
        sa.Column("brand_id", sa.String(64), primary_key=True),
        sa.Column("uid", sa.String(32), nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("revision", sa.BigInteger, nullable=False),
        sa.Column("created", sa.Float(53), nullable=False),
    )
    op.create_table(
        "reference_images",
        sa.Column("brand_id", sa.String(64), sa.ForeignKey("brands.brand_id", ondelete="CASCADE"), primary_key=True),
        sa.Column("reference_id", sa.String(64), primary_key=True),
        sa.Column("pixels_id", sa.String(64), nullable=False),
        sa.Column("position", sa.BigInteger, nullable=False),
        sa.Column("size_bytes", sa.Integer, nullable=False),
        sa.Column("width", sa.Integer, nullable=False),
        sa.Column("height", sa.Integer, nullable=False),
        sa.Column("swatches", sa.Text, nullable=False),
        sa.UniqueConstraint("brand_id", "pixels_id", name="one_reference_for_equal_pixels"),
    )
    op.create_index("reference_images_by_file", "reference_images", ["reference_id"])
    op.create_table(
        "reference_embeddings",
        sa.Column("brand_id", sa.String(64), primary_key=True),
        sa.Column("reference_id", sa.String(64), primary_key=True),
        sa.Column("model", sa.String(200), primary_key=True),
        sa.Column("version", sa.String(40), primary_key=True),
        sa.Column("digest", sa.String(64), primary_key=True),
        sa.Column("vector", sa.LargeBinary, nullable=False),
        sa.ForeignKeyConstraint(
            ["brand_id", "reference_id"],
            ["reference_images.brand_id", "reference_images.reference_id"],
            ondelete="CASCADE",
            name="embedding_of_a_reference",
        ),
    )


def downgrade() -> None:
    """Removes them."""
    for table in ("reference_embeddings", "reference_images", "brands"):
        op.drop_table(table)
