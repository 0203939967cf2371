"""What each method asks and how its answer is read: everything that the sync and the async client have in common."""

import io
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar, Union

from google.protobuf.message import Message

from atelier.v1 import brand_pb2, health_pb2, image_generation_pb2, model_pb2, scoring_pb2
from atelier_client import _types
from atelier_client._errors import InvalidArgument
from atelier_client._read import read
from atelier_client._write import fill

if TYPE_CHECKING:
    import PIL.Image

T = TypeVar("T")
ImageSource = Union[str, PathLike[str], bytes, "PIL.Image.Image"]

GENERATE = "/atelier.v1.ImageGenerationService/Generate"
_PIECE_BYTES = 1024 * 1024
# Many pictures go in several messages, so that a server's limit on one message is met; 64 is the contract's.
_SCORE_BYTES = 3 * 1024 * 1024
_SCORE_IMAGES = 64


@dataclass(frozen=True, slots=True)
class Call(Generic[T]):
    """One unary-reply call.

    Args:
        path: The method's full name.
        request: The message, or messages of a client stream.
        reply: Class of the reply.
        read: The reply's value.
        repeatable: Whether it may be tried again after UNAVAILABLE.
    """

    path: str
    request: Message | Iterator[Message]
    reply: type[Message]
    read: Callable[[Any], T]
    repeatable: bool = True


def serialize(message: Message) -> bytes:
    """Any message as bytes."""
    return message.SerializeToString()


def generate(prompt: str, fields: Mapping[str, Any]) -> image_generation_pb2.GenerateRequest:
    """The request of a generation; it gets a request_id, which stays the same when it is tried again."""
    request = image_generation_pb2.GenerateRequest()
    fill(request, {"prompt": prompt, **fields})
    if not request.request_id:
        request.request_id = uuid.uuid4().hex
    return request


def score(images: Sequence[ImageSource], fields: Mapping[str, Any]) -> Iterator[Call[tuple[_types.Scores, ...]]]:
    """Calls that together score all pictures, in their order."""
    for batch in _batches([load(image) for image in images]):
        request = scoring_pb2.ScoreRequest(images=batch)
        fill(request, fields)
        yield Call(
            "/atelier.v1.ImageGenerationService/Score",
            request,
            scoring_pb2.ScoreResponse,
            lambda reply: tuple(read(_types.Scores, scores) for scores in reply.scores),
        )


def health() -> Call[_types.Health]:
    """How the server is."""
    path = "/atelier.v1.ImageGenerationService/Health"
    return Call(path, health_pb2.HealthRequest(), health_pb2.HealthResponse, lambda reply: read(_types.Health, reply))


def metrics() -> Call[_types.Metrics]:
    """What the server did."""
    path = "/atelier.v1.ImageGenerationService/GetMetrics"
    kind = health_pb2.GetMetricsResponse
    return Call(path, health_pb2.GetMetricsRequest(), kind, lambda reply: read(_types.Metrics, reply))


def create_brand(brand_id: str, name: str) -> Call[_types.Brand]:
    """A new brand."""
    request = brand_pb2.CreateBrandRequest()
    fill(request, {"brand_id": brand_id, "name": name})
    return _brand("CreateBrand", request, brand_pb2.CreateBrandResponse, repeatable=False)


def get_brand(brand_id: str) -> Call[_types.Brand]:
    """One brand with its references."""
    request = brand_pb2.GetBrandRequest()
    fill(request, {"brand_id": brand_id})
    return _brand("GetBrand", request, brand_pb2.GetBrandResponse)


def list_brands(page_token: str) -> Call[tuple[tuple[_types.Brand, ...], str]]:
    """A page of brands and the token of the next; empty at the end."""
    return Call(
        "/atelier.v1.BrandService/ListBrands",
        brand_pb2.ListBrandsRequest(page_token=page_token),
        brand_pb2.ListBrandsResponse,
        lambda reply: (tuple(read(_types.Brand, brand) for brand in reply.brands), str(reply.next_page_token)),
    )


