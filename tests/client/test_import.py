"""What importing the package costs, and what it offers."""

import subprocess
import sys

import pytest

import atelier_client


def test_the_import_is_light() -> None:
    """No gRPC, no protobuf, no rich, no Pillow until they are needed."""
    code = (
        "import sys, atelier_client; print([m for m in ('grpc', 'google.protobuf', 'rich', 'PIL') if m in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout == "[]\n"


def test_everything_named_is_there() -> None:
    for name in atelier_client.__all__:
        assert getattr(atelier_client, name).__module__.startswith(("atelier_client", "types"))
    assert sorted(atelier_client.__all__, key=str.lower) == sorted(set(atelier_client.__all__), key=str.lower)
    with pytest.raises(AttributeError, match="Atleier"):
        getattr(atelier_client, "Atleier")  # noqa: B009


def test_errors_form_one_tree() -> None:
    kinds = [
        thing for thing in vars(atelier_client).values() if isinstance(thing, type) and issubclass(thing, Exception)
    ]
    assert len(kinds) == 16
    assert all(issubclass(kind, atelier_client.AtelierError) for kind in kinds)
