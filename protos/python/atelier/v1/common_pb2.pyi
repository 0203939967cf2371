from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Optional as _Optional

DESCRIPTOR: _descriptor.FileDescriptor

class Style(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    STYLE_UNSPECIFIED: _ClassVar[Style]
    STYLE_NONE: _ClassVar[Style]
    STYLE_LUXURY: _ClassVar[Style]
    STYLE_CASUAL: _ClassVar[Style]
    STYLE_MINIMALIST: _ClassVar[Style]
    STYLE_BOLD: _ClassVar[Style]
    STYLE_ELEGANT: _ClassVar[Style]
    STYLE_MODERN: _ClassVar[Style]
    STYLE_VINTAGE: _ClassVar[Style]
    STYLE_PROFESSIONAL: _ClassVar[Style]

class Quality(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    QUALITY_UNSPECIFIED: _ClassVar[Quality]
    QUALITY_STANDARD: _ClassVar[Quality]
    QUALITY_HD: _ClassVar[Quality]
    QUALITY_ULTRA_HD: _ClassVar[Quality]

class AspectRatio(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    ASPECT_RATIO_UNSPECIFIED: _ClassVar[AspectRatio]
    ASPECT_RATIO_SQUARE: _ClassVar[AspectRatio]
    ASPECT_RATIO_LANDSCAPE: _ClassVar[AspectRatio]
    ASPECT_RATIO_PORTRAIT: _ClassVar[AspectRatio]
    ASPECT_RATIO_ULTRA_WIDE: _ClassVar[AspectRatio]
    ASPECT_RATIO_INSTAGRAM: _ClassVar[AspectRatio]
    ASPECT_RATIO_TWITTER: _ClassVar[AspectRatio]

class Model(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    MODEL_UNSPECIFIED: _ClassVar[Model]
    MODEL_AUTO: _ClassVar[Model]
    MODEL_STABLE_DIFFUSION_XL: _ClassVar[Model]
    MODEL_DALL_E_3: _ClassVar[Model]

class NoiseSchedule(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    NOISE_SCHEDULE_UNSPECIFIED: _ClassVar[NoiseSchedule]
    NOISE_SCHEDULE_EULER: _ClassVar[NoiseSchedule]
    NOISE_SCHEDULE_EULER_ANCESTRAL: _ClassVar[NoiseSchedule]
    NOISE_SCHEDULE_DDIM: _ClassVar[NoiseSchedule]
    NOISE_SCHEDULE_DPMPP_2M: _ClassVar[NoiseSchedule]
    NOISE_SCHEDULE_DPMPP_2M_KARRAS: _ClassVar[NoiseSchedule]
    NOISE_SCHEDULE_UNIPC: _ClassVar[NoiseSchedule]
    NOISE_SCHEDULE_LCM: _ClassVar[NoiseSchedule]

class Gate(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    GATE_UNSPECIFIED: _ClassVar[Gate]
    GATE_REPORT: _ClassVar[Gate]
    GATE_RETRY: _ClassVar[Gate]
    GATE_ENFORCE: _ClassVar[Gate]

class ImageFormat(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    IMAGE_FORMAT_UNSPECIFIED: _ClassVar[ImageFormat]
    IMAGE_FORMAT_PNG: _ClassVar[ImageFormat]
    IMAGE_FORMAT_JPEG: _ClassVar[ImageFormat]
    IMAGE_FORMAT_WEBP: _ClassVar[ImageFormat]

class CachePolicy(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    CACHE_POLICY_UNSPECIFIED: _ClassVar[CachePolicy]
    CACHE_POLICY_USE: _ClassVar[CachePolicy]
    CACHE_POLICY_REUSE: _ClassVar[CachePolicy]
    CACHE_POLICY_BYPASS: _ClassVar[CachePolicy]

class Priority(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    PRIORITY_UNSPECIFIED: _ClassVar[Priority]
    PRIORITY_LOW: _ClassVar[Priority]
    PRIORITY_NORMAL: _ClassVar[Priority]
    PRIORITY_HIGH: _ClassVar[Priority]

class Reproducibility(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    REPRODUCIBILITY_UNSPECIFIED: _ClassVar[Reproducibility]
    REPRODUCIBILITY_BATCHED: _ClassVar[Reproducibility]
    REPRODUCIBILITY_EXACT: _ClassVar[Reproducibility]

class OnDisconnect(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    ON_DISCONNECT_UNSPECIFIED: _ClassVar[OnDisconnect]
    ON_DISCONNECT_CANCEL: _ClassVar[OnDisconnect]
    ON_DISCONNECT_CONTINUE: _ClassVar[OnDisconnect]
STYLE_UNSPECIFIED: Style
STYLE_NONE: Style
STYLE_LUXURY: Style
STYLE_CASUAL: Style
STYLE_MINIMALIST: Style
STYLE_BOLD: Style
STYLE_ELEGANT: Style
STYLE_MODERN: Style
STYLE_VINTAGE: Style
STYLE_PROFESSIONAL: Style
QUALITY_UNSPECIFIED: Quality
QUALITY_STANDARD: Quality
QUALITY_HD: Quality
QUALITY_ULTRA_HD: Quality
ASPECT_RATIO_UNSPECIFIED: AspectRatio
ASPECT_RATIO_SQUARE: AspectRatio
ASPECT_RATIO_LANDSCAPE: AspectRatio
ASPECT_RATIO_PORTRAIT: AspectRatio
ASPECT_RATIO_ULTRA_WIDE: AspectRatio
ASPECT_RATIO_INSTAGRAM: AspectRatio
ASPECT_RATIO_TWITTER: AspectRatio
MODEL_UNSPECIFIED: Model
MODEL_AUTO: Model
MODEL_STABLE_DIFFUSION_XL: Model
MODEL_DALL_E_3: Model
NOISE_SCHEDULE_UNSPECIFIED: NoiseSchedule
NOISE_SCHEDULE_EULER: NoiseSchedule
NOISE_SCHEDULE_EULER_ANCESTRAL: NoiseSchedule
NOISE_SCHEDULE_DDIM: NoiseSchedule
NOISE_SCHEDULE_DPMPP_2M: NoiseSchedule
NOISE_SCHEDULE_DPMPP_2M_KARRAS: NoiseSchedule
NOISE_SCHEDULE_UNIPC: NoiseSchedule
NOISE_SCHEDULE_LCM: NoiseSchedule
GATE_UNSPECIFIED: Gate
GATE_REPORT: Gate
GATE_RETRY: Gate
GATE_ENFORCE: Gate
IMAGE_FORMAT_UNSPECIFIED: ImageFormat
IMAGE_FORMAT_PNG: ImageFormat
IMAGE_FORMAT_JPEG: ImageFormat
IMAGE_FORMAT_WEBP: ImageFormat
CACHE_POLICY_UNSPECIFIED: CachePolicy
CACHE_POLICY_USE: CachePolicy
CACHE_POLICY_REUSE: CachePolicy
CACHE_POLICY_BYPASS: CachePolicy
PRIORITY_UNSPECIFIED: Priority
PRIORITY_LOW: Priority
PRIORITY_NORMAL: Priority
PRIORITY_HIGH: Priority
REPRODUCIBILITY_UNSPECIFIED: Reproducibility
REPRODUCIBILITY_BATCHED: Reproducibility
REPRODUCIBILITY_EXACT: Reproducibility
ON_DISCONNECT_UNSPECIFIED: OnDisconnect
ON_DISCONNECT_CANCEL: OnDisconnect
ON_DISCONNECT_CONTINUE: OnDisconnect

class Dimensions(_message.Message):
    __slots__ = ("width", "height")
    WIDTH_FIELD_NUMBER: _ClassVar[int]
    HEIGHT_FIELD_NUMBER: _ClassVar[int]
    width: int
    height: int
    def __init__(self, width: _Optional[int] = ..., height: _Optional[int] = ...) -> None: ...
