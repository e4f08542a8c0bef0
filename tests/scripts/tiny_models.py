"""Tiny Stable Diffusion components with random weights, for goldens.

Takes: a seed, and the few numbers that tell one configuration from another.
Gives: diffusers and transformers modules whose weights are normal with standard deviation
1/sqrt(fan-in), whose norm weights are near 1 and whose biases are near 0, so that every layer
matters and no value overflows.
Never: reads or writes files, apart from the tokenizer that it is told to read.
"""

import random_weights
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel


def randomise(module: torch.nn.Module, seed: int) -> torch.nn.Module:
    """Draws every parameter anew, and puts the module in eval mode."""
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            drawn = random_weights.parameter(seed, name, tuple(parameter.shape))
            parameter.copy_(torch.from_numpy(drawn))
    return module.eval()


def unet_sd15(seed: int, widths: tuple[int, ...] = (32, 48), **changes) -> UNet2DConditionModel:
    """A UNet as in Stable Diffusion 1.5: convolutional projections, one number of heads."""
    config = {
        "sample_size": 16,
        "block_out_channels": widths,
        "down_block_types": ("CrossAttnDownBlock2D",) * (len(widths) - 1) + ("DownBlock2D",),
        "up_block_types": ("UpBlock2D",) + ("CrossAttnUpBlock2D",) * (len(widths) - 1),
        "layers_per_block": 2,
        "cross_attention_dim": 32,
        "attention_head_dim": 4,
        "norm_num_groups": widths[0] // 2,
    }
    return randomise(UNet2DConditionModel(**config | changes), seed)


def unet_sd21(seed: int) -> UNet2DConditionModel:
    """A UNet as in Stable Diffusion 2.1: linear projections, heads per level, four levels."""
    return unet_sd15(
        seed,
        widths=(8, 12, 16, 24),
        layers_per_block=1,
        cross_attention_dim=24,
        attention_head_dim=(2, 3, 4, 4),
        norm_num_groups=4,
        use_linear_projection=True,
        upcast_attention=True,
    )


def unet_sdxl(seed: int) -> UNet2DConditionModel:
    """A UNet as in SDXL: size and pooled-text conditioning, transformers of several depths.

    Head widths are 10 and 6: no power of two.
    """
    return unet_sd15(
        seed,
        widths=(8, 20, 24),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        layers_per_block=1,
        cross_attention_dim=28,
        attention_head_dim=(1, 2, 4),
        transformer_layers_per_block=(1, 2, 3),
        norm_num_groups=4,
        use_linear_projection=True,
        addition_embed_type="text_time",
        addition_time_embed_dim=8,
        # Six sinusoids of 8, and 20 of the pooled text.
        projection_class_embeddings_input_dim=6 * 8 + 20,
    )


def vae(seed: int, widths: tuple[int, ...] = (8, 16, 16, 32), **changes) -> AutoencoderKL:
    """An autoencoder as in Stable Diffusion, of factor 2^(levels - 1)."""
    config = {
        "block_out_channels": widths,
        "down_block_types": ("DownEncoderBlock2D",) * len(widths),
        "up_block_types": ("UpDecoderBlock2D",) * len(widths),
        "latent_channels": 4,
        "layers_per_block": 1,
        "norm_num_groups": 4,
        "sample_size": 128,
        "scaling_factor": 0.18215,
    }
    return randomise(AutoencoderKL(**config | changes), seed)


def text_encoder(seed: int, kind: type = CLIPTextModel, **changes) -> CLIPTextModel:
    """A CLIP text tower of class `kind` for the tiny tokenizer: 934 entries, start 932, end 933."""
    config = {
        "vocab_size": 934,
        "hidden_size": 32,
        "intermediate_size": 64,
        "projection_dim": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "max_position_embeddings": 77,
        "hidden_act": "quick_gelu",
        "bos_token_id": 932,
        "eos_token_id": 933,
        "pad_token_id": 933,
    }
    return randomise(kind(CLIPTextConfig(**config | changes)), seed)
