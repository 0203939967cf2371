"""A few hundred of the messages that `make fuzz` sends by the thousand."""

from pathlib import Path

import pytest

from atelier_server.executor.base import READY
from atelier_server.testing import echo_server
from tests.integration.fuzz_kit import Fuzzer, message_of, write_fuzz_models
from tests.integration.grpc_kit import heard


def test_a_message_can_be_made_again() -> None:
    assert message_of(1, 2) == message_of(1, 2)
    assert message_of(1, 2) != message_of(1, 6)


# Decoders of damaged pictures warn as they please; what they answer is checked.
@pytest.mark.filterwarnings("ignore")
async def test_mutated_messages_are_answered_properly(tmp_path: Path) -> None:
    write_fuzz_models(tmp_path / "models")
    async with echo_server(tmp_path) as server:
        fuzzer = Fuzzer(server.channel, seed=7)
        await fuzzer.prepare()
        findings = await fuzzer.run(range(160))
        assert findings.faults == []
        assert findings.statuses.total() == 160
        assert findings.worked >= 0.3
        assert {state.state for state in server.app.registry.models()} == {READY}
        assert (await heard(server))[-1].HasField("completed")
