"""Looks up every pinned package among the known vulnerabilities, with pip-audit.

    python scripts/audit.py PIP_AUDIT [--service pypi|osv]

It asks a service on the network. Where that cannot be reached nothing is known: the script says SKIPPED and exits with
0, so that CI without a network goes on. A vulnerability exits with 1.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent


def audit(pip_audit: str, service: str) -> dict[str, Any] | str:
    """pip-audit's report on constraints.txt, or why there is none."""
    command = [pip_audit, "--requirement", str(ROOT / "constraints.txt"), "--no-deps", "--disable-pip"]
    command += ["--format", "json", "--progress-spinner", "off", "--vulnerability-service", service, "--timeout", "20"]
    done = subprocess.run(command, capture_output=True, text=True)
    try:
        report: dict[str, Any] = json.loads(done.stdout)
    except ValueError:
        return (done.stderr.strip() or "pip-audit said nothing").splitlines()[-1][:300]
    return report


def main() -> int:
    """Prints what was found."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("pip_audit", metavar="PIP_AUDIT", help="the command pip-audit")
    parser.add_argument("--service", choices=("pypi", "osv"), default="pypi")
    arguments = parser.parse_args()
    report = audit(arguments.pip_audit, arguments.service)
    if isinstance(report, str):
        print(f"SKIPPED: {report}")
        return 0
    packages = report["dependencies"]
    found = [(package, one) for package in packages for one in package.get("vulns", ())]
    for package, one in found:
        fixed = ", ".join(one["fix_versions"]) or "no version yet"
        print(f"{package['name']} {package['version']}: {one['id']}, fixed in {fixed}")
    skipped = [package["skip_reason"] for package in packages if "skip_reason" in package]
    if len(skipped) == len(packages):
        print(f"SKIPPED: nothing could be looked up: {skipped[0][:200] if skipped else 'no packages'}")
        return 0
    print(f"{len(packages) - len(skipped)} packages, {len(found)} known vulnerabilities, {len(skipped)} not looked up")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
