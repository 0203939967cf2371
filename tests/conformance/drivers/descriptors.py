"""Tells every message, field, enum and method of the client's own protocol files."""

import json

from kit import arguments
from tritonclient.grpc import model_config_pb2, service_pb2
from wire import described


def main():
    _, folder = arguments()
    (folder / "wire.json").write_text(json.dumps(described(service_pb2.DESCRIPTOR, model_config_pb2.DESCRIPTOR)))


main()
