#!/bin/sh
# build.sh FOLDER: makes FOLDER/generate. Needs g++, protoc, grpc_cpp_plugin, libgrpc++ and pkg-config.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$1" && cd "$1"
protos="common health scoring image_generation"
for name in $protos; do
  protoc -I "$here/../../protos" --cpp_out=. --grpc_out=. --plugin=protoc-gen-grpc="$(command -v grpc_cpp_plugin)" \
    "atelier/v1/$name.proto"
done
# shellcheck disable=SC2046
g++ -std=c++17 -I. "$here/generate.cc" atelier/v1/*.pb.cc $(pkg-config --cflags --libs grpc++ protobuf) -o generate
