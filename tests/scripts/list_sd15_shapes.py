#!/usr/bin/env python3
"""Write sd15_shapes.json: every parameter of a Stable Diffusion 1.5 pipeline, name and shape.

Takes: the configurations below, which are those of the published checkpoint.
Gives: configs and shapes per component, read off diffusers' and transformers' own modules, built
without weights; make_sd15_random.py needs only that file and NumPy.
Never: allocates a weight.

Needs: requirements-dev.txt.
Example: python3 tests/scripts/list_sd15_shapes.py
"""

import argparse
import json
import pathlib
import sys

from accelerate import init_empty_weights
from diffusers import AutoencoderKL, PNDMScheduler, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel

OUT = pathlib.Path(__file__).with_name("sd15_shapes.json")
UNET = {"sample_size": 64, "cross_attention_dim": 768, "attention_head_dim": 8}
VAE = {
    "block_out_channels": (128, 256, 512, 512),
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
    "layers_per_block": 2,
    "latent_channels": 4,
    "sample_size": 512,
}
TEXT = {
    "vocab_size": 49408,
    "hidden_size": 768,
    "intermediate_size": 3072,
    "projection_dim": 768,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "hidden_act": "quick_gelu",
    "bos_token_id": 0,
    "eos_token_id": 2,
    "pad_token_id": 1,
}
SCHEDULER = {
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "skip_prk_steps": True,
    "steps_offset": 1,
}
# What Stable Diffusion 1.5 is known to have.
UNET_PARAMETERS = 859_520_964


def shapes_of(module, prefix: str = "") -> dict[str, list[int]]:
    """Sorted names and shapes; CLIP's keys start with `text_model.` in published checkpoints."""
    return {prefix + name: list(p.shape) for name, p in sorted(module.named_parameters())}


def config_of(module) -> dict:
    """The config.json that save_pretrained would write."""
    return json.loads(module.to_json_string())


def main() -> int:
    """Builds the modules, writes the file."""
    argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    ).parse_args()
    with init_empty_weights():
        unet, vae = UNet2DConditionModel(**UNET), AutoencoderKL(**VAE)
        text = CLIPTextModel(CLIPTextConfig(**TEXT))
    count = sum(parameter.numel() for parameter in unet.parameters())
    if count != UNET_PARAMETERS:
        print(f"the UNet has {count} parameters, wanted {UNET_PARAMETERS}", file=sys.stderr)
        return 1
    text_prefix = "" if any("text_model." in name for name in text.state_dict()) else "text_model."
    components = {
        "unet": (config_of(unet), shapes_of(unet)),
        "vae": (config_of(vae), shapes_of(vae)),
        "text_encoder": (config_of(text.config), shapes_of(text, text_prefix)),
    }
    parts = []
    for name, (config, shapes) in components.items():
        rows = ",\n".join(f"   {json.dumps(key)}: {shape}" for key, shape in shapes.items())
        parts.append(f'  "{name}": {{"config": {json.dumps(config)}, "shapes": {{\n{rows}\n  }}}}')
    scheduler = json.dumps(config_of(PNDMScheduler(**SCHEDULER)))
    body = ",\n".join(parts)
    OUT.write_text(f'{{\n "scheduler": {scheduler},\n "components": {{\n{body}\n }}\n}}\n')
    json.loads(OUT.read_text())
    print(f"{OUT.name}: {sum(len(shapes) for _, shapes in components.values())} tensors")
    return 0


if __name__ == "__main__":
    sys.exit(main())
