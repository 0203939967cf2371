"""The starter's architecture in one place: the same classes as SDXL's, a few hundred times smaller.

Used by the training scripts, by `make_untrained.py` (random weights for tests) and by the export.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, EulerDiscreteScheduler, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

import tokenizer as bpe

WIDTH_1, WIDTH_2, PROJECTION = 96, 160, 128
CHANNELS = 12
"""Latent channels. With 4 (SDXL's number) and 8x reduction small colours were not in the latents at all; 4x reduction
keeps them, but 32x32 latents cost three times the training. 12 channels at 8x hold more in a quarter of the places."""
LATENT = 16
"""Side of the latents at the native size, 128 pixels."""


def make_vae() -> AutoencoderKL:
    """A KL autoencoder with 8x reduction as SDXL's, 12 latent channels and no attention."""
    return AutoencoderKL(
        in_channels=3,
        out_channels=3,
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(16, 32, 64, 128),
        layers_per_block=1,
        latent_channels=CHANNELS,
        norm_num_groups=1,  # many groups of one channel would normalise the colours away
        mid_block_add_attention=False,
        sample_size=LATENT * 8,
        scaling_factor=1.0,
        force_upcast=False,
    )


def make_unet() -> UNet2DConditionModel:
    """SDXL's UNet in small: three levels, text cross-attention in the lower two, text_time conditioning."""
    return UNet2DConditionModel(
        sample_size=LATENT,
        in_channels=CHANNELS,
        out_channels=CHANNELS,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        block_out_channels=(64, 128, 192),
        layers_per_block=1,
        transformer_layers_per_block=(1, 1, 1),
        attention_head_dim=(2, 4, 6),
        norm_num_groups=16,
        cross_attention_dim=WIDTH_1 + WIDTH_2,
        addition_embed_type="text_time",
        addition_time_embed_dim=32,
        projection_class_embeddings_input_dim=PROJECTION + 6 * 32,
        use_linear_projection=True,
    )


def text_config(width: int, layers: int, tokens: int, **more: Any) -> CLIPTextConfig:
    """A CLIP text tower; the special ids are those of our vocabulary, in which they are the last two."""
    return CLIPTextConfig(
        vocab_size=tokens,
        hidden_size=width,
        intermediate_size=width * 4,
        num_hidden_layers=layers,
        num_attention_heads=width // 32,
        max_position_embeddings=bpe.MAX_LENGTH,
        hidden_act="gelu",
        bos_token_id=tokens - 2,
        eos_token_id=tokens - 1,
        pad_token_id=tokens - 1,
        **more,
    )


def make_text_encoders(tokens: int) -> tuple[CLIPTextModel, CLIPTextModelWithProjection]:
    """The two text encoders for a vocabulary of `tokens` entries."""
    first = CLIPTextModel(text_config(WIDTH_1, 3, tokens, projection_dim=PROJECTION))
    second = CLIPTextModelWithProjection(text_config(WIDTH_2, 4, tokens, projection_dim=PROJECTION))
    return first, second


def make_noise_schedule() -> EulerDiscreteScheduler:
    """DDPM's linear betas instead of SDXL's scaled-linear ones: they end at a sigma of 157, where nothing of the
    picture is left, so that samples start from what training saw and reach very dark and very light pictures. (SDXL's
    end at 14.6: the mean colour shines through.) The prediction is v, which weighs high noise, where colour is decided.
    """
    return EulerDiscreteScheduler(
        num_train_timesteps=1000,
        beta_start=0.0001,
        beta_end=0.02,
        beta_schedule="linear",
        prediction_type="v_prediction",
        timestep_spacing="trailing",
        steps_offset=1,
    )


@torch.no_grad()
def encode_prompts(
    texts: list[str], tokenizer: CLIPTokenizer, first: CLIPTextModel, second: CLIPTextModelWithProjection
) -> tuple[torch.Tensor, torch.Tensor]:
    """Encodes as StableDiffusionXLPipeline.encode_prompt: the penultimate states of both encoders side by side
    [n, 77, 256] and the second encoder's projected text embedding [n, 128]."""
    tokens = tokenizer(texts, padding="max_length", max_length=bpe.MAX_LENGTH, truncation=True, return_tensors="pt")
    one = first(tokens.input_ids, output_hidden_states=True).hidden_states[-2]
    two = second(tokens.input_ids, output_hidden_states=True)
    return torch.cat([one, two.hidden_states[-2]], dim=-1), two.text_embeds


def export(
    folder: Path,
    vae: AutoencoderKL,
    unet: UNet2DConditionModel,
    encoders: tuple[CLIPTextModel, CLIPTextModelWithProjection],
    vocab: dict[str, int],
    merges: list[tuple[str, str]],
    preview: dict[str, Any],
) -> None:
    """Writes the diffusers layout. UNet and VAE are stored in fp16; the text encoders in float32, because transformers
    keeps a file's dtype where diffusers loads float32, and the pipeline breaks on the mixture."""
    unet.to(torch.float16).save_pretrained(folder / "unet")
    vae.to(torch.float16).save_pretrained(folder / "vae")
    for part, encoder in zip(("text_encoder", "text_encoder_2"), encoders, strict=True):
        encoder.float().save_pretrained(folder / part)
    for part in ("tokenizer", "tokenizer_2"):
        bpe.save(folder / part, vocab, merges)
    make_noise_schedule().save_pretrained(folder / "scheduler")
    # As in SDXL's file: Euler ignores these, others take them over. DDIM would clip the latents to -1..1.
    path = folder / "scheduler" / "scheduler_config.json"
    more = {"clip_sample": False, "sample_max_value": 1.0, "set_alpha_to_one": False, "skip_prk_steps": True}
    path.write_text(json.dumps(json.loads(path.read_text()) | more, indent=2) + "\n")
    index = {
        "_class_name": "StableDiffusionXLPipeline",
        "_diffusers_version": "0.42.0",
        "feature_extractor": [None, None],
        "force_zeros_for_empty_prompt": True,
        "image_encoder": [None, None],
        "scheduler": ["diffusers", "EulerDiscreteScheduler"],
        "text_encoder": ["transformers", "CLIPTextModel"],
        "text_encoder_2": ["transformers", "CLIPTextModelWithProjection"],
        "tokenizer": ["transformers", "CLIPTokenizer"],
        "tokenizer_2": ["transformers", "CLIPTokenizer"],
        "unet": ["diffusers", "UNet2DConditionModel"],
        "vae": ["diffusers", "AutoencoderKL"],
    }
    (folder / "model_index.json").write_text(json.dumps(index, indent=2) + "\n")
    (folder / "preview.json").write_text(json.dumps(preview, indent=2) + "\n")
