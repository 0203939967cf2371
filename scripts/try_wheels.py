"""Builds the three wheels, looks into them, installs them in a fresh environment and tries them: `make check-wheels`.

The client is installed with what it declares and nothing else. The server's heavy dependencies are borrowed from the
environment that runs this script; its own code comes from the wheel, run in an empty folder.
"""

import shutil
import site
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path
from zipfile import ZipFile

ROOT = Path(__file__).resolve().parent.parent
WHEELS = ROOT / "build" / "wheels"
TRIAL = ROOT / "build" / "wheel-trial"
PROJECTS = {"atelier_protos": "protos", "atelier_client": "clients/python", "atelier_server": "."}
# The whole virtual environment with pip in it, in 2**20 bytes.
CLIENT_LIMIT_MIB = 60
EXPECTED = {
    "atelier_protos": [
        "atelier/v1/image_generation_pb2.py",
        "atelier/v1/image_generation.proto",
        "atelier/v1/py.typed",
    ],
    "atelier_client": ["atelier_client/__init__.py", "atelier_client/py.typed"],
    "atelier_server": ["atelier_server/__init__.py", "atelier_server/py.typed"],
}


def run(*command: str | Path, cwd: Path = ROOT) -> str:
    """Runs a command and returns what it printed; ends the script with its output when it fails."""
    done = subprocess.run([str(part) for part in command], cwd=cwd, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{' '.join(map(str, command))} ended with {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout


def build() -> dict[str, Path]:
    """Builds all wheels and returns their paths by distribution."""
    shutil.rmtree(WHEELS, ignore_errors=True)
    sources = [ROOT / folder for folder in PROJECTS.values()]
    run(sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "-w", WHEELS, *sources)
    return {name: next(WHEELS.glob(f"{name}-*.whl")) for name in PROJECTS}


def expected_files(name: str) -> set[str]:
    """What a wheel must hold: its fixed list, and for the server its data files and the starter models."""
    expected = set(EXPECTED[name])
    if name == "atelier_server":
        package = ROOT / "server"
        data = [path for path in (package / "atelier_server").rglob("*") if path.suffix in {".toml", ".json", ".txt"}]
        expected |= {str(path.relative_to(package)) for path in data}
        starters = [path for path in ROOT.glob("models/starter*/**/*") if path.is_file()]
        described = ROOT.glob("models/*/config.pbtxt")
        expected |= {f"atelier_server/{path.relative_to(ROOT)}" for path in [*starters, *described]}
    return expected


def inspect(name: str, wheel: Path) -> None:
    """Ends the script when the wheel lacks a file or carries what is not its own."""
    with ZipFile(wheel) as archive:
        held = set(archive.namelist())
    if missing := expected_files(name) - held:
        sys.exit(f"{wheel.name} lacks {sorted(missing)}")
    top = {path.split("/")[0] for path in held if ".dist-info/" not in path}
    package = "atelier" if name == "atelier_protos" else name
    if top != {package}:
        sys.exit(f"{wheel.name} holds {sorted(top)}, not only {package}")
    if name == "atelier_client":
        inspect_client(held)
    print(f"{wheel.name}: {len(held)} files, {wheel.stat().st_size / 2**20:.1f} MiB")


def inspect_client(held: set[str]) -> None:
    """Lists the client's wheel, and ends the script unless it is the package's own files, all and only."""
    print("\n".join(f"  {path}" for path in sorted(held)))
    sources = ROOT / "clients" / "python"
    own = {path for path in (sources / "atelier_client").rglob("*") if path.suffix in {".py", ".typed"}}
    info = {"METADATA", "RECORD", "WHEEL", "entry_points.txt", "licenses/LICENSE"}
    expected = {str(path.relative_to(sources)) for path in own} | info
    if wrong := expected ^ {path.split(".dist-info/")[-1] for path in held}:
        sys.exit(f"The client's wheel and its package differ in {sorted(wrong)}")


def size_mib(folder: Path) -> float:
    """All files below a folder."""
    return sum(path.lstat().st_size for path in folder.rglob("*") if path.is_file()) / 2**20


def fresh_environment() -> Path:
    """Makes an empty virtual environment and returns its folder of commands."""
    shutil.rmtree(TRIAL, ignore_errors=True)
    venv.create(TRIAL / "venv", with_pip=True)
    (TRIAL / "empty").mkdir()
    return TRIAL / "venv" / "bin"


def try_client(bin_: Path, wheels: dict[str, Path]) -> None:
    """Installs the client with its own dependencies and uses it; then what the command line takes beside them."""
    pip = [bin_ / "python", "-m", "pip", "--disable-pip-version-check"]
    install = [*pip, "install", "--quiet", "-c", ROOT / "constraints.txt"]
    before = size_mib(TRIAL / "venv")
    run(*install, wheels["atelier_protos"], wheels["atelier_client"])
    run(*pip, "check")
    alone = size_mib(TRIAL / "venv")
    if alone > CLIENT_LIMIT_MIB:
        sys.exit(f"An environment with the client takes {alone:.0f} MiB, more than {CLIENT_LIMIT_MIB}")
    run(bin_ / "python", "-W", "error", "-c", "import atelier.v1, atelier_client; atelier_client.Atelier", cwd=TRIAL)
    run(*install, f"{wheels['atelier_client']}[cli]")
    run(*pip, "check")
    with_command = size_mib(TRIAL / "venv")
    print(f"environment: {before:.0f} MiB empty, {alone:.0f} with the client, {with_command:.0f} with its command line")
    run(bin_ / "atelier", "--help", cwd=TRIAL)


def try_server(bin_: Path, wheels: dict[str, Path]) -> None:
    """Installs the server's wheel alone, borrows its dependencies, and makes a picture with the packaged starter."""
    run(bin_ / "python", "-m", "pip", "install", "--quiet", "--no-deps", wheels["atelier_server"])
    trial_site = Path(sysconfig.get_path("purelib", vars={"base": str(TRIAL / "venv")}))
    (trial_site / "borrowed.pth").write_text("\n".join(site.getsitepackages()) + "\n")
    where = run(bin_ / "python", "-c", "import atelier_server; print(atelier_server.__file__)", cwd=TRIAL / "empty")
    if not where.startswith(str(trial_site)):
        sys.exit(f"atelier_server was imported from {where}, not from its wheel")
    listed = run(bin_ / "atelier-server", "models", "list", cwd=TRIAL / "empty")
    packaged = {path.parent.name for path in ROOT.glob("models/*/config.pbtxt")}
    if absent := {name for name in packaged if name not in listed}:
        sys.exit(f"The installed server does not find {sorted(absent)}:\n{listed}")
    run(bin_ / "python", ROOT / "scripts" / "demo.py", cwd=TRIAL / "empty")


def main() -> None:
    """Builds, inspects, installs, tries."""
    wheels = build()
    for name, wheel in wheels.items():
        inspect(name, wheel)
    bin_ = fresh_environment()
    try_client(bin_, wheels)
    try_server(bin_, wheels)
    print("The wheels install and answer.")


if __name__ == "__main__":
    main()
