"""For tests of programs that use Atelier: a real server on a free port with the echo backend, no weights, no processes.

    async with echo_server(tmp_path) as server:
        stub = ImageGenerationServiceStub(server.channel)

`echo_server_in_thread` does the same for programs without an event loop.
"""

from atelier_server.testing.echo_models import write_echo_model
from atelier_server.testing.servers import (
    RunningServer,
    echo_server,
    echo_server_in_thread,
    in_process_executor,
    server_config,
)

__all__ = [
    "RunningServer",
    "echo_server",
    "echo_server_in_thread",
    "in_process_executor",
    "server_config",
    "write_echo_model",
]
