#!/bin/sh
# build.sh FOLDER: makes FOLDER/generate. Needs go, protoc, protoc-gen-go and protoc-gen-go-grpc. google.golang.org/grpc comes by
# `go get`, or with GO111MODULE=off from the folders of GOPATH.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$1/src/example.com/atelier/v1" "$1/src/example.com/generate"
cd "$1"
package=example.com/atelier/v1
mapping=
for name in common health scoring image_generation; do
  mapping="$mapping,Matelier/v1/$name.proto=$package"
done
for name in common health scoring image_generation; do
  protoc -I "$here/../../protos" --go_out="module=$package$mapping:src/$package" \
    --go-grpc_out="module=$package$mapping:src/$package" "atelier/v1/$name.proto"
done
cp "$here/main.go" src/example.com/generate/
if [ "${GO111MODULE:-}" = off ]; then
  GOPATH="$PWD:$GOPATH" go build -o generate example.com/generate
else
  cd src/example.com
  [ -f go.mod ] || go mod init example.com
  go get google.golang.org/grpc google.golang.org/protobuf
  go build -o ../../generate ./generate
fi
