"""Answers inference requests: tensors go to an instance of their model, picture requests through the pipeline."""

import asyncio
import time
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from dataclasses import dataclass, replace
from uuid import uuid4

from atelier_server import types
from atelier_server._generated.atelier.kserve import grpc_service_pb2 as pb
from atelier_server.backends.base import JobTensors, TensorTask
from atelier_server.core import Core
from atelier_server.errors import DeadlineExceeded
from atelier_server.executor.base import Executor
from atelier_server.frontend.access import calling
from atelier_server.frontend.kserve.inputs import read_inputs
from atelier_server.frontend.kserve.outputs import OutputWish, add_outputs, wished_outputs
from atelier_server.frontend.kserve.parameters import flag, parameter_of, tensor_priority, timeout_seconds
from atelier_server.frontend.kserve.pictures import PictureReader, picture_request
from atelier_server.frontend.kserve.response_cache import ResponseCache, request_key
from atelier_server.frontend.kserve.shared_memory import ClientsMemory
from atelier_server.frontend.kserve.signature import Signature
from atelier_server.frontend.kserve.targets import Targets
from atelier_server.frontend.kserve.tensors import BYTES, Array, bytes_array, to_raw
from atelier_server.pipeline.caller import Caller
from atelier_server.pipeline.failover import done_again
from atelier_server.repository.repository import ModelEntry
from atelier_server.security.scopes import Scope
from atelier_server.telemetry.inference import RequestRecord

FINAL, EMPTY_FINAL = "triton_final_response", "triton_enable_empty_final_response"
PREVIEW = "PREVIEW"
QUEUE_STAGES, INPUT_STAGES, OUTPUT_STAGES = ("queue",), ("encode_text",), ("resize", "encode_image")
"""The pipeline's stages that Triton's statistics call queue, compute_input and compute_output; the rest computes."""

Responses = AsyncGenerator[pb.ModelInferResponse, None]


@dataclass(frozen=True, slots=True)
class _Asked:
    """A request that passed its checks."""

    request: pb.ModelInferRequest
    entry: ModelEntry
    signature: Signature
    version: str
    inputs: dict[str, Array]
    wishes: tuple[OutputWish, ...]
    caller: Caller

    def response(self) -> pb.ModelInferResponse:
        """A reply without content."""
        return pb.ModelInferResponse(model_name=self.request.model_name, model_version=self.version, id=self.request.id)


