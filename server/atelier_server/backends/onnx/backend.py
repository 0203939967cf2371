"""The onnx backend: one or more graphs of a version's folder, each chosen by the names of the inputs that come."""

import logging
import math
import time
from collections import Counter

import numpy as np

from atelier_server.backends.base import (
    Backend,
    BackendStatus,
    BatchTimes,
    Job,
    JobFailed,
    JobTensors,
    ModelSpec,
    Tensor,
    TensorTask,
    device_failed,
)
from atelier_server.backends.onnx.batcher import Batcher, Item
from atelier_server.backends.onnx.graph import Graph, choose_providers
from atelier_server.backends.onnx.queue_policy import BatchPolicy
from atelier_server.backends.onnx.warm_up import warm_up_requests
from atelier_server.errors import AtelierError, DeadlineExceeded, FailedPrecondition, InvalidArgument, Unavailable
from atelier_server.telemetry.histogram import BATCH_ROWS, STEP_SECONDS, Histogram
from atelier_server.telemetry.origin import working_for

LOG = logging.getLogger(__name__)

Waiting = tuple[Job, TensorTask, Graph]


def create(spec: ModelSpec) -> Backend:
    """Makes the backend of a model."""
    return OnnxBackend(spec)


class OnnxBackend(Backend):
    """Serves every `*.onnx` file of the version's folder. A tensor job runs the graph that takes its inputs."""

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__(spec)
        self._graphs: list[Graph] = []
        self._policy = BatchPolicy.of(spec.config)
        self._batcher: Batcher[Waiting] = Batcher(self._policy)
        self._counters: Counter[str] = Counter(inferences_total=0, executions_total=0, rows_total=0)
        self._step_seconds, self._batch_rows = Histogram(STEP_SECONDS), Histogram(BATCH_ROWS)

    def load(self) -> None:
        """Opens the graphs and runs each once."""
        files = sorted(self.spec.folder.glob("*.onnx"))
        if not files:
            raise FailedPrecondition(
                f"{self.spec.name} has no .onnx file; fetch it by `atelier-server models fetch {self.spec.name}`",
                reason="WEIGHTS_MISSING",
            )
        providers = choose_providers(self.spec.device)
        self._graphs = [Graph(path, providers, self.spec.threads or 1) for path in files]
        for graph in self._graphs:
            graph.run(_zeros(graph, self.spec))
        for name, inputs in warm_up_requests(self.spec):
            self._warm_up(name, inputs)

    def _warm_up(self, name: str, inputs: dict[str, Tensor]) -> None:
        try:
            graph = self._graph_for(TensorTask(name, inputs))
            graph.check(inputs)
            graph.run(inputs)
        except Exception as error:  # onnxruntime raises a class of its own for every status
            told = error.message if isinstance(error, AtelierError) else str(error)[:200]
            message = f"the warm-up request {name!r} of {self.spec.name} failed: {told}"
            raise FailedPrecondition(message, reason="BAD_WARM_UP", field="model_warmup") from error

    def submit(self, job: Job) -> None:
        """Checks the tensors and lets them wait for a batch."""
        task = job.task
        if not isinstance(task, TensorTask):
            raise InvalidArgument(f"{self.spec.name} makes no pictures", field="model_name")
        graph = self._graph_for(task)
        graph.check(task.inputs)
        rows = _common_rows(task) if self._policy.max_rows > 1 else 1
        shapes = tuple((name, task.inputs[name].shape[1:]) for name in sorted(graph.inputs))
        expires = job.arrived + task.timeout_seconds if task.timeout_seconds > 0 else math.inf
        key = (graph.name, shapes) if self._policy.max_rows > 1 and graph.has_rows else job.job_id
        level = self._policy.level(task.priority)
        times_out = job.arrived + self._policy.of_level(level).patience(task.timeout_seconds)
        self._batcher.add(Item(job.job_id, key, rows, time.monotonic(), expires, (job, task, graph), times_out, level))

    def abort(self, job_id: str) -> None:
        """Takes the job out of the queue."""
        self._batcher.remove(job_id)

    def step(self) -> float | None:
        """Runs one batch, if one should leave."""
        now = time.monotonic()
        for item in self._batcher.expired(now):
            item.payload[0].publish(JobFailed(_waited_too_long(item, now)))
        batch = [item.payload for item in self._batcher.take(now)]
        if batch:
            self._run(batch)
        return self._batcher.next_event(time.monotonic())

    def status(self) -> BackendStatus:
        """Load, and rows a batch."""
        gpu = bool(self._graphs) and self._graphs[0].provider.startswith("CUDA")
        return BackendStatus(
            device="cuda" if gpu else "cpu",
            dtype=str(next(iter(self._graphs[0].inputs.values())).dtype) if self._graphs else "",
            waiting=len(self._batcher),
            running=0,
            facts={"max_batch_size": float(self._policy.max_rows)},
            counters=dict(self._counters),
            histograms={"step_seconds": self._step_seconds.spread(), "batch_rows": self._batch_rows.spread()},
        )

    def _graph_for(self, task: TensorTask) -> Graph:
        given = set(task.inputs)
        for graph in self._graphs:
            if given == set(graph.inputs) and set(task.outputs) <= set(graph.outputs):
                return graph
        takes = " or ".join(str(sorted(graph.inputs)) for graph in self._graphs)
        raise InvalidArgument(
            f"no graph of {self.spec.name} takes {sorted(given)} and gives {sorted(task.outputs)}; inputs are {takes}",
            field="inputs",
        )

    def _run(self, batch: list[Waiting]) -> None:
        graph = batch[0][2]
        tasks = [task for _, task, _ in batch]
        began, clock = time.monotonic(), _Laps()
        try:
            inputs, input_ns = _joined(graph, tasks), clock.lap()
            results, infer_ns = graph.run(inputs), clock.lap()
            outputs, output_ns = _split(results, tasks), clock.lap()
        except Exception as error:  # onnxruntime raises a class of its own for every status
            self._failed(batch, error)
            return
        self._counters["executions_total"] += 1
        self._counters["inferences_total"] += len(batch)
        rows = sum(_rows(task) for task in tasks) if self.spec.config.get("max_batch_size") else 1
        self._step_seconds.observe(infer_ns / 1e9)
        self._batch_rows.observe(rows)
        for index, ((job, task, _), tensors) in enumerate(zip(batch, outputs, strict=True)):
            wanted = task.outputs or tuple(tensors)
            times = BatchTimes(
                round((began - job.arrived) * 1e9), input_ns, infer_ns, output_ns, rows, leads=index == 0
            )
            job.publish(JobTensors({name: tensors[name] for name in wanted}, times))

    def _failed(self, batch: list[Waiting], error: Exception) -> None:
        """One job's values may have spoilt the batch: each is tried alone before it fails."""
        if device_failed(error):
            raise error
        if len(batch) > 1:
            for waiting in batch:
                self._run([waiting])
            return
        with working_for(batch[0][1].origin):
            LOG.warning("graph %s failed: %s", batch[0][2].name, error)
        batch[0][0].publish(JobFailed(InvalidArgument("the model cannot compute these values", field="inputs")))


