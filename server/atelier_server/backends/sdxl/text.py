"""Text encoding as in StableDiffusionXLPipeline.encode_prompt, one prompt at a time, cached."""

from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

import torch

CACHE_SIZE = 256


@dataclass(frozen=True, slots=True)
class Encoded:
    """A prompt's embeddings: `embeds` [1, 77, width of both encoders], `pooled` [1, projection].

    `truncated` counts the tokens that each encoder could not read.
    """

    embeds: torch.Tensor
    pooled: torch.Tensor
    truncated: tuple[int, int] = (0, 0)


class PromptEncoder:
    """Encodes prompts with SDXL's two text encoders.

    One prompt at a time: in a batch its last bits would depend on its neighbours, and EXACT pictures with them.
    """

    def __init__(self, tokenizers: tuple[Any, Any], encoders: tuple[Any, Any], force_zeros: bool) -> None:
        self._tokenizers = tokenizers
        self._encoders = encoders
        self._force_zeros = force_zeros
        self._cache: OrderedDict[str, Encoded] = OrderedDict()

    def forget(self) -> None:
        """Drops all embeddings: they stay on the device where they were computed."""
        self._cache.clear()

    def encode(self, prompt: str) -> Encoded:
        """The embeddings of a prompt: penultimate states of both encoders side by side, pooled state of the second."""
        known = self._cache.get(prompt)
        if known is None:
            known = self._cache[prompt] = self._compute(prompt)
            if len(self._cache) > CACHE_SIZE:
                self._cache.popitem(last=False)
        self._cache.move_to_end(prompt)
        return known

    def encode_negative(self, negative_prompt: str | None, like: Encoded) -> Encoded:
        """A negative prompt's embeddings, shaped as `like`; None means zeros, or "" where zeros were not trained."""
        if negative_prompt is None and self._force_zeros:
            return Encoded(torch.zeros_like(like.embeds), torch.zeros_like(like.pooled))
        return self.encode(negative_prompt or "")

    def _compute(self, prompt: str) -> Encoded:
        states, truncated = [], []
        pooled = None
        for tokenizer, encoder in zip(self._tokenizers, self._encoders, strict=True):
            length = tokenizer.model_max_length
            whole = tokenizer(prompt, truncation=False, verbose=False).input_ids
            tokens = tokenizer(prompt, padding="max_length", max_length=length, truncation=True, return_tensors="pt")
            truncated.append(max(0, len(whole) - length))
            output = encoder(tokens.input_ids.to(encoder.device), output_hidden_states=True)
            states.append(output.hidden_states[-2])
            pooled = output[0]
        assert pooled is not None
        return Encoded(torch.cat(states, dim=-1), pooled, (truncated[0], truncated[1]))
