"""Serves any ONNX model through onnxruntime, with Triton's dynamic batching."""

from atelier_server.backends.onnx.backend import OnnxBackend, create

__all__ = ["OnnxBackend", "create"]
