from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Iterable as _Iterable, Mapping as _Mapping, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class ScoreRequest(_message.Message):
    __slots__ = ("images", "prompt", "brand_id", "aesthetic_threshold", "brand_threshold")
    IMAGES_FIELD_NUMBER: _ClassVar[int]
    PROMPT_FIELD_NUMBER: _ClassVar[int]
    BRAND_ID_FIELD_NUMBER: _ClassVar[int]
    AESTHETIC_THRESHOLD_FIELD_NUMBER: _ClassVar[int]
    BRAND_THRESHOLD_FIELD_NUMBER: _ClassVar[int]
    images: _containers.RepeatedScalarFieldContainer[bytes]
    prompt: str
    brand_id: str
    aesthetic_threshold: float
    brand_threshold: float
    def __init__(self, images: _Optional[_Iterable[bytes]] = ..., prompt: _Optional[str] = ..., brand_id: _Optional[str] = ..., aesthetic_threshold: _Optional[float] = ..., brand_threshold: _Optional[float] = ...) -> None: ...

class ScoreResponse(_message.Message):
    __slots__ = ("scores",)
    SCORES_FIELD_NUMBER: _ClassVar[int]
    scores: _containers.RepeatedCompositeFieldContainer[Scores]
    def __init__(self, scores: _Optional[_Iterable[_Union[Scores, _Mapping]]] = ...) -> None: ...

class Scores(_message.Message):
    __slots__ = ("aesthetic_score", "sub_scores", "aesthetic_method", "brand_consistency_score", "brand_reference_missing", "on_brand_probability", "palette_distance", "nearest_references", "brand_centroid_similarity", "prompt_alignment", "aesthetic_threshold", "brand_threshold", "aesthetic_passed", "brand_passed", "passed", "missing_reasons", "warnings")
    class SubScoresEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: float
        def __init__(self, key: _Optional[str] = ..., value: _Optional[float] = ...) -> None: ...
    class MissingReasonsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    AESTHETIC_SCORE_FIELD_NUMBER: _ClassVar[int]
    SUB_SCORES_FIELD_NUMBER: _ClassVar[int]
    AESTHETIC_METHOD_FIELD_NUMBER: _ClassVar[int]
    BRAND_CONSISTENCY_SCORE_FIELD_NUMBER: _ClassVar[int]
    BRAND_REFERENCE_MISSING_FIELD_NUMBER: _ClassVar[int]
    ON_BRAND_PROBABILITY_FIELD_NUMBER: _ClassVar[int]
    PALETTE_DISTANCE_FIELD_NUMBER: _ClassVar[int]
    NEAREST_REFERENCES_FIELD_NUMBER: _ClassVar[int]
    BRAND_CENTROID_SIMILARITY_FIELD_NUMBER: _ClassVar[int]
    PROMPT_ALIGNMENT_FIELD_NUMBER: _ClassVar[int]
    AESTHETIC_THRESHOLD_FIELD_NUMBER: _ClassVar[int]
    BRAND_THRESHOLD_FIELD_NUMBER: _ClassVar[int]
    AESTHETIC_PASSED_FIELD_NUMBER: _ClassVar[int]
    BRAND_PASSED_FIELD_NUMBER: _ClassVar[int]
    PASSED_FIELD_NUMBER: _ClassVar[int]
    MISSING_REASONS_FIELD_NUMBER: _ClassVar[int]
    WARNINGS_FIELD_NUMBER: _ClassVar[int]
    aesthetic_score: float
    sub_scores: _containers.ScalarMap[str, float]
    aesthetic_method: str
    brand_consistency_score: float
    brand_reference_missing: bool
    on_brand_probability: float
    palette_distance: float
    nearest_references: _containers.RepeatedCompositeFieldContainer[NearestReference]
    brand_centroid_similarity: float
    prompt_alignment: float
    aesthetic_threshold: float
    brand_threshold: float
    aesthetic_passed: bool
    brand_passed: bool
    passed: bool
    missing_reasons: _containers.ScalarMap[str, str]
    warnings: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, aesthetic_score: _Optional[float] = ..., sub_scores: _Optional[_Mapping[str, float]] = ..., aesthetic_method: _Optional[str] = ..., brand_consistency_score: _Optional[float] = ..., brand_reference_missing: bool = ..., on_brand_probability: _Optional[float] = ..., palette_distance: _Optional[float] = ..., nearest_references: _Optional[_Iterable[_Union[NearestReference, _Mapping]]] = ..., brand_centroid_similarity: _Optional[float] = ..., prompt_alignment: _Optional[float] = ..., aesthetic_threshold: _Optional[float] = ..., brand_threshold: _Optional[float] = ..., aesthetic_passed: bool = ..., brand_passed: bool = ..., passed: bool = ..., missing_reasons: _Optional[_Mapping[str, str]] = ..., warnings: _Optional[_Iterable[str]] = ...) -> None: ...

class NearestReference(_message.Message):
    __slots__ = ("reference_id", "similarity")
    REFERENCE_ID_FIELD_NUMBER: _ClassVar[int]
    SIMILARITY_FIELD_NUMBER: _ClassVar[int]
    reference_id: str
    similarity: float
    def __init__(self, reference_id: _Optional[str] = ..., similarity: _Optional[float] = ...) -> None: ...