class Inference:
    """Answers the requests of ModelInfer and ModelStreamInfer."""

    def __init__(self, core: Core, targets: Targets, memory: ClientsMemory) -> None:
        self._core = core
        self._targets = targets
        self._memory = memory
        self._statistics = core.inference
        self._cache = ResponseCache()

    async def one(self, request: pb.ModelInferRequest, caller: Caller) -> pb.ModelInferResponse:
        """The only response of a request, or the last one of a picture's.

        Raises:
            AtelierError: In Triton's terms.
        """
        async with aclosing(self._answer(request, caller, streamed=False)) as responses:
            async for response in responses:
                last = response
        return last

    async def stream(self, request: pb.ModelInferRequest, caller: Caller) -> Responses:
        """Every response of a request; each tells in a parameter whether it is the last one.

        Raises:
            AtelierError: In Triton's terms.
        """
        async with aclosing(self._answer(request, caller, streamed=True)) as responses:
            async for response in responses:
                yield response

    async def _answer(self, request: pb.ModelInferRequest, caller: Caller, *, streamed: bool) -> Responses:
        asked = self._checked(request, caller)
        with self._statistics.follow(request.model_name, asked.version) as record:
            if not asked.signature.makes_pictures:
                response = await self._tensors(asked, record)
                if streamed:
                    response.parameters[FINAL].bool_param = True
                yield response
                return
            async with aclosing(self._pictures(asked, record, streamed=streamed)) as responses:
                async for response in responses:
                    if streamed:
                        record.responded(empty=not response.outputs)
                    yield response

    def _checked(self, request: pb.ModelInferRequest, caller: Caller) -> _Asked:
        target = self._targets.find(request.model_name, request.model_version)
        calling().require(Scope.GENERATE if target.signature.makes_pictures else Scope.SCORE)
        wishes = wished_outputs(request, target.signature)
        inputs = read_inputs(request, target.signature, self._memory.of(calling().name))
        patience = timeout_seconds(request.parameters)
        if patience is not None:
            left = caller.remaining_seconds()
            shortest = patience if left is None else min(patience, left)
            caller = replace(caller, deadline_seconds=shortest, arrived=time.monotonic())
        return _Asked(request, target.state.entry, target.signature, target.version, inputs, wishes, caller)

    async def _tensors(self, asked: _Asked, record: RequestRecord) -> pb.ModelInferResponse:
        response = asked.response()
        outputs = await self._outputs(asked, record)
        add_outputs(response, outputs, asked.wishes, asked.signature, self._memory.of(calling().name))
        return response

    async def _outputs(self, asked: _Asked, record: RequestRecord) -> Mapping[str, Array]:
        """Of a tensor model: kept ones where its configuration allows that, computed ones otherwise."""
        name, names = asked.request.model_name, tuple(wish.name for wish in asked.wishes)
        keeps, key = asked.entry.config is not None and asked.entry.config.response_cache.enable, b""
        if keeps:
            key = request_key(name, asked.version, asked.inputs, names)
            kept = self._cache.get(key, asked.entry)
            if kept is not None:
                record.cached()
                return kept
            record.missed_cache()
        instance = self._targets.instance(name, asked.version)
        priority = tensor_priority(asked.request.parameters)

        async def run(on: Executor) -> JobTensors:
            left = asked.caller.remaining_seconds() or 0.0
            return await on.run(TensorTask(uuid4().hex, asked.inputs, names, left, priority=priority))

        try:
            async with asyncio.timeout(asked.caller.remaining_seconds()):
                result = await done_again(self._core.registry, instance, run)
        except TimeoutError:
            raise DeadlineExceeded("the deadline passed before the model had answered") from None
        record.ran(result.times, next(iter(asked.inputs.values())).shape[0] if asked.signature.max_batch_size else 1)
        if keeps:
            self._cache.put(key, asked.entry, result.outputs)
        return result.outputs

    async def _pictures(self, asked: _Asked, record: RequestRecord, *, streamed: bool) -> Responses:
        request, cached = asked.request, self._targets.is_cached(asked.request.model_name)
        facts = self._targets.instance(request.model_name, asked.version).status().facts
        wanted = picture_request(request, asked.inputs, facts, cached=cached)
        reader, step = PictureReader(), 0
        with self._core.metrics.follow(asked.caller.remaining_seconds) as generation_record:
            generation = await self._core.pipeline.start(wanted, asked.caller)
            try:
                async with aclosing(generation.read()) as events:
                    async for numbered in events:
                        event = numbered.event
                        generation_record.observe(event)
                        reader.take(event)
                        if streamed and isinstance(event, types.Progress) and event.step not in (0, step):
                            step = event.step  # a heartbeat repeats the last one, or tells of none
                            yield _step_response(asked, event)
            finally:
                generation.cancel()
        _count(record, reader, cached)
        empty_last = streamed and flag(request.parameters, EMPTY_FINAL)
        response = await self._picture_response(asked, reader)
        if streamed:
            response.parameters[FINAL].bool_param = not empty_last
        yield response
        if empty_last:
            last = asked.response()
            last.parameters[FINAL].bool_param = True
            yield last

    async def _picture_response(self, asked: _Asked, reader: PictureReader) -> pb.ModelInferResponse:
        wished = frozenset(wish.name for wish in asked.wishes)
        arrays = await asyncio.get_running_loop().run_in_executor(self._core.pool, reader.outputs, wished)
        response = asked.response()
        response.model_version = reader.version or asked.version
        for name, value in reader.facts().items():
            response.parameters[name].CopyFrom(parameter_of(value))
        add_outputs(response, arrays, asked.wishes, asked.signature, self._memory.of(calling().name))
        return response


def _step_response(asked: _Asked, progress: types.Progress) -> pb.ModelInferResponse:
    response = asked.response()
    facts = {"step": progress.step, "total_steps": progress.total_steps, FINAL: False}
    for name, value in facts.items():
        response.parameters[name].CopyFrom(parameter_of(value))
    if progress.estimated_remaining_seconds is not None:
        response.parameters["estimated_remaining_seconds"].double_param = progress.estimated_remaining_seconds
    if progress.preview is not None:
        response.outputs.add(name=PREVIEW, datatype=BYTES, shape=[1])
        response.raw_output_contents.append(to_raw(bytes_array([progress.preview.data]), BYTES))
    return response


def _count(record: RequestRecord, reader: PictureReader, cached: bool) -> None:
    completed = reader.completed
    assert completed is not None
    if completed.cached:
        record.cached()
        return
    if cached:
        record.missed_cache()
    stages = completed.timings_ms
    sums = [
        round(1e6 * sum(stages.get(name, 0.0) for name in names))
        for names in (QUEUE_STAGES, INPUT_STAGES, OUTPUT_STAGES)
    ]
    queue, inputs, outputs = sums
    infer = round(1e6 * sum(stages.values())) - sum(sums)
    record.computed(queue=queue, inputs=inputs, infer=infer, outputs=outputs, rows=1, batch=1, leads=True)
