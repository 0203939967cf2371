"""What the server's flags tell a backend of every model."""

from pathlib import Path
from typing import Any

import pytest

from atelier_server.testing import echo_server, in_process_executor


@pytest.mark.parametrize(("flag", "told"), [("on", "on"), ("off", "off"), (None, "")])
async def test_compile_and_the_derived_folder_reach_the_backend(tmp_path: Path, flag: str | None, told: str) -> None:
    specs: list[Any] = []

    def spying(spec: Any) -> Any:
        specs.append(spec)
        return in_process_executor(spec)

    async with echo_server(tmp_path, executor_factory=spying, compile=flag):
        [spec] = specs
    assert (spec.compile, spec.derived_folder) == (told, str(tmp_path / "state" / "derived"))
    assert "compile" not in spec.parameters, "backends that know all their parameters refuse others"
