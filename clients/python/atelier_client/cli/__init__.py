"""The command `atelier`."""

import io
import os
import sys
from collections.abc import Sequence

from atelier_client._errors import AtelierError, Cancelled
from atelier_client.cli._output import print_answer, print_error
from atelier_client.cli._parser import parse

_BY_CODE = {"INVALID_ARGUMENT": 2, "UNAVAILABLE": 3, "DEADLINE_EXCEEDED": 5, "CANCELLED": 5}


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit code.

    0 done; 2 bad usage or INVALID_ARGUMENT; 3 server unreachable or UNAVAILABLE; 4 a gate refused; 5 deadline or
    cancelled; 1 anything else.
    """
    words = sys.argv[1:] if argv is None else list(argv)
    as_json = "--json" in words
    for stream in (sys.stdout, sys.stderr):
        # File names and prompts may hold what the terminal's encoding does not.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        options = parse(words)
        # gRPC would write lines of its own to stderr. It is imported only now, so that usage errors need not wait.
        os.environ.setdefault("GRPC_VERBOSITY", "NONE")
        from atelier_client.cli._commands import run

        answer = run(options)
        print_answer(answer, as_json=as_json)
        if answer.error is not None:
            if not as_json:
                print_error(answer.error, as_json=False)
            return exit_code(answer.error)
    except AtelierError as error:
        print_error(error, as_json=as_json)
        return exit_code(error)
    except KeyboardInterrupt:
        print_error(Cancelled("Given up; the server stops at the next step."), as_json=as_json)
        return 5
    except BrokenPipeError:
        # Whoever read has seen enough, as in `atelier … | head`; the flush at exit must not fail once more.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        print_error(AtelierError(f"{error.filename or 'The output'}: {error.strerror}."), as_json=as_json)
        return 1
    return 0


def exit_code(error: AtelierError) -> int:
    """The exit code that stands for an error."""
    return 4 if error.reason == "GATE_REFUSED" else _BY_CODE.get(error.code, 1)
