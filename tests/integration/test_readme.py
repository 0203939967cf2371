"""What the README tells newcomers to type works as written, against a real server."""

import asyncio
import json
import os
import re
import shlex
import shutil
import sys
from pathlib import Path

import grpc
import pytest
from google.protobuf import message_factory

from atelier.v1 import brand_pb2, image_generation_pb2, model_pb2
from atelier_server.testing import RunningServer

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text()
DOCUMENTED_ADDRESS = "127.0.0.1:8001"
SERVICES = [
    service
    for module in (image_generation_pb2, brand_pb2, model_pb2)
    for service in module.DESCRIPTOR.services_by_name.values()
]


def command_lines(program: str) -> list[str]:
    """The lines of the README's code blocks that run `program`."""
    blocks = re.findall(r"```[^\n]*\n(.*?)```", README, flags=re.S)
    found = [line for block in blocks for line in block.splitlines() if line.startswith(f"{program} ")]
    assert found, f"the README has no line that runs {program}"
    return found


def executable(name: str) -> str:
    """Where a program is that the README calls by its name; skips the test when it is nowhere."""
    installed_by_make = sorted(ROOT.glob(f"build/tools/*/node_modules/.bin/{name}"))
    path = str(installed_by_make[-1]) if installed_by_make else shutil.which(name)
    if path is None:
        pytest.skip(f"{name} is not installed")
    return path


async def run(program: str, line: str, server: RunningServer, folder: Path) -> str:
    """Runs a line of the README against `server`, with `program` in place of its first word."""
    _, *arguments = shlex.split(line.replace(DOCUMENTED_ADDRESS, server.address))
    process = await asyncio.create_subprocess_exec(
        program,
        *arguments,
        cwd=folder,
        env={**os.environ, "ATELIER_SERVER": server.address},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await process.communicate()
    assert process.returncode == 0, f"{line}\n{out.decode()}{err.decode()}"
    return out.decode()


def json_messages(text: str) -> list[dict[str, object]]:
    """JSON objects printed one after another."""
    decoder, messages = json.JSONDecoder(), []
    while text := text.lstrip():
        message, end = decoder.raw_decode(text)
        messages.append(message)
        text = text[end:]
    return messages


@pytest.mark.parametrize("program", ["buf", "grpcurl"])
async def test_reflection_lists_and_generates(program: str, server: RunningServer, tmp_path: Path) -> None:
    listing, generation = command_lines(program)
    path = executable(program)
    listed = set((await run(path, listing, server, tmp_path)).split())
    assert {service.full_name for service in SERVICES} | {"grpc.health.v1.Health"} <= listed

    events = json_messages(await run(path, generation, server, tmp_path))
    kinds = [next(iter(event.keys() - {"sequence", "requestId"})) for event in events]
    assert kinds[0] == "queued"
    assert {"started", "progress", "imageChunk", "imageCompleted"} <= set(kinds)
    assert kinds[-1] == "completed"


@pytest.mark.parametrize("line", command_lines(".venv/bin/atelier"))
async def test_command_line_client(line: str, server: RunningServer, tmp_path: Path) -> None:
    atelier = str(Path(sys.executable).with_name("atelier"))
    if not Path(atelier).exists():
        pytest.skip("the atelier command is not installed")
    await run(atelier, line, server, tmp_path)
    if output := re.search(r"-o (\S+)", line):
        assert (tmp_path / output[1]).read_bytes().startswith(b"\x89PNG")


async def test_python_example(server: RunningServer, tmp_path: Path) -> None:
    (block,) = re.findall(r"```python[^\n]*\n(.*?)```", README, flags=re.S)
    script = tmp_path / "example.py"
    script.write_text(block.replace(DOCUMENTED_ADDRESS, server.address))
    await run(sys.executable, f"python {script}", server, tmp_path)
    assert (tmp_path / "bag.png").read_bytes().startswith(b"\x89PNG")


def unimplemented_by_readme() -> set[str]:
    """Names of the RPCs in the README's rows of UNIMPLEMENTED."""
    rows = [row for row in README.splitlines() if row.startswith("|") and "UNIMPLEMENTED" in row]
    return {name for row in rows for name in re.findall(r"`([A-Z]\w+)`", row.split("|")[2])}


@pytest.mark.parametrize(
    ("service", "method"), [(service.full_name, method) for service in SERVICES for method in service.methods_by_name]
)
async def test_the_table_of_what_answers_is_true(service: str, method: str, server: RunningServer) -> None:
    descriptor = next(one for one in SERVICES if one.full_name == service).methods_by_name[method]
    request, reply = (
        message_factory.GetMessageClass(type_) for type_ in (descriptor.input_type, descriptor.output_type)
    )
    path = f"/{service}/{method}"
    serialize, parse = request.SerializeToString, reply.FromString
    channel = server.channel
    code = grpc.StatusCode.OK
    try:
        if descriptor.server_streaming:
            async for _ in channel.unary_stream(path, serialize, parse)(request(prompt="a bag")):
                pass
        elif descriptor.client_streaming:
            await channel.stream_unary(path, serialize, parse)([request()])
        else:
            await channel.unary_unary(path, serialize, parse)(request())
    except grpc.aio.AioRpcError as error:
        code = error.code()
    claimed = "UNIMPLEMENTED" if method in unimplemented_by_readme() else "work"
    actual = "UNIMPLEMENTED" if code is grpc.StatusCode.UNIMPLEMENTED else "work"
    assert claimed == actual, f"correct {method} in the README's table of what answers: {code}"
    assert code is not grpc.StatusCode.INTERNAL
