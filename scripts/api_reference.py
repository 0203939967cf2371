"""Writes docs/reference/api.md from the comments of protos/. Run it through `make reference`, which pins the compiler.

    python scripts/api_reference.py           writes the page
    python scripts/api_reference.py --check   exits with 1 when the committed page differs

It ends with an error that names every service, RPC, message, field, enum and value of atelier.v1 without a comment.
"""

import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path

from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    EnumDescriptorProto,
    FieldDescriptorProto,
    FileDescriptorProto,
    FileDescriptorSet,
    MethodDescriptorProto,
)
from grpc_tools import protoc
from pages import table, write_or_compare

ROOT = Path(__file__).resolve().parent.parent
PROTOS = ROOT / "protos"
ORDER = ("image_generation", "scoring", "health", "brand", "model", "common")
KSERVE = "atelier/kserve/grpc_service.proto"
# Numbers of fields in descriptor.proto: the steps of a source path.
FILE_MESSAGE, FILE_ENUM, FILE_SERVICE, IN_SERVICE_METHOD, IN_MESSAGE_FIELD, IN_ENUM_VALUE = 4, 5, 6, 2, 2, 2
HEADER = """# API reference

<!-- Written by `make reference` from the comments in protos/; change those. -->

Every service, message and field of [atelier.v1](../../protos/atelier/v1). A field whose type begins with `optional`
tells unset from its zero; any other may be left at its zero, and then has the default that its line names. Numbers
are those on the wire. [Calling it](../01-calling.md) tells what fields do together, [Errors](errors.md) what fails how.
"""


@dataclass
class Source:
    """A .proto file and the comments before its parts, by their source path."""

    file: FileDescriptorProto
    comments: dict[tuple[int, ...], str] = field(default_factory=dict)

    def comment(self, *path: int) -> str:
        """What stands before the part at `path`, on one line; empty without a comment."""
        return " ".join(self.comments.get(path, "").split())


def sources() -> dict[str, Source]:
    """Every public file by its name without folder and ending, and KServe's services."""
    names = [f"atelier/v1/{name}.proto" for name in ORDER]
    found = {path.stem for path in (PROTOS / "atelier" / "v1").glob("*.proto")}
    if found != set(ORDER):
        sys.exit(f"scripts/api_reference.py does not know where to put {sorted(found ^ set(ORDER))}")
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "set.binpb"
        arguments = ["protoc", f"-I{PROTOS}", f"-I{files('grpc_tools') / '_proto'}", "--include_source_info"]
        if protoc.main([*arguments, f"--descriptor_set_out={out}", *names, KSERVE]) != 0:
            sys.exit("protoc failed")
        described = FileDescriptorSet.FromString(out.read_bytes())
    made = {}
    for file in described.file:
        comments = {tuple(one.path): one.leading_comments for one in file.source_code_info.location}
        made[Path(file.name).stem] = Source(file, comments)
    return made


def type_of(part: FieldDescriptorProto, inside: DescriptorProto) -> str:
    """A field's type as a reader of .proto files writes it; messages and enums of ours are links."""
    if part.type not in (FieldDescriptorProto.TYPE_MESSAGE, FieldDescriptorProto.TYPE_ENUM):
        name = FieldDescriptorProto.Type.Name(part.type).removeprefix("TYPE_").lower()
    else:
        name = linked(part.type_name)
    entry = next((one for one in inside.nested_type if part.type_name.endswith(f".{inside.name}.{one.name}")), None)
    if entry is not None and entry.options.map_entry:
        key, value = entry.field
        return f"map<{type_of(key, inside)}, {type_of(value, inside)}>"
    if part.label == FieldDescriptorProto.LABEL_REPEATED:
        return f"repeated {name}"
    if part.proto3_optional:
        return f"optional {name}"
    return f"{name}, one of {inside.oneof_decl[part.oneof_index].name}" if part.HasField("oneof_index") else name