def delete_brand(brand_id: str) -> Call[None]:
    """Removes a brand."""
    request = brand_pb2.DeleteBrandRequest()
    fill(request, {"brand_id": brand_id})
    path = "/atelier.v1.BrandService/DeleteBrand"
    return Call(path, request, brand_pb2.DeleteBrandResponse, lambda _: None, repeatable=False)


def add_references(brand_id: str, images: Sequence[ImageSource]) -> Call[_types.AddedReferences]:
    """Adds reference pictures in pieces; they are read before the call, so that a missing file costs none."""
    fill(brand_pb2.AddReferenceImagesRequest(), {"brand_id": brand_id})
    return Call(
        "/atelier.v1.BrandService/AddReferenceImages",
        _pieces(brand_id, [load(image) for image in images]),
        brand_pb2.AddReferenceImagesResponse,
        lambda reply: read(_types.AddedReferences, reply),
        repeatable=False,
    )


def remove_reference(brand_id: str, reference_id: str) -> Call[_types.Brand]:
    """Removes a reference picture."""
    request = brand_pb2.RemoveReferenceImageRequest()
    fill(request, {"brand_id": brand_id, "reference_id": reference_id})
    return _brand("RemoveReferenceImage", request, brand_pb2.RemoveReferenceImageResponse, repeatable=False)


def list_models() -> Call[tuple[_types.ModelInfo, ...]]:
    """All models of the repository."""
    return Call(
        "/atelier.v1.ModelService/ListModels",
        model_pb2.ListModelsRequest(),
        model_pb2.ListModelsResponse,
        lambda reply: tuple(read(_types.ModelInfo, model) for model in reply.models),
    )


def load_model(name: str) -> Call[_types.ModelInfo]:
    """Loads a model."""
    request = model_pb2.LoadModelRequest()
    fill(request, {"name": name})
    return _model("LoadModel", request, model_pb2.LoadModelResponse)


def unload_model(name: str) -> Call[_types.ModelInfo]:
    """Unloads a model."""
    request = model_pb2.UnloadModelRequest()
    fill(request, {"name": name})
    return _model("UnloadModel", request, model_pb2.UnloadModelResponse)


def load(image: ImageSource) -> bytes:
    """The encoded file of a picture: a path, bytes of a file, or a Pillow picture, which becomes a PNG.

    Raises:
        InvalidArgument: The file cannot be read.
    """
    if isinstance(image, bytes):
        return image
    if isinstance(image, (str, PathLike)):
        try:
            return Path(image).read_bytes()
        except (OSError, ValueError) as error:
            raise InvalidArgument(f"{image} cannot be read: {error}.", field="image") from error
    buffer = io.BytesIO()
    image.save(buffer, format="PNG")
    return buffer.getvalue()


def _batches(images: Sequence[bytes]) -> Iterator[list[bytes]]:
    batch: list[bytes] = []
    for image in images:
        if batch and (len(batch) == _SCORE_IMAGES or sum(map(len, batch)) + len(image) > _SCORE_BYTES):
            yield batch
            batch = []
        batch.append(image)
    if batch:
        yield batch


def _pieces(brand_id: str, images: Sequence[bytes]) -> Iterator[brand_pb2.AddReferenceImagesRequest]:
    for image in images:
        for start in range(0, max(len(image), 1), _PIECE_BYTES):
            end = start + _PIECE_BYTES
            piece = image[start:end]
            yield brand_pb2.AddReferenceImagesRequest(brand_id=brand_id, data=piece, last=end >= len(image))


def _brand(method: str, request: Message, reply: type[Message], *, repeatable: bool = True) -> Call[_types.Brand]:
    path = f"/atelier.v1.BrandService/{method}"
    return Call(path, request, reply, lambda message: read(_types.Brand, message.brand), repeatable)


def _model(method: str, request: Message, reply: type[Message]) -> Call[_types.ModelInfo]:
    path = f"/atelier.v1.ModelService/{method}"
    return Call(path, request, reply, lambda message: read(_types.ModelInfo, message.model), repeatable=False)
