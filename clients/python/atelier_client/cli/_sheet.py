"""`atelier sheet`: one page of HTML with the pictures of a batch, that needs no other file and no network."""

import argparse
import base64
import html
import io
from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path
from string import Template
from typing import Any

from atelier_client._errors import FailedPrecondition, InvalidArgument
from atelier_client.cli._output import Answer, show
from atelier_client.cli._results import NAME, read_results

_SIDE = 320
_QUALITY = 80
_PAGE = Template("""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<title>$title</title>
<style>
:root { color-scheme: light dark; font: 14px/1.4 system-ui, sans-serif; }
body { margin: 1.5rem; }
h1 { font-size: 1.4rem; margin: 0; }
header p { margin: .2rem 0 1.2rem; opacity: .7; }
main { display: grid; grid-template-columns: repeat(auto-fill, minmax(200px, 1fr)); gap: 1rem; }
figure { margin: 0; border: 1px solid #8884; border-radius: 6px; overflow: hidden; }
img { display: block; width: 100%; height: auto; background: #8882; }
figcaption { padding: .5rem .6rem; overflow-wrap: anywhere; }
figcaption p { margin: 0 0 .3rem; }
dl { display: grid; grid-template-columns: auto 1fr; gap: 0 .6rem; margin: 0; font-size: .85em; }
dt { opacity: .7; }
dd { margin: 0; font-variant-numeric: tabular-nums; }
.missed { border-color: #c60; }
.failed { padding: .6rem; border: 1px dashed #c00; }
</style>
</head>
<body>
<header><h1>$title</h1><p>$summary</p></header>
<main>
$figures
</main>
</body>
</html>
""")


def sheet(options: argparse.Namespace) -> Answer:
    """Writes the page of a folder."""
    folder = Path(options.folder)
    path = write_sheet(folder, options.output, options.title)
    size = path.stat().st_size
    return Answer({"sheet": str(path), "size_bytes": size}, f"{path} ({size / 1024:.0f} KiB)")


def require_pillow() -> None:
    """Raises FailedPrecondition where Pillow is not installed."""
    if find_spec("PIL") is None:
        raise FailedPrecondition("A sheet needs Pillow: pip install 'atelier-client[cli]'.", field="sheet")


def write_sheet(folder: Path, output: str | None = None, title: str | None = None) -> Path:
    """Writes the page of a folder's results and returns its path. Equal results make equal pages.

    Raises:
        InvalidArgument: The folder has no results.
        FailedPrecondition: Pillow is not installed.
    """
    require_pillow()
    lines = read_results(folder)
    if not lines:
        raise InvalidArgument(f"{folder} has no {NAME}; `atelier generate --from` writes it.", field="folder")
    figures = [figure for line in lines for figure in _figures(folder, line)]
    page = _PAGE.substitute(
        title=html.escape(title or folder.resolve().name),
        summary=html.escape(_summary(lines)),
        figures="\n".join(figures),
    )
    path = Path(output) if output else folder / "sheet.html"
    path.write_text(page, "utf-8")
    return path


def _summary(lines: list[Mapping[str, Any]]) -> str:
    images = [image for line in lines for image in line.get("images", ())]
    means = []
    for name, label in (("aesthetic_score", "aesthetic"), ("prompt_alignment", "alignment")):
        values = [image[name] for image in images if image.get(name) is not None]
        if values:
            means.append(f"mean {label} {sum(values) / len(values):.2f}")
    models = sorted({str(line["model_used"]) for line in lines if "model_used" in line})
    failed = sum("error" in line for line in lines)
    parts = [f"{len(images)} pictures", *([f"{failed} failed"] if failed else []), *means, *models]
    return " · ".join(parts)


def _figures(folder: Path, line: Mapping[str, Any]) -> Iterator[str]:
    prompt = html.escape(str(line.get("prompt", "")))
    if "error" in line:
        message = html.escape(str(line["error"].get("message", "")))
        yield f'<figure class="failed"><p>{prompt}</p><p>{message}</p></figure>'
    for image in line.get("images", ()):
        facts = {
            "row": line.get("row"),
            "seed": image.get("seed"),
            "aesthetic": image.get("aesthetic_score"),
            "brand": None if image.get("brand_reference_missing") else image.get("brand_consistency_score"),
            "alignment": image.get("prompt_alignment"),
            "passed": image.get("passed"),
            "model": line.get("model_used"),
            "file": image.get("path"),
        }
        rows = "".join(f"<dt>{name}</dt><dd>{html.escape(show(value))}</dd>" for name, value in facts.items())
        css = "" if image.get("passed") else ' class="missed"'
        inlined = _inline(folder / str(image.get("path")), prompt)
        yield f"<figure{css}>{inlined}<figcaption><p>{prompt}</p><dl>{rows}</dl></figcaption></figure>"


def _inline(path: Path, prompt: str) -> str:
    """The picture as an <img> that carries its own bytes, as a JPEG with sides of at most 320 pixels."""
    import PIL.Image

    try:
        with PIL.Image.open(path) as picture:
            small = picture.convert("RGB")
    except OSError:
        return f"<p>{html.escape(path.name)} is missing.</p>"
    small.thumbnail((_SIDE, _SIDE), PIL.Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    small.save(buffer, "JPEG", quality=_QUALITY, optimize=True)
    data = base64.b64encode(buffer.getvalue()).decode("ascii")
    return f'<img width="{small.width}" height="{small.height}" alt="{prompt}" src="data:image/jpeg;base64,{data}">'
