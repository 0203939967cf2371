"""Server reflection v1 and v1alpha, for grpcurl, buf curl and their like.

grpcio-reflection knows v1alpha only. The two versions differ in nothing but the package's name, so v1 is the same
servicer under the other name, with a renamed descriptor so that clients can also describe it.
"""

from collections.abc import Sequence

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool, text_format
from grpc_reflection.v1alpha import reflection, reflection_pb2, reflection_pb2_grpc

V1ALPHA = str(reflection.SERVICE_NAME)
V1 = V1ALPHA.replace("v1alpha", "v1")


def add_reflection(server: grpc.aio.Server, services: Sequence[str]) -> None:
    """Serves the descriptors of `services` (full names), and of the reflection services themselves."""
    _describe_v1()
    servicer = reflection.aio.ReflectionServicer([*services, V1, V1ALPHA])
    reflection_pb2_grpc.add_ServerReflectionServicer_to_server(servicer, server)
    method = grpc.stream_stream_rpc_method_handler(
        servicer.ServerReflectionInfo,
        request_deserializer=reflection_pb2.ServerReflectionRequest.FromString,
        response_serializer=reflection_pb2.ServerReflectionResponse.SerializeToString,
    )
    handler = grpc.method_handlers_generic_handler(V1, {"ServerReflectionInfo": method})
    server.add_generic_rpc_handlers((handler,))


def _describe_v1() -> None:
    pool = descriptor_pool.Default()
    try:
        pool.FindServiceByName(V1)
    except KeyError:
        file = descriptor_pb2.FileDescriptorProto()
        reflection_pb2.DESCRIPTOR.CopyToProto(file)
        renamed = text_format.MessageToString(file).replace("v1alpha", "v1")
        pool.Add(text_format.Parse(renamed, descriptor_pb2.FileDescriptorProto()))
