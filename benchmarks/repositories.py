"""Model repositories for benchmarks: the starter with other parameters."""

from __future__ import annotations

import shutil
from pathlib import Path

from common import ROOT


def starter_with(folder: Path, **parameters: str) -> Path:
    """A repository under `folder` with the starter and these parameters in the place of its own; returns it."""
    models = folder / "models"
    shutil.copytree(ROOT / "models" / "starter", models / "starter")
    config = models / "starter" / "config.pbtxt"
    lines = [line for line in config.read_text().splitlines() if not any(f'key: "{key}"' in line for key in parameters)]
    lines += [f'parameters {{ key: "{key}" value {{ string_value: "{value}" }} }}' for key, value in parameters.items()]
    config.write_text("\n".join(lines) + "\n")
    return models


def starter_by(folder: Path, execution: str, dtype: str) -> Path:
    """The starter as `execution` computes it: torch operator by operator, compiled (as it is by itself after its first
    minute) or openvino."""
    if execution == "openvino":
        return starter_with(folder, execution="openvino", dtype=dtype)
    return starter_with(folder, execution="torch", dtype=dtype, compile="on" if execution == "compiled" else "off")
