"""What is made of a checkpoint and kept for the next start is named by the weights that it was made of."""

import hashlib
from pathlib import Path


def digest(checkpoint: Path, salt: str) -> str:
    """A name, 24 hexadecimal digits, that the UNet's and the VAE's files and `salt` decide."""
    made = hashlib.sha256(salt.encode())
    for part in ("unet", "vae"):
        for path in sorted((checkpoint / part).iterdir()):
            if path.suffix in (".safetensors", ".json"):
                made.update(path.name.encode())
                with path.open("rb") as file:
                    made.update(hashlib.file_digest(file, "sha256").digest())
    return made.hexdigest()[:24]