def linked(full_name: str) -> str:
    """A type's name; a link to its place on the page where it is ours."""
    package, _, name = full_name.strip(".").rpartition(".")
    return f"[{name}](#{name.lower()})" if package == "atelier.v1" else f"{package}.{name}"


def method_row(source: Source, method: MethodDescriptorProto, service: int, number: int) -> tuple[str, ...]:
    """An RPC: its name, what it takes and gives, what it does."""
    takes = ("stream " if method.client_streaming else "") + linked(method.input_type)
    gives = ("stream " if method.server_streaming else "") + linked(method.output_type)
    text = source.comment(FILE_SERVICE, service, IN_SERVICE_METHOD, number)
    return f"`{method.name}`", takes.replace("inference.", ""), gives.replace("inference.", ""), text


def services(source: Source) -> Iterator[str]:
    """The services of a file."""
    for index, service in enumerate(source.file.service):
        yield f"### {source.file.package}.{service.name}\n"
        yield source.comment(FILE_SERVICE, index) + "\n"
        rows = [method_row(source, method, index, number) for number, method in enumerate(service.method)]
        yield from table(("RPC", "Takes", "Gives", "What it does"), rows)


def message_lines(source: Source, message: DescriptorProto, index: int) -> Iterator[str]:
    """A message with its fields."""
    yield f"### {message.name}\n"
    yield source.comment(FILE_MESSAGE, index) + "\n"
    rows = [
        (
            f"`{one.name}`",
            str(one.number),
            type_of(one, message),
            source.comment(FILE_MESSAGE, index, IN_MESSAGE_FIELD, at),
        )
        for at, one in enumerate(message.field)
    ]
    if rows:
        yield from table(("Field", "Number", "Type", "What it is"), rows)


def enum_lines(source: Source, enum: EnumDescriptorProto, index: int) -> Iterator[str]:
    """An enum with its values."""
    yield f"### {enum.name}\n"
    yield source.comment(FILE_ENUM, index) + "\n"
    rows = [
        (f"`{one.name}`", str(one.number), source.comment(FILE_ENUM, index, IN_ENUM_VALUE, at))
        for at, one in enumerate(enum.value)
    ]
    yield from table(("Value", "Number", "What it means"), rows)


def uncommented(source: Source) -> Iterator[str]:
    """Names of the parts of a file that have no comment."""
    kinds = (
        (FILE_SERVICE, source.file.service, IN_SERVICE_METHOD, "method"),
        (FILE_MESSAGE, source.file.message_type, IN_MESSAGE_FIELD, "field"),
        (FILE_ENUM, source.file.enum_type, IN_ENUM_VALUE, "value"),
    )
    for kind, wholes, inner, parts in kinds:
        for index, whole in enumerate(wholes):
            if not source.comment(kind, index):
                yield whole.name
            for at, part in enumerate(getattr(whole, parts)):
                if not source.comment(kind, index, inner, at):
                    yield f"{whole.name}.{part.name}"


def page(all_sources: dict[str, Source]) -> str:
    """The whole page."""
    ours = [all_sources[name] for name in ORDER]
    lines = [HEADER, "## Services\n"]
    for source in ours:
        lines += services(source)
    lines += services(all_sources[Path(KSERVE).stem])
    lines += ["Its messages are KServe's and Triton's own; [KServe V2](../10-kserve.md) says how they are used here.\n"]
    lines += ["## Messages\n"]
    for source in ours:
        for index, message in enumerate(source.file.message_type):
            lines += message_lines(source, message, index)
    lines += ["## Enums\n"]
    for source in ours:
        for index, enum in enumerate(source.file.enum_type):
            lines += enum_lines(source, enum, index)
    return "\n".join(lines).rstrip() + "\n"


def checked_page() -> str:
    """The whole page; ends with an error when something has no comment."""
    made = sources()
    if missing := [name for source in (made[key] for key in ORDER) for name in uncommented(source)]:
        sys.exit("no comment in protos/atelier/v1 says what these are:\n  " + "\n  ".join(missing))
    return page(made)


if __name__ == "__main__":
    write_or_compare("api.md", checked_page)
