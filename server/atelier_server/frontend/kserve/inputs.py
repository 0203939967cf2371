"""Reads the input tensors of a request: from raw bytes, typed fields or shared memory, checked against the signature.

Messages follow Triton's, and name the input.
"""

from collections.abc import Iterator, Mapping

from atelier_server._generated.atelier.kserve import grpc_service_pb2 as pb
from atelier_server.errors import AtelierError, InvalidArgument
from atelier_server.frontend.kserve.parameters import whole_number, word
from atelier_server.frontend.kserve.shared_memory import SharedMemory
from atelier_server.frontend.kserve.signature import Signature, TensorSpec
from atelier_server.frontend.kserve.tensors import BF16, BYTES, DTYPES, Array, byte_size, from_contents, from_raw

InputTensor = pb.ModelInferRequest.InferInputTensor
REGION, SIZE, OFFSET = "shared_memory_region", "shared_memory_byte_size", "shared_memory_offset"


def read_inputs(request: pb.ModelInferRequest, signature: Signature, memory: SharedMemory) -> dict[str, Array]:
    """The arrays by name.

    Raises:
        InvalidArgument: A tensor is not as documented, or missing.
        NotFound: A tensor lies in a region that is not registered.
    """
    model, raw = request.model_name, iter(request.raw_input_contents)
    arrays: dict[str, Array] = {}
    for tensor in request.inputs:
        if tensor.name in arrays:
            raise InvalidArgument(f"input '{tensor.name}' already exists in request", field=tensor.name)
        _check(tensor, signature, model)
        if REGION in tensor.parameters:
            arrays[tensor.name] = _from_region(tensor, memory)
        elif request.raw_input_contents:
            arrays[tensor.name] = _from_next_raw(tensor, raw, model)
        else:
            arrays[tensor.name] = from_contents(tensor.name, tensor.datatype, tensor.shape, tensor.contents)
    if next(raw, None) is not None:
        raise InvalidArgument(
            f"raw_input_contents has {len(request.raw_input_contents)} entries, more than inputs outside shared memory",
            field="raw_input_contents",
        )
    _check_complete(arrays, signature, model)
    _check_batch(arrays, signature, model)
    return arrays


def _check(tensor: InputTensor, signature: Signature, model: str) -> None:
    name = tensor.name
    if tensor.datatype not in DTYPES and tensor.datatype not in (BYTES, BF16):
        raise InvalidArgument(f"inference input '{name}' has the unknown data-type '{tensor.datatype}'", field=name)
    if not signature.inputs:
        byte_size(name, tensor.datatype, tensor.shape)
        return
    spec = signature.inputs.get(name)
    if spec is None:
        known = ", ".join(signature.inputs)
        raise InvalidArgument(f"unexpected inference input '{name}' for model '{model}'; it takes {known}", field=name)
    if tensor.datatype != spec.datatype:
        raise InvalidArgument(
            f"inference input '{name}' data-type is '{tensor.datatype}', but model '{model}' expects '{spec.datatype}'",
            field=name,
        )
    byte_size(name, tensor.datatype, tensor.shape)
    _check_shape(tensor, spec, signature, model)


def _check_shape(tensor: InputTensor, spec: TensorSpec, signature: Signature, model: str) -> None:
    shape, most = list(tensor.shape), signature.max_batch_size
    if not spec.fits(shape):
        hint = "; the first size is the batch" if most else ""
        raise InvalidArgument(
            f"unexpected shape for input '{spec.name}' for model '{model}'. Expected {list(spec.shape)}, got {shape}"
            f"{hint}",
            field=spec.name,
        )


def _from_next_raw(tensor: InputTensor, raw: Iterator[bytes], model: str) -> Array:
    if tensor.HasField("contents"):
        raise InvalidArgument(
            f"contents field must not be specified when using raw_input_contents for '{tensor.name}' for model "
            f"'{model}'",
            field=tensor.name,
        )
    data = next(raw, None)
    if data is None:
        raise InvalidArgument(
            f"unable to find data for input tensor '{tensor.name}' for model '{model}' in request", field=tensor.name
        )
    return from_raw(tensor.name, tensor.datatype, tensor.shape, data)


def _from_region(tensor: InputTensor, memory: SharedMemory) -> Array:
    name, parameters = tensor.name, tensor.parameters
    if tensor.HasField("contents"):
        raise InvalidArgument(f"input '{name}' has contents and lies in shared memory; give one", field=name)
    expected = byte_size(name, tensor.datatype, tensor.shape)
    try:
        region, size, offset = (
            word(parameters, REGION),
            whole_number(parameters, SIZE),
            whole_number(parameters, OFFSET),
        )
        if expected is not None and size != expected:
            raise InvalidArgument(f"input byte size mismatch. Expected {expected}, got {size}")
        data = memory.read(region, offset, size)
    except AtelierError as error:
        raise type(error)(f"input '{name}': {error.message}", field=name) from None
    return from_raw(name, tensor.datatype, tensor.shape, data)


def _check_complete(arrays: Mapping[str, Array], signature: Signature, model: str) -> None:
    missing = [name for name, spec in signature.inputs.items() if not spec.optional and name not in arrays]
    if missing:
        raise InvalidArgument(
            f"expected {len(signature.inputs)} inputs but got {len(arrays)} inputs for model '{model}'. Got input(s) "
            f"{list(arrays)}, but missing required input(s) {missing}. Please provide all required input(s).",
            field=missing[0],
        )
    if not arrays:
        raise InvalidArgument(f"the request has no inputs for model '{model}'", field="inputs")


def _check_batch(arrays: Mapping[str, Array], signature: Signature, model: str) -> None:
    """The first size is the same for all, and within bounds, also of inputs that the model does not document."""
    most, sizes = signature.max_batch_size, {name: array.shape[:1] for name, array in arrays.items()}
    first = next(iter(sizes.values()))
    for name, size in sizes.items() if most else ():
        if not size or not 1 <= size[0] <= most:
            raise InvalidArgument(
                f"inference request batch-size must be 1 to {most} for '{model}'; input '{name}' has "
                f"{size[0] if size else 'none'}",
                field=name,
            )
        if size != first:
            raise InvalidArgument(
                f"input '{name}' batch size does not match other inputs for '{model}': {size[0]} and {first[0]}",
                field=name,
            )
