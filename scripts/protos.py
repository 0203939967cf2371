"""Generates the Python stubs from protos/. Run it through `make protos`, which pins the compiler.

The public stubs go to protos/python (distribution atelier-protos, importable as atelier.v1); the private runner
protocol and the KServe messages go to server/atelier_server/_generated, whose imports are rewritten to live there.
An old compiler on purpose: stubs of a new one demand the newest protobuf from every user.

    python scripts/protos.py           writes the stubs
    python scripts/protos.py --check   exits with 1 and the names when the committed stubs differ
"""

import argparse
import re
import shutil
import sys
import tempfile
from importlib.resources import files
from pathlib import Path

from grpc_tools import protoc

ROOT = Path(__file__).resolve().parent.parent
PROTOS = ROOT / "protos"
PUBLIC = Path("protos/python")
PRIVATE = Path("server/atelier_server/_generated")
PRIVATE_PACKAGE = "atelier_server._generated"
PRIVATE_PROTOCOLS = ("runner", "kserve")
PUBLIC_DOCSTRING = '"""The public messages and services of Atelier, generated from protos/atelier/v1."""\n'


def compile_protos(folder: Path, out: Path) -> None:
    """Compiles every .proto below `folder` into message, type and service stubs under `out`."""
    sources = sorted(str(path.relative_to(PROTOS)) for path in folder.rglob("*.proto"))
    if not sources:
        return
    arguments = ["protoc", f"-I{PROTOS}", f"-I{files('grpc_tools') / '_proto'}"]
    arguments += [f"--python_out={out}", f"--pyi_out={out}", f"--grpc_python_out={out}", *sources]
    if protoc.main(arguments) != 0:
        sys.exit(f"protoc failed for {folder}")


def make_private(out: Path) -> None:
    """Rewrites absolute imports of private stubs, and makes every folder a package."""
    protocols = "|".join(PRIVATE_PROTOCOLS)
    for path in [*out.rglob("*.py"), *out.rglob("*.pyi")]:
        text = path.read_text()
        path.write_text(re.sub(rf"^from (atelier\.(?:{protocols}))", rf"from {PRIVATE_PACKAGE}.\1", text, flags=re.M))
    for folder in [out, *(path for path in out.rglob("*") if path.is_dir())]:
        (folder / "__init__.py").write_text("")


def drop_empty_services(out: Path) -> None:
    """Removes service stubs of files that declare no service."""
    for path in out.rglob("*_pb2_grpc.py"):
        if "class " not in path.read_text():
            path.unlink()


def generate(base: Path) -> None:
    """Writes all stubs below `base`, a folder laid out like the repository, where none may lie yet."""
    public, private = base / PUBLIC, base / PRIVATE
    (public / "atelier" / "v1").mkdir(parents=True)
    private.mkdir(parents=True)
    compile_protos(PROTOS / "atelier" / "v1", public)
    for protocol in PRIVATE_PROTOCOLS:
        compile_protos(PROTOS / "atelier" / protocol, private)
    drop_empty_services(public)
    drop_empty_services(private)
    make_private(private)
    (public / "atelier" / "v1" / "__init__.py").write_text(PUBLIC_DOCSTRING)
    (public / "atelier" / "v1" / "py.typed").write_text("")


def contents(base: Path) -> dict[str, bytes]:
    """All stubs below `base` by their path."""
    paths = [path for tree in (PUBLIC, PRIVATE) for path in (base / tree).rglob("*") if path.is_file()]
    return {str(path.relative_to(base)): path.read_bytes() for path in paths if "__pycache__" not in path.parts}


def differences(base: Path) -> list[str]:
    """Paths whose committed stub is not what the compiler writes now."""
    made, committed = contents(base), contents(ROOT)
    return sorted(path for path in made.keys() | committed.keys() if made.get(path) != committed.get(path))


def main() -> None:
    """Regenerates all stubs from scratch, so that a removed .proto leaves nothing behind, or compares them."""
    parser = argparse.ArgumentParser(description="Generates the Python stubs from protos/.")
    parser.add_argument("--check", action="store_true", help="only tell whether the committed stubs are up to date")
    check = parser.parse_args().check
    with tempfile.TemporaryDirectory() as folder:
        base = Path(folder)
        generate(base)
        if check:
            if stale := differences(base):
                sys.exit("Stubs differ from protos/, run `make protos`:\n  " + "\n  ".join(stale))
            return
        for tree in (PUBLIC, PRIVATE):
            shutil.rmtree(ROOT / tree, ignore_errors=True)
            shutil.copytree(base / tree, ROOT / tree)


if __name__ == "__main__":
    main()
