"""Writes the output tensors of a reply: as raw bytes, into shared memory, or as the classes of the highest values."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from atelier_server._generated.atelier.kserve import grpc_service_pb2 as pb
from atelier_server.errors import AtelierError, InvalidArgument
from atelier_server.frontend.kserve.inputs import OFFSET, REGION, SIZE
from atelier_server.frontend.kserve.parameters import whole_number, word
from atelier_server.frontend.kserve.shared_memory import SharedMemory
from atelier_server.frontend.kserve.signature import Signature, TensorSpec
from atelier_server.frontend.kserve.tensors import BYTES, Array, bytes_array, datatype_of, to_raw

CLASSIFICATION = "classification"


@dataclass(frozen=True, slots=True)
class OutputWish:
    """An output that was asked for; `region` "": in the reply; `classes` 0: the tensor itself."""

    name: str
    region: str = ""
    offset: int = 0
    byte_size: int = 0
    classes: int = 0


def wished_outputs(request: pb.ModelInferRequest, signature: Signature) -> tuple[OutputWish, ...]:
    """The outputs asked for; none means all.

    Raises:
        InvalidArgument: The model has no such output, or it is asked for twice.
    """
    wishes: dict[str, OutputWish] = {}
    for output in request.outputs:
        name, parameters = output.name, output.parameters
        if signature.outputs and name not in signature.outputs:
            known = ", ".join(signature.outputs)
            raise InvalidArgument(
                f"unexpected inference output '{name}' for model '{request.model_name}'; it gives {known}", field=name
            )
        if name in wishes:
            raise InvalidArgument(f"output '{name}' already requested", field=name)
        try:
            wishes[name] = OutputWish(
                name,
                word(parameters, REGION) if REGION in parameters else "",
                whole_number(parameters, OFFSET),
                whole_number(parameters, SIZE),
                whole_number(parameters, CLASSIFICATION),
            )
        except InvalidArgument as error:
            raise InvalidArgument(f"output '{name}': {error.message}", field=name) from None
    return tuple(wishes.values())


def add_outputs(
    response: pb.ModelInferResponse,
    arrays: Mapping[str, Array],
    wishes: Sequence[OutputWish],
    signature: Signature,
    memory: SharedMemory,
) -> None:
    """Appends the outputs, all of `arrays` when there are no wishes. An output in shared memory leaves an empty entry.

    Raises:
        NotFound: A region is not registered.
        InvalidArgument: A region is too small, or an output has no classes.
    """
    for wish in wishes or [OutputWish(name) for name in arrays]:
        array, spec = arrays[wish.name], signature.outputs.get(wish.name)
        datatype = spec.datatype if spec else datatype_of(array)
        if wish.classes:
            array, datatype = _classified(wish, array, signature, spec), BYTES
        response.outputs.add(name=wish.name, datatype=datatype, shape=array.shape)
        data = to_raw(array, datatype)
        if wish.region:
            _write(wish, data, memory)
            data = b""
        response.raw_output_contents.append(data)


def _write(wish: OutputWish, data: bytes, memory: SharedMemory) -> None:
    if len(data) > wish.byte_size:
        raise InvalidArgument(
            f"shared memory size specified with the request for output '{wish.name}' ({wish.byte_size} bytes) should "
            f"be at least {len(data)} bytes to hold the results",
            field=wish.name,
        )
    try:
        memory.write(wish.region, wish.offset, data)
    except AtelierError as error:
        raise type(error)(f"output '{wish.name}': {error.message}", field=wish.name) from None


def _classified(wish: OutputWish, array: Array, signature: Signature, spec: TensorSpec | None) -> Array:
    """BYTES [classes], or [batch, classes]: "value:index" and ":label" where the model has labels, highest first."""
    if array.dtype.kind not in "iuf":
        raise InvalidArgument(f"output '{wish.name}' holds no values to choose the highest of", field=wish.name)
    rows = array.reshape(array.shape[0], -1) if signature.max_batch_size else array.reshape(1, -1)
    labels = spec.labels if spec else ()
    best = np.argsort(-rows.astype(np.float64), axis=1, kind="stable")[:, : wish.classes]
    texts = [
        [_class(row[index], int(index), labels) for index in chosen] for row, chosen in zip(rows, best, strict=True)
    ]
    classified = bytes_array([text for row in texts for text in row])
    return classified.reshape(best.shape) if signature.max_batch_size else classified


def _class(value: float, index: int, labels: Sequence[str]) -> bytes:
    label = f":{labels[index]}" if index < len(labels) else ""
    return f"{value:f}:{index}{label}".encode()
