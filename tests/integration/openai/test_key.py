"""The key: where it comes from, what becomes of a refused one, and that nobody reads it."""

from pathlib import Path

import pytest

from atelier_server.errors import FailedPrecondition
from atelier_server.executor.base import UNAVAILABLE
from atelier_server.executor.openai import OpenAIExecutor
from atelier_server.testing.openai_server import OpenAIServer, refusal
from tests.integration.openai_kit import KEY, failure, make, run


async def test_a_refused_key_takes_the_model_out(
    service: OpenAIServer, executor: OpenAIExecutor, caplog: pytest.LogCaptureFixture
) -> None:
    service.script(refusal(401, "invalid_api_key", message=f"Incorrect API key provided: {KEY}"))
    error = await failure(executor)
    assert isinstance(error, FailedPrecondition)
    assert error.reason == "UPSTREAM_KEY_REFUSED"
    assert executor.status().state == UNAVAILABLE
    assert isinstance(await failure(executor), FailedPrecondition)
    assert len(service.requests) == 1
    assert KEY not in caplog.text + error.message + executor.status().reason


async def test_the_key_is_never_logged(
    service: OpenAIServer, executor: OpenAIExecutor, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    await run(executor)
    assert caplog.records
    assert KEY not in caplog.text


async def test_without_a_key_it_says_what_to_set(service: OpenAIServer) -> None:
    for key in ("", "your-api-key", "<key>", "sk-your-key-here", "xxxx"):
        one = OpenAIExecutor(make(service).spec, {"OPENAI_API_KEY": key})
        with pytest.raises(FailedPrecondition, match="OPENAI_API_KEY"):
            await one.start()
        assert one.status().state == UNAVAILABLE
        assert "OPENAI_API_KEY" in one.status().reason
        assert isinstance(await failure(one), FailedPrecondition)


async def test_a_key_may_lie_in_a_file(service: OpenAIServer, tmp_path: Path) -> None:
    (tmp_path / "key").write_text(f"{KEY}\n")
    spec = make(service).spec
    named = {"OPENAI_API_KEY_FILE": str(tmp_path / "key"), "OPENAI_BASE_URL": service.base_url}
    one = OpenAIExecutor(spec, named)
    await one.start()
    await run(one)
    await one.stop()
    assert service.requests[0].headers["authorization"] == f"Bearer {KEY}"
    missing = OpenAIExecutor(spec, named | {"OPENAI_API_KEY_FILE": str(tmp_path / "none")})
    with pytest.raises(FailedPrecondition, match="cannot be read"):
        await missing.start()
