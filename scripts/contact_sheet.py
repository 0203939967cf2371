"""Makes docs/pictures/contact_sheet.jpg: the page that `atelier generate --from … --sheet` writes, in chromium.

Starts a server with the models at hand, runs the example prompts and takes a picture of the page: `make contact-sheet`.
"""

import argparse
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from demo import COMMANDS, Server
from PIL import Image

ROOT = Path(__file__).resolve().parent.parent
PROMPTS = ROOT / "clients" / "python" / "examples" / "prompts.csv"


def photograph(page: Path, folder: Path) -> Image.Image:
    """The page as chromium shows it, without a window."""
    chromium = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if chromium is None:
        sys.exit("This needs chromium; on Debian: apt install chromium.")
    shot = folder / "shot.png"
    flags = ["--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={folder}/profile", "--hide-scrollbars"]
    flags += ["--blink-settings=preferredColorScheme=1", "--window-size=960,1040", f"--screenshot={shot}"]
    subprocess.run([chromium, *flags, page.as_uri()], check=True, capture_output=True, timeout=120)
    with Image.open(shot) as picture:
        return picture.convert("RGB")


def main() -> None:
    """Serves, generates, photographs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "pictures" / "contact_sheet.jpg")
    out = parser.parse_args().out
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        server = Server(folder / "server.log", name)
        try:
            command = [COMMANDS / "atelier", "--server", server.wait_ready(), "generate", "--from", PROMPTS]
            subprocess.run([*command, "-o", folder / "spring-campaign", "--sheet"], check=True)
        finally:
            server.stop()
        page = folder / "spring-campaign" / "sheet.html"
        photograph(page, folder).save(out, "JPEG", quality=80, optimize=True, progressive=True)
        print(f"{out}: {out.stat().st_size / 1024:.0f} KiB of a page of {page.stat().st_size / 1024:.0f} KiB")


if __name__ == "__main__":
    main()
