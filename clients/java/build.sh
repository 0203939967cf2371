#!/bin/sh
# build.sh FOLDER: compiles into FOLDER, to be run by java -cp "FOLDER:$(cat FOLDER/classpath)" Generate. Needs a JDK, protoc
# and grpc-java with its plugin; JARS names the folder of jars, by default Debian's (libgrpc-java and libperfmark-java).
set -eu
here=$(cd "$(dirname "$0")" && pwd)
jars=${JARS:-/usr/share/java}
mkdir -p "$1" && cd "$1"
for name in common health scoring image_generation; do
  protoc -I "$here/../../protos" --java_out=. --grpc-java_out=. \
    --plugin=protoc-gen-grpc-java="$(command -v protoc-gen-grpc-java || command -v grpc_java_plugin)" "atelier/v1/$name.proto"
done
classpath=
for name in grpc protobuf guava failureaccess netty perfmark-api perfmark-impl jsr305 geronimo-annotation; do
  for jar in "$jars/$name"*.jar; do
    [ -e "$jar" ] && classpath="$classpath$jar:"
  done
done
printf %s "$classpath" > classpath
javac -nowarn -cp "$classpath" -d . atelier/v1/*.java "$here/Generate.java"
