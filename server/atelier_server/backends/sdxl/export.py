"""A checkpoint's parts in forms that compilers take. Outputs are float32 whatever the modules' dtype.

The UNet becomes two: `Text` computes the keys and values of all cross-attention layers from the text, once a batch
composition, and `Step` takes them as inputs at every step.
"""

import copy
from typing import Any

import torch

_TEXT_LAYERS = ("to_k", "to_v")


class Given(torch.nn.Module):
    """Stands in a layer's place and gives what it was told to."""

    def __init__(self) -> None:
        super().__init__()
        self.value: torch.Tensor | None = None

    def forward(self, _: torch.Tensor) -> torch.Tensor:
        """The given value."""
        assert self.value is not None, "Step gives a value to every layer before it calls the UNet"
        return self.value


class Text(torch.nn.Module):
    """[rows, tokens, width] to the keys and values [rows, tokens, inner] of every cross-attention layer."""

    def __init__(self, layers: list[torch.nn.Module], dtype: torch.dtype) -> None:
        super().__init__()
        self.layers = torch.nn.ModuleList(layers)
        self.dtype = dtype

    def forward(self, states: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Keys and values by layers, in the order of `text_layers`."""
        return tuple(layer(states.to(self.dtype)).float() for layer in self.layers)


class Step(torch.nn.Module):
    """A UNet that reads keys and values instead of text."""

    def __init__(self, unet: Any, given: list[Given], takes_guidance: bool) -> None:
        super().__init__()
        self.unet, self.given, self.takes_guidance = unet, given, takes_guidance

    def forward(self, sample: torch.Tensor, timestep: torch.Tensor, *rest: torch.Tensor) -> torch.Tensor:
        """`rest` is pooled text, time ids, the guidance embedding where the UNet takes one, keys and values."""
        dtype = self.unet.dtype
        pooled, time_ids, *others = rest
        guidance = others.pop(0).to(dtype) if self.takes_guidance else None
        for layer, value in zip(self.given, others, strict=True):
            layer.value = value.to(dtype)
        predicted = self.unet(
            sample.to(dtype),
            timestep,
            encoder_hidden_states=others[0].to(dtype),  # only its number of rows and tokens is read
            timestep_cond=guidance,
            added_cond_kwargs={"text_embeds": pooled.to(dtype), "time_ids": time_ids},
            return_dict=False,
        )[0]
        for layer in self.given:
            layer.value = None  # what is traced must leave a module as it found it
        return predicted.float()  # type: ignore[no-any-return]


class Decoder(torch.nn.Module):
    """A VAE's decoder: latents [1, channels, h, w] to a picture [1, 3, height, width] in -1..1."""

    def __init__(self, vae: Any) -> None:
        super().__init__()
        self.vae = vae

    def forward(self, latents: torch.Tensor) -> torch.Tensor:
        """Decodes."""
        return self.vae.decode(latents.to(self.vae.dtype), return_dict=False)[0].float()  # type: ignore[no-any-return]


def split_text(unet: Any) -> tuple[Step, Text]:
    """Takes the layers that read text out of a UNet. The UNet itself is left as it was; weights are shared."""
    memo = {id(parameter): parameter for parameter in (*unet.parameters(), *unet.buffers())}
    unet = copy.deepcopy(unet, memo)
    layers = text_layers(unet)
    given: list[Given] = []
    for module in _cross_attentions(unet):
        for key in _TEXT_LAYERS:
            given.append(Given())
            setattr(module, key, given[-1])
    return Step(unet, given, unet.config.time_cond_proj_dim is not None), Text(layers, unet.dtype)


def text_layers(unet: Any) -> list[torch.nn.Module]:
    """The layers of a UNet that make keys and values of the text, in the order in which `Step` takes their results."""
    return [getattr(module, key) for module in _cross_attentions(unet) for key in _TEXT_LAYERS]


def _cross_attentions(unet: Any) -> list[torch.nn.Module]:
    return [module for name, module in unet.named_modules() if name.endswith(".attn2")]


def example_inputs(unet: Any, tokens: int = 77) -> tuple[torch.Tensor, ...]:
    """Two rows of what the `unet` graph takes before the keys and values, small; for tracing."""
    config = unet.config
    side = 2 ** len(config.block_out_channels)
    pooled = int(config.projection_class_embeddings_input_dim) - 6 * int(config.addition_time_embed_dim)
    guidance = [torch.zeros(2, int(config.time_cond_proj_dim))] if config.time_cond_proj_dim is not None else []
    sample = torch.zeros(2, int(config.in_channels), side, side)
    return sample, torch.full((2,), 500.0), torch.zeros(2, pooled), torch.ones(2, 6), *guidance
