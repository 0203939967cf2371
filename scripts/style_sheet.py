"""Makes a picture of every style, aspect ratio and quality through `atelier generate`, and checks their sizes.

They go on one contact sheet.

    python scripts/style_sheet.py [--steps 20] [--out docs/pictures/styles.jpg]

It starts a server with the models of this checkout. A row is a style, a column an aspect ratio and a quality.
"""

from __future__ import annotations

import argparse
import itertools
import json
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageDraw

from atelier_server.pipeline.sizes import delivered_size
from atelier_server.types import AspectRatio, GenerateRequest, Quality, Style

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from benchmarks.served import served

ROOT = Path(__file__).resolve().parent.parent
PROMPT = "a red leather handbag on white marble"
SEED = 42
AT_ONCE = 4
MODELS = ("starter", "starter_clip")
THUMBNAIL_AREA = {Quality.STANDARD: 44**2, Quality.HD: 60**2, Quality.ULTRA_HD: 84**2}
"""Pixels; the eye then sees which is larger, though not by how much."""
GAP, LABEL_WIDTH, LABEL_HEIGHT = 6, 84, 14
BACKGROUND, INK = (250, 250, 250), (40, 40, 40)


@dataclass(frozen=True, slots=True)
class Cell:
    """One combination."""

    style: Style
    aspect_ratio: AspectRatio
    quality: Quality

    @property
    def expected(self) -> tuple[int, int]:
        """Width and height that it must have."""
        request = GenerateRequest(PROMPT, self.style, aspect_ratio=self.aspect_ratio, quality=self.quality)
        size = delivered_size(request)
        return size.width, size.height

    def make(self, address: str, folder: Path, steps: int) -> Path:
        """Runs the command; returns the picture's file.

        Raises:
            SystemExit: It failed, or the picture has another size.
        """
        path = folder / f"{self.style}-{self.aspect_ratio}-{self.quality}.jpg"
        command = [sys.executable, "-m", "atelier_client", "--server", address, "generate", PROMPT, "--json"]
        command += ["--style", self.style, "--aspect", self.aspect_ratio, "--quality", self.quality]
        command += ["--seed", str(SEED), "--steps", str(steps), "--model", "starter", "--format", "jpeg"]
        command += ["-o", str(path)]
        answer = subprocess.run(command, capture_output=True, text=True, check=False)
        if answer.returncode:
            raise SystemExit(f"{path.stem}: {answer.stdout}{answer.stderr}")
        [told] = json.loads(answer.stdout)["images"]
        with Image.open(path) as image:
            sizes = {image.size, (told["width"], told["height"])}
        if sizes != {self.expected}:
            raise SystemExit(f"{path.stem}: {sizes}, not {self.expected}")
        return path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model-repository", type=Path, default=ROOT / "models")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "pictures" / "styles.jpg")
    options = parser.parse_args()
    styles = [style for style in Style if style is not Style.NONE]
    cells = [Cell(*one) for one in itertools.product(styles, AspectRatio, Quality)]
    with (
        tempfile.TemporaryDirectory() as name,
        served(options.model_repository, Path(name) / "state", MODELS) as address,
        ThreadPoolExecutor(AT_ONCE) as pool,
    ):
        paths = list(pool.map(lambda cell: cell.make(address, Path(name), options.steps), cells))
        sheet = contact_sheet(dict(zip(cells, paths, strict=True)))
    options.out.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(options.out, quality=80, optimize=True)
    print(f"{len(cells)} pictures have their sizes; {options.out} has {options.out.stat().st_size / 1000:.0f} kB")


def contact_sheet(pictures: dict[Cell, Path]) -> Image.Image:
    """Thumbnails in a table, with labels."""
    thumbnails = {cell: thumbnail(path, cell.quality) for cell, path in pictures.items()}
    styles = list(dict.fromkeys(cell.style for cell in pictures))
    columns = list(dict.fromkeys((cell.aspect_ratio, cell.quality) for cell in pictures))
    widths = [max(one.width for cell, one in thumbnails.items() if column_of(cell) == column) for column in columns]
    height = max(one.height for one in thumbnails.values()) + GAP
    lefts = list(itertools.accumulate((width + GAP for width in widths), initial=LABEL_WIDTH))
    sheet = Image.new("RGB", (lefts[-1] + GAP, 2 * LABEL_HEIGHT + GAP + height * len(styles)), BACKGROUND)
    draw = ImageDraw.Draw(sheet)
    for left, (aspect, quality) in zip(lefts, columns, strict=False):
        if quality is Quality.STANDARD:
            draw.text((left, 2), f"{aspect.value}: standard, hd, ultra_hd", INK)
    for row, style in enumerate(styles):
        top = 2 * LABEL_HEIGHT + row * height
        draw.text((GAP, top + height // 2 - LABEL_HEIGHT), style.value, INK)
        for left, column in zip(lefts, columns, strict=False):
            one = thumbnails[Cell(style, *column)]
            sheet.paste(one, (left, top + (height - one.height) // 2))
    return sheet


def column_of(cell: Cell) -> tuple[AspectRatio, Quality]:
    """Where a cell stands in its row."""
    return cell.aspect_ratio, cell.quality


def thumbnail(path: Path, quality: Quality) -> Image.Image:
    """A small copy."""
    with Image.open(path) as image:
        scale = (THUMBNAIL_AREA[quality] / (image.width * image.height)) ** 0.5
        return image.convert("RGB").resize(
            (round(image.width * scale), round(image.height * scale)), Image.Resampling.LANCZOS
        )


if __name__ == "__main__":
    main()