def _waited_too_long(item: Item[Waiting], now: float) -> AtelierError:
    if item.expires <= now:
        return DeadlineExceeded("the deadline passed while the call waited")
    return Unavailable(
        "the call waited longer than this model's queue policy allows; try again later",
        reason="QUEUE_TIMEOUT",
        retry_after_seconds=1.0,
    )


class _Laps:
    """A stop watch."""

    def __init__(self) -> None:
        self._last = time.perf_counter_ns()

    def lap(self) -> int:
        """Nanoseconds since the last lap."""
        last, self._last = self._last, time.perf_counter_ns()
        return self._last - last


def _rows(task: TensorTask) -> int:
    """The size on the batch axis; 1 where there is none."""
    shape = next(iter(task.inputs.values())).shape
    return shape[0] if shape else 1


def _common_rows(task: TensorTask) -> int:
    """The size on the batch axis, which others' rows follow on: it must be the same for every input."""
    sizes = {name: tensor.shape[:1] for name, tensor in task.inputs.items()}
    for name, size in sizes.items():
        if not size or size != next(iter(sizes.values())):
            raise InvalidArgument(f"input {name} has another batch size than the others, or none", field=name)
    return _rows(task)


def _joined(graph: Graph, tasks: list[TensorTask]) -> dict[str, Tensor]:
    if len(tasks) == 1:
        return dict(tasks[0].inputs)
    return {name: np.concatenate([task.inputs[name] for task in tasks]) for name in graph.inputs}


def _split(outputs: dict[str, Tensor], tasks: list[TensorTask]) -> list[dict[str, Tensor]]:
    if len(tasks) == 1:
        return [outputs]
    *ends, rows = np.cumsum([_rows(task) for task in tasks])
    for name, tensor in outputs.items():
        if tensor.shape[:1] != (rows,):
            raise ValueError(f"output {name} has no row for every input, so it belongs to nobody alone")
    pieces = {name: np.split(tensor, ends) for name, tensor in outputs.items()}
    return [{name: pieces[name][index] for name in outputs} for index in range(len(tasks))]


def _zeros(graph: Graph, spec: ModelSpec) -> dict[str, Tensor]:
    """Zeros of the declared shapes; open sizes are one, or what `parameters { warm_up_size }` says for pictures."""
    side = int(spec.parameters.get("warm_up_size", "1"))
    return {
        info.name: np.zeros([size or (side if axis >= 2 else 1) for axis, size in enumerate(info.shape)], info.dtype)
        for info in graph.inputs.values()
    }
