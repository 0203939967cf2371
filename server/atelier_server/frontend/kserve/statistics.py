"""Inference statistics in the protocol's messages."""

from collections.abc import Iterable

from atelier_server._generated.atelier.kserve import grpc_service_pb2 as pb
from atelier_server.executor.base import Executor
from atelier_server.repository.state import ModelState
from atelier_server.telemetry.inference import (
    BatchNumbers,
    Duration,
    InferenceStatistics,
    ModelNumbers,
    ResponseNumbers,
)


def statistics_response(
    states: Iterable[ModelState[Executor]], version: str, statistics: InferenceStatistics
) -> pb.ModelStatisticsResponse:
    """The numbers of every loaded version of the models, or of one version."""
    response = pb.ModelStatisticsResponse()
    for state in states:
        for one in [version] if version else state.versions:
            response.model_stats.append(_model(state, one, statistics.of(state.name, one)))
    return response


def _model(state: ModelState[Executor], version: str, numbers: ModelNumbers) -> pb.ModelStatistics:
    return pb.ModelStatistics(
        name=state.name,
        version=version,
        last_inference=numbers.last_ms,
        inference_count=numbers.inferences,
        execution_count=numbers.executions,
        inference_stats=pb.InferStatistics(
            success=_duration(numbers.success),
            fail=_duration(numbers.fail),
            queue=_duration(numbers.queue),
            compute_input=_duration(numbers.compute_input),
            compute_infer=_duration(numbers.compute_infer),
            compute_output=_duration(numbers.compute_output),
            cache_hit=_duration(numbers.cache_hit),
            cache_miss=_duration(numbers.cache_miss),
        ),
        batch_stats=[_batch(size, numbers.batches[size]) for size in sorted(numbers.batches)],
        memory_usage=_memory(state, version),
        response_stats={str(index): _response(one) for index, one in numbers.responses.items()},
    )


def _memory(state: ModelState[Executor], version: str) -> list[pb.MemoryUsage]:
    """What the version's processes hold: one entry for the main memory, one for every GPU."""
    main, devices = 0, dict[int, int]()
    for instance in state.instances:
        if instance.spec.version != version:
            continue
        status = instance.status()
        main += status.memory_bytes
        if status.device_memory_bytes:
            number = int(status.device.partition(":")[2] or 0)
            devices[number] = devices.get(number, 0) + status.device_memory_bytes
    usage = [pb.MemoryUsage(type="CPU", id=0, byte_size=main)] if main else []
    return usage + [pb.MemoryUsage(type="GPU", id=number, byte_size=size) for number, size in sorted(devices.items())]


def _batch(size: int, numbers: BatchNumbers) -> pb.InferBatchStatistics:
    return pb.InferBatchStatistics(
        batch_size=size,
        compute_input=_duration(numbers.compute_input),
        compute_infer=_duration(numbers.compute_infer),
        compute_output=_duration(numbers.compute_output),
    )


def _response(numbers: ResponseNumbers) -> pb.InferResponseStatistics:
    return pb.InferResponseStatistics(
        success=_duration(numbers.success),
        fail=_duration(numbers.fail),
        empty_response=_duration(numbers.empty),
        cancel=_duration(numbers.cancel),
    )


def _duration(duration: Duration) -> pb.StatisticDuration:
    return pb.StatisticDuration(count=duration.count, ns=duration.ns)
