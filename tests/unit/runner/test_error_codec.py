"""An error that crosses the runner's socket is the same error on the other side."""

import pytest

from atelier_server import errors
from atelier_server.errors import AtelierError
from atelier_server.runner import error_codec

ALL_CLASSES = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, AtelierError)]


@pytest.mark.parametrize("kind", [kind for kind in ALL_CLASSES if kind is not AtelierError])
def test_every_class_crosses(kind: type[AtelierError]) -> None:
    error = kind("Say »less« 🖼.", reason="WHY", field="prompt", retry_after_seconds=1.5, metadata={"limit": "77"})
    back = error_codec.decode(error_codec.encode(error))
    assert type(back) is kind
    assert vars(back) == vars(error)
    assert str(back) == str(error)


def test_an_unknown_subclass_crosses_as_its_base() -> None:
    class Odd(errors.ResourceExhausted):
        pass

    assert type(error_codec.decode(error_codec.encode(Odd("full")))) is errors.ResourceExhausted
    assert type(error_codec.decode(error_codec.encode(AtelierError("?")))) is errors.Internal
