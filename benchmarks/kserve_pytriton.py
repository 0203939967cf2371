"""Serves an ONNX graph through PyTriton, the real Triton server. For bench_kserve.py, in PyTriton's own environment."""

import sys

import numpy as np
import onnxruntime
from pytriton.decorators import batch
from pytriton.model_config import DynamicBatcher, ModelConfig, Tensor
from pytriton.triton import Triton, TritonConfig


def main() -> None:
    """Arguments: graph, model's name, gRPC port, threads of onnxruntime, instances."""
    graph, name, port, threads, instances = sys.argv[1], sys.argv[2], *map(int, sys.argv[3:6])
    sessions = [session_of(graph, threads) for _ in range(instances)]
    taken, given = sessions[0].get_inputs()[0], sessions[0].get_outputs()[0]

    def serving(session: onnxruntime.InferenceSession) -> object:
        @batch
        def infer(**inputs: np.ndarray) -> list[np.ndarray]:
            return session.run([given.name], inputs)

        return infer

    config = TritonConfig(grpc_port=port, http_port=port + 1, metrics_port=port + 2, log_verbose=0)
    with Triton(config=config) as triton:
        triton.bind(
            model_name=name,
            infer_func=[serving(session) for session in sessions],
            inputs=[Tensor(name=taken.name, dtype=np.float32, shape=taken.shape[1:])],
            outputs=[Tensor(name=given.name, dtype=np.float32, shape=given.shape[1:])],
            config=ModelConfig(max_batch_size=32, batcher=DynamicBatcher(max_queue_delay_microseconds=0)),
        )
        triton.serve()


def session_of(graph: str, threads: int) -> onnxruntime.InferenceSession:
    """A session with as many threads as ours."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])


main()
