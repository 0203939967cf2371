"""What a model takes and gives, in the protocol's words: from its config.pbtxt, or the fixed one of picture models."""

from collections.abc import Sequence
from dataclasses import dataclass

from atelier_server._generated.atelier.kserve.model_config_pb2 import DataType, ModelConfig, ModelInput, ModelOutput
from atelier_server.frontend.kserve.tensors import BYTES, datatype_of_config
from atelier_server.repository.repository import ModelEntry

DIFFUSION = "diffusion"
"""The role of models that make pictures."""
_PLATFORMS = {"onnx": "onnxruntime_onnx"}
"""What Triton calls a backend; others go by their own name."""


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """A tensor as documented; -1 in the shape is any size. The shape holds the batch dimension where there is one.

    `labels` name the classes that an output's values stand for.
    """

    name: str
    datatype: str
    shape: tuple[int, ...]
    optional: bool = False
    labels: tuple[str, ...] = ()

    def fits(self, shape: Sequence[int]) -> bool:
        """Whether a tensor of this shape is one."""
        return len(shape) == len(self.shape) and all(
            want in (-1, have) for want, have in zip(self.shape, shape, strict=True)
        )


@dataclass(frozen=True, slots=True)
class Signature:
    """A model's tensors; `max_batch_size` 0: there is no batch dimension. Empty `inputs`: the model checks its own."""

    platform: str
    max_batch_size: int
    inputs: dict[str, TensorSpec]
    outputs: dict[str, TensorSpec]
    makes_pictures: bool


PICTURE_INPUTS: tuple[TensorSpec, ...] = (
    TensorSpec("prompt", BYTES, (1,)),
    TensorSpec("negative_prompt", BYTES, (1,), optional=True),
    TensorSpec("seed", "UINT64", (1,), optional=True),
    TensorSpec("height", "UINT32", (1,), optional=True),
    TensorSpec("width", "UINT32", (1,), optional=True),
    TensorSpec("num_inference_steps", "UINT32", (1,), optional=True),
    TensorSpec("guidance_scale", "FP32", (1,), optional=True),
    TensorSpec("noise_schedule", BYTES, (1,), optional=True),
    TensorSpec("reproducibility", BYTES, (1,), optional=True),
)
PICTURE_OUTPUTS: tuple[TensorSpec, ...] = (
    TensorSpec("IMAGE", BYTES, (1,)),
    TensorSpec("IMAGE_RAW", "UINT8", (-1, -1, 3)),
    TensorSpec("SEED", "UINT64", (1,)),
)


class Signatures:
    """The signatures of models, made once for each configuration that was read."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[ModelEntry, Signature]] = {}

    def of(self, entry: ModelEntry) -> Signature:
        """The signature of a model of the repository."""
        known = self._known.get(entry.name)
        if known is None or known[0] is not entry:
            known = self._known[entry.name] = (entry, signature_of(entry))
        return known[1]


def signature_of(entry: ModelEntry) -> Signature:
    """The signature of a model of the repository."""
    config = entry.config or ModelConfig()
    inputs, outputs, batch = PICTURE_INPUTS, PICTURE_OUTPUTS, 0
    if entry.role != DIFFUSION:
        batch = config.max_batch_size
        inputs = tuple(_spec(one, batch, one.optional) for one in config.input)
        outputs = tuple(_spec(one, batch, labels=_labels(entry, one.label_filename)) for one in config.output)
    return Signature(
        platform=config.platform or _PLATFORMS.get(entry.backend, entry.backend),
        max_batch_size=batch,
        inputs={one.name: one for one in inputs},
        outputs={one.name: one for one in outputs},
        makes_pictures=entry.role == DIFFUSION,
    )


def completed_config(entry: ModelEntry) -> ModelConfig:
    """The model's configuration, with what it leaves out filled in where that is known."""
    config = ModelConfig()
    config.CopyFrom(entry.config or ModelConfig())
    signature = signature_of(entry)
    config.platform = signature.platform
    if signature.makes_pictures and not config.input:
        config.input.extend(
            ModelInput(name=one.name, data_type=_config_type(one), dims=one.shape, optional=one.optional)
            for one in PICTURE_INPUTS
        )
        config.output.extend(
            ModelOutput(name=one.name, data_type=_config_type(one), dims=one.shape) for one in PICTURE_OUTPUTS
        )
    return config


def _spec(
    tensor: ModelInput | ModelOutput, max_batch_size: int, optional: bool = False, labels: tuple[str, ...] = ()
) -> TensorSpec:
    shape = (-1, *tensor.dims) if max_batch_size else tuple(tensor.dims)
    return TensorSpec(tensor.name, datatype_of_config(tensor.data_type), shape, optional, labels)


def _labels(entry: ModelEntry, file: str) -> tuple[str, ...]:
    """The lines of a file in the model's folder; none where it is missing or lies elsewhere."""
    path = entry.folder / file
    if not file or path.resolve().parent != entry.folder.resolve() or not path.is_file():
        return ()
    return tuple(path.read_text(encoding="utf-8", errors="replace").splitlines())


def _config_type(tensor: TensorSpec) -> DataType:
    name = "TYPE_STRING" if tensor.datatype == BYTES else f"TYPE_{tensor.datatype}"
    return DataType.Value(name)  # type: ignore[return-value]
