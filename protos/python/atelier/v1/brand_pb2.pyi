from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Iterable as _Iterable, Mapping as _Mapping, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Brand(_message.Message):
    __slots__ = ("brand_id", "name", "reference_count", "revision", "created_at", "dispersion", "palette", "pending_embeddings", "warnings", "references")
    BRAND_ID_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    REFERENCE_COUNT_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    CREATED_AT_FIELD_NUMBER: _ClassVar[int]
    DISPERSION_FIELD_NUMBER: _ClassVar[int]
    PALETTE_FIELD_NUMBER: _ClassVar[int]
    PENDING_EMBEDDINGS_FIELD_NUMBER: _ClassVar[int]
    WARNINGS_FIELD_NUMBER: _ClassVar[int]
    REFERENCES_FIELD_NUMBER: _ClassVar[int]
    brand_id: str
    name: str
    reference_count: int
    revision: int
    created_at: _timestamp_pb2.Timestamp
    dispersion: float
    palette: _containers.RepeatedScalarFieldContainer[str]
    pending_embeddings: int
    warnings: _containers.RepeatedScalarFieldContainer[str]
    references: _containers.RepeatedCompositeFieldContainer[ReferenceImage]
    def __init__(self, brand_id: _Optional[str] = ..., name: _Optional[str] = ..., reference_count: _Optional[int] = ..., revision: _Optional[int] = ..., created_at: _Optional[_Union[_timestamp_pb2.Timestamp, _Mapping]] = ..., dispersion: _Optional[float] = ..., palette: _Optional[_Iterable[str]] = ..., pending_embeddings: _Optional[int] = ..., warnings: _Optional[_Iterable[str]] = ..., references: _Optional[_Iterable[_Union[ReferenceImage, _Mapping]]] = ...) -> None: ...

class ReferenceImage(_message.Message):
    __slots__ = ("reference_id", "size_bytes", "width", "height")
    REFERENCE_ID_FIELD_NUMBER: _ClassVar[int]
    SIZE_BYTES_FIELD_NUMBER: _ClassVar[int]
    WIDTH_FIELD_NUMBER: _ClassVar[int]
    HEIGHT_FIELD_NUMBER: _ClassVar[int]
    reference_id: str
    size_bytes: int
    width: int
    height: int
    def __init__(self, reference_id: _Optional[str] = ..., size_bytes: _Optional[int] = ..., width: _Optional[int] = ..., height: _Optional[int] = ...) -> None: ...

class CreateBrandRequest(_message.Message):
    __slots__ = ("brand_id", "name")
    BRAND_ID_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    brand_id: str
    name: str
    def __init__(self, brand_id: _Optional[str] = ..., name: _Optional[str] = ...) -> None: ...

class CreateBrandResponse(_message.Message):
    __slots__ = ("brand",)
    BRAND_FIELD_NUMBER: _ClassVar[int]
    brand: Brand
    def __init__(self, brand: _Optional[_Union[Brand, _Mapping]] = ...) -> None: ...

class GetBrandRequest(_message.Message):
    __slots__ = ("brand_id",)
    BRAND_ID_FIELD_NUMBER: _ClassVar[int]
    brand_id: str
    def __init__(self, brand_id: _Optional[str] = ...) -> None: ...

class GetBrandResponse(_message.Message):
    __slots__ = ("brand",)
    BRAND_FIELD_NUMBER: _ClassVar[int]
    brand: Brand
    def __init__(self, brand: _Optional[_Union[Brand, _Mapping]] = ...) -> None: ...

class ListBrandsRequest(_message.Message):
    __slots__ = ("page_size", "page_token")
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    page_size: int
    page_token: str
    def __init__(self, page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class ListBrandsResponse(_message.Message):
    __slots__ = ("brands", "next_page_token")
    BRANDS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    brands: _containers.RepeatedCompositeFieldContainer[Brand]
    next_page_token: str
    def __init__(self, brands: _Optional[_Iterable[_Union[Brand, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class DeleteBrandRequest(_message.Message):
    __slots__ = ("brand_id",)
    BRAND_ID_FIELD_NUMBER: _ClassVar[int]
    brand_id: str
    def __init__(self, brand_id: _Optional[str] = ...) -> None: ...

class DeleteBrandResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class AddReferenceImagesRequest(_message.Message):
    __slots__ = ("brand_id", "data", "last")
    BRAND_ID_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    LAST_FIELD_NUMBER: _ClassVar[int]
    brand_id: str
    data: bytes
    last: bool
    def __init__(self, brand_id: _Optional[str] = ..., data: _Optional[bytes] = ..., last: bool = ...) -> None: ...

class AddReferenceImagesResponse(_message.Message):
    __slots__ = ("brand", "added_reference_ids", "duplicate_reference_ids")
    BRAND_FIELD_NUMBER: _ClassVar[int]
    ADDED_REFERENCE_IDS_FIELD_NUMBER: _ClassVar[int]
    DUPLICATE_REFERENCE_IDS_FIELD_NUMBER: _ClassVar[int]
    brand: Brand
    added_reference_ids: _containers.RepeatedScalarFieldContainer[str]
    duplicate_reference_ids: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, brand: _Optional[_Union[Brand, _Mapping]] = ..., added_reference_ids: _Optional[_Iterable[str]] = ..., duplicate_reference_ids: _Optional[_Iterable[str]] = ...) -> None: ...

class RemoveReferenceImageRequest(_message.Message):
    __slots__ = ("brand_id", "reference_id")
    BRAND_ID_FIELD_NUMBER: _ClassVar[int]
    REFERENCE_ID_FIELD_NUMBER: _ClassVar[int]
    brand_id: str
    reference_id: str
    def __init__(self, brand_id: _Optional[str] = ..., reference_id: _Optional[str] = ...) -> None: ...

class RemoveReferenceImageResponse(_message.Message):
    __slots__ = ("brand",)
    BRAND_FIELD_NUMBER: _ClassVar[int]
    brand: Brand
    def __init__(self, brand: _Optional[_Union[Brand, _Mapping]] = ...) -> None: ...
