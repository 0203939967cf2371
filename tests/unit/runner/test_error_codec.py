"""An error that crosses the runner's socket is the same error on the other side."""

import grpc
import pytest

from atelier_server import errors
from atelier_server.errors import AtelierError
from atelier_server.runner import error_codec

ALL_CLASSES = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, AtelierError)]


@pytest.mark.parametrize("kind", [kind for kind in ALL_CLASSES if kind is not AtelierError])
def test_every_class_crosses(kind: type[AtelierError]) -> None:
    error = kind("Say »less«.", reason="WHY", field="prompt", retry_after_seconds=1.5, metadata={"limit": "77"})
    back = error_codec.decode([("other", "x"), (error_codec.TRAILER, error_codec.encode(error))])
    assert type(back) is kind
    assert vars(back) == vars(error)
    assert str(back) == str(error)


def test_every_class_has_a_status_of_its_own_kind() -> None:
    assert error_codec.status_code(errors.ModerationBlocked("")) is grpc.StatusCode.INVALID_ARGUMENT
    assert error_codec.status_code(errors.GateRefused("")) is grpc.StatusCode.FAILED_PRECONDITION
    codes = {error_codec.status_code(kind("")) for kind in AtelierError.__subclasses__()}
    assert len(codes) == len(AtelierError.__subclasses__())


def test_an_unknown_subclass_crosses_as_its_base() -> None:
    class Odd(errors.ResourceExhausted):
        pass

    back = error_codec.decode([(error_codec.TRAILER, error_codec.encode(Odd("full")))])
    assert type(back) is errors.ResourceExhausted
    assert error_codec.status_code(Odd("full")) is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert error_codec.status_code(AtelierError("?")) is grpc.StatusCode.INTERNAL
    assert type(error_codec.decode([(error_codec.TRAILER, error_codec.encode(AtelierError("?")))])) is errors.Internal


def test_the_largest_error_fits_into_a_trailer() -> None:
    facts = {f"{n:03}" + "k" * 1000: "v" * 1000 for n in range(100)}
    value = error_codec.encode(errors.Internal("m" * 100_000, field="f" * 10_000, metadata=facts))
    assert len(value) < 6000


@pytest.mark.parametrize("trailers", [None, [], [("x", "y")]])
def test_no_trailer_no_error(trailers: list[tuple[str, str | bytes]] | None) -> None:
    assert error_codec.decode(trailers) is None


@pytest.mark.parametrize("letter", ["字", "🖼", "\0", "a"])
def test_an_error_fits_into_a_trailer_in_every_script(letter: str) -> None:
    facts = {f"{n:03}" + letter * 100: letter * 200 for n in range(100)}
    error = errors.InvalidArgument(letter * 5000, field=letter * 500, metadata=facts)
    value = error_codec.encode(error)
    assert len(value) < 6000
    back = error_codec.decode([(error_codec.TRAILER, value)])
    assert back is not None
    assert back.message.startswith(letter * 100)
    assert len(back.metadata) == 16
