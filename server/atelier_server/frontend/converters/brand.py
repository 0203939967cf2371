"""Brands towards the wire."""

from google.protobuf.timestamp_pb2 import Timestamp

from atelier.v1 import brand_pb2
from atelier_server.brand.palette import hex_colour
from atelier_server.pipeline.brand_look import BrandLook


def brand(look: BrandLook, *, with_references: bool = False) -> brand_pb2.Brand:
    """Converts a brand; its reference pictures are listed on demand."""
    record = look.record
    created = Timestamp()
    created.FromMicroseconds(round(record.created * 1e6))
    references = look.references if with_references else ()
    return brand_pb2.Brand(
        brand_id=record.brand_id,
        name=record.name,
        reference_count=record.reference_count,
        revision=record.revision,
        created_at=created,
        dispersion=look.dispersion,
        palette=map(hex_colour, look.palette),
        pending_embeddings=record.pending,
        warnings=look.warnings,
        references=[
            brand_pb2.ReferenceImage(
                reference_id=one.reference_id, size_bytes=one.size_bytes, width=one.width, height=one.height
            )
            for one in references
        ],
    )
