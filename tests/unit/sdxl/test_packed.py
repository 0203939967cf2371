"""A large UNet on a CPU with bfloat16 has its weights packed once, and predicts what it predicted before."""

from pathlib import Path

import pytest
import torch
from diffusers import UNet2DConditionModel

from atelier_server.backends.sdxl import packed
from atelier_server.backends.sdxl.packed import PackedConv2d, PackedLinear, pack

needs_bfloat16 = pytest.mark.skipif(
    not torch.ops.mkldnn._is_mkldnn_bf16_supported(), reason="this processor does not multiply bfloat16"
)


def unet(checkpoint: Path, dtype: torch.dtype) -> UNet2DConditionModel:
    return UNet2DConditionModel.from_pretrained(checkpoint / "unet", torch_dtype=dtype).eval().requires_grad_(False)


def predict(model: UNet2DConditionModel, layout: torch.memory_format = torch.contiguous_format) -> torch.Tensor:
    random = torch.Generator().manual_seed(3)
    pooled = model.config.projection_class_embeddings_input_dim - 6 * model.config.addition_time_embed_dim
    added = {"text_embeds": torch.randn(2, pooled, generator=random).to(model.dtype), "time_ids": torch.ones(2, 6)}
    text = torch.randn(2, 77, model.config.cross_attention_dim, generator=random).to(model.dtype)
    sample = torch.randn(2, model.config.in_channels, 16, 12, generator=random).to(model.dtype, memory_format=layout)
    times = torch.tensor([981.0, 21.0])
    with torch.inference_mode():
        return model(sample, times, text, added_cond_kwargs=added, return_dict=False)[0].float()


@needs_bfloat16
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_a_packed_unet_predicts_the_same(
    checkpoint: Path, monkeypatch: pytest.MonkeyPatch, layout: torch.memory_format
) -> None:
    monkeypatch.setattr(packed, "LEAST_PARAMETERS", 0)
    model, exact = unet(checkpoint, torch.bfloat16), predict(unet(checkpoint, torch.float32))
    rounding = (predict(model) - exact).std()
    assert pack(model)
    kinds = {type(module) for module in model.modules()}
    assert {PackedConv2d, PackedLinear} <= kinds
    assert not {torch.nn.Conv2d, torch.nn.Linear} & kinds
    assert (predict(model, layout) - exact).std() <= 1.2 * rounding


def test_a_small_or_exact_unet_is_left_alone(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not pack(unet(checkpoint, torch.bfloat16))
    monkeypatch.setattr(packed, "LEAST_PARAMETERS", 0)
    model = unet(checkpoint, torch.float32)
    assert not pack(model)
    assert PackedLinear not in [type(module) for module in model.modules()]


@needs_bfloat16
def test_a_packed_unet_predicts_equal_bits_every_time(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packed, "LEAST_PARAMETERS", 0)
    models = [unet(checkpoint, torch.bfloat16) for _ in range(2)]
    assert all(pack(model) for model in models)
    first, second = (predict(model) for model in models)
    assert torch.equal(first, second)
    assert torch.equal(predict(models[0]), first)
