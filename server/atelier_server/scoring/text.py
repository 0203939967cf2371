"""Texts to a CLIP's token ids, with the tokenizer.json beside the model."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from atelier_server.scoring.calibration import Calibration


class ClipTokenizer:
    """Cuts texts to the model's context, keeps the end token, pads."""

    def __init__(self, folder: Path, calibration: Calibration) -> None:
        self._tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self._tokenizer.enable_truncation(calibration.context_length)
        self._tokenizer.enable_padding(length=calibration.context_length, pad_id=calibration.pad_id)

    def __call__(self, texts: Sequence[str]) -> NDArray[np.int64]:
        """Returns int64 [texts, context_length]."""
        return np.array([encoding.ids for encoding in self._tokenizer.encode_batch(list(texts))], np.int64)

    def cuts(self, text: str) -> bool:
        """Whether the text has more tokens than the model reads."""
        return bool(self._tokenizer.encode(text).overflowing)
