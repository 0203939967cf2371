"""Weights of a large UNet in the layout that the processor's matrix units want, packed once instead of at every call.

Full-size SDXL has 5 GB of them in bfloat16; a step of two rows at 512² took 2.6 s instead of 3.0, with the activations
in channels_last too (two cores with AMX). Small models are limited by their activations, and lose in wide batches.
"""

from typing import Any

import torch

LEAST_PARAMETERS = 100_000_000


def pack(unet: Any) -> bool:
    """Replaces a UNet's convolutions and linear layers by packed ones, where that pays. Returns whether it did.

    The UNet stays on its CPU and in its dtype from then on.
    """
    if unet.device.type != "cpu" or unet.dtype is not torch.bfloat16 or not torch.backends.mkldnn.is_available():
        return False
    count = sum(one.numel() for one in unet.parameters())
    if count < LEAST_PARAMETERS or not torch.ops.mkldnn._is_mkldnn_bf16_supported():
        return False
    for module in list(unet.modules()):
        for name, layer in list(module.named_children()):
            if type(layer) is torch.nn.Linear:
                setattr(module, name, PackedLinear(layer))
            elif (
                type(layer) is torch.nn.Conv2d and layer.padding_mode == "zeros" and not isinstance(layer.padding, str)
            ):
                setattr(module, name, PackedConv2d(layer))
    return True


class PackedLinear(torch.nn.Module):
    """As the layer that it is made of.

    Args:
        layer: Its weights are copied.
    """

    def __init__(self, layer: torch.nn.Linear) -> None:
        super().__init__()
        self._weight = torch.ops.mkldnn._reorder_linear_weight(layer.weight.detach(), None)
        self.bias = layer.bias

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        """[…, in] to […, out]."""
        result: torch.Tensor = torch.ops.mkldnn._linear_pointwise(states, self._weight, self.bias, "none", [], "")
        return result


class PackedConv2d(torch.nn.Module):
    """As the layer that it is made of.

    Args:
        layer: Its weights are copied.
    """

    def __init__(self, layer: torch.nn.Conv2d) -> None:
        super().__init__()
        self._how = (list(layer.padding), list(layer.stride), list(layer.dilation), layer.groups)
        self._weight = torch.ops.mkldnn._reorder_convolution_weight(layer.weight.detach(), *self._how, None)
        self.bias = layer.bias

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        """[rows, in, h, w] to [rows, out, h', w']."""
        result: torch.Tensor = torch.ops.mkldnn._convolution_pointwise(
            states, self._weight, self.bias, *self._how, "none", [], ""
        )
        return result
