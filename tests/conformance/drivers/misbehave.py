"""Makes every mistake a client can, as often as told, and tells what the server answered to each."""

import sys

import grpc
import numpy as np
from kit import DOUBLED, arguments, report
from tritonclient.grpc import service_pb2 as pb
from tritonclient.grpc import service_pb2_grpc as rpc
from tritonclient.utils import shared_memory

ROUNDS = int(sys.argv[3])
REGION_BYTES = 64


def request():
    made = pb.ModelInferRequest(model_name="double", raw_input_contents=[DOUBLED.tobytes()])
    made.inputs.add(name="x", datatype="FP32", shape=[1, 4])
    return made


def wrong_shape():
    made = request()
    made.inputs[0].shape[:] = [1, 2, 2]
    return made


def wrong_dtype():
    made = request()
    made.inputs[0].datatype = "INT64"
    return made


def missing_input():
    made = request()
    del made.inputs[:], made.raw_input_contents[:]
    return made


def unknown_model():
    made = request()
    made.model_name = "nobody"
    return made


def unknown_version():
    made = request()
    made.model_version = "77"
    return made


def raw_and_typed():
    made = request()
    made.inputs[0].contents.fp32_contents.extend(DOUBLED.ravel())
    return made


def shape_overflow():
    made = request()
    made.inputs[0].shape[:] = [2**32] * 100_000
    return made


def unregistered_region():
    return in_region("nowhere", 0)


def past_the_end():
    return in_region("region", REGION_BYTES - 8)


def in_region(region, offset):
    made = request()
    del made.raw_input_contents[:]
    parameters = made.inputs[0].parameters
    parameters["shared_memory_region"].string_param = region
    parameters["shared_memory_byte_size"].int64_param = 16
    parameters["shared_memory_offset"].int64_param = offset
    return made


def too_large_an_element():
    made = pb.ModelInferRequest(model_name="starter", raw_input_contents=[b"\xff\xff\xff\x7fa"])
    made.inputs.add(name="prompt", datatype="BYTES", shape=[1])
    return made


FAULTS = [
    wrong_shape,
    wrong_dtype,
    missing_input,
    unknown_model,
    unknown_version,
    raw_and_typed,
    shape_overflow,
    unregistered_region,
    past_the_end,
    too_large_an_element,
]


def main():
    address, folder = arguments()
    stub = rpc.GRPCInferenceServiceStub(grpc.insecure_channel(address))
    key = f"/atelier-misbehaving-{ROUNDS}"
    handle = shared_memory.create_shared_memory_region("region", key, REGION_BYTES)
    answers = {}
    try:
        stub.SystemSharedMemoryRegister(
            pb.SystemSharedMemoryRegisterRequest(name="region", key=key, byte_size=REGION_BYTES)
        )
        for _ in range(ROUNDS):
            for fault in FAULTS:
                try:
                    stub.ModelInfer(fault(), timeout=30)
                except grpc.RpcError as error:
                    answers[fault.__name__] = [error.code().name, error.details()]
        stub.SystemSharedMemoryUnregister(pb.SystemSharedMemoryUnregisterRequest(name="region"))
    finally:
        shared_memory.destroy_shared_memory_region(handle)
    good = stub.ModelInfer(request(), timeout=30)
    report(folder, answers, doubled=np.frombuffer(good.raw_output_contents[0], np.float32))


main()
