"""Trains the autoencoder of the shapes experiment: 3 x 64 x 64 pictures, 4 x 16 x 16 latents.

Takes: a folder of pictures that the crate `shapes` rendered, and where the `vae` component goes.
Gives: a component in diffusers' layout whose scaling factor brings latents to unit variance, its
weights in half precision.
Never: sees the pictures that a student or a judge is measured on.

    python tests/scripts/shapes_autoencoder.py PICTURES OUT/vae --steps 1500
    python tests/scripts/shapes_autoencoder.py PICTURES OUT/vae --start OUT/vae --decoder-only
"""

import argparse
import pathlib
import time

import numpy
import torch
from diffusers import AutoencoderKL
from PIL import Image

# Latents close to a normal distribution are easier to denoise, and a blurred picture is worse than
# a latent that is not: the weight is the smallest that keeps latents from spreading.
KL_WEIGHT = 1e-2
BATCH = 8
# The first updates see crops, which cost a quarter, twice as many at once: the share of updates,
# and pixels per side.
CROPPED, CROP = 0.75, 32
LEARNING_RATE = 2e-3
# A decoder alone also learns where edges are: at this weight their error counts about as much as
# that of the pixels.
EDGE_WEIGHT = 1.0


def pictures(folder: pathlib.Path, limit: int) -> torch.Tensor:
    """Returns pictures as bytes, [N, 3, 64, 64]."""
    files = sorted(folder.glob("*.png"))[:limit]
    stacked = numpy.stack([numpy.asarray(Image.open(file).convert("RGB")) for file in files])
    return torch.from_numpy(stacked).permute(0, 3, 1, 2).contiguous()


def autoencoder() -> AutoencoderKL:
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        block_out_channels=(16, 32, 48),
        layers_per_block=1,
        latent_channels=4,
        norm_num_groups=8,
        sample_size=64,
        mid_block_add_attention=False,
    )


def edges(difference: torch.Tensor) -> torch.Tensor:
    """Returns the mean absolute error of differences between neighbouring pixels."""
    return difference.diff(dim=2).abs().mean() + difference.diff(dim=3).abs().mean()


def train(model: AutoencoderKL, data: torch.Tensor, steps: int, decoder_only: bool) -> None:
    """Trains in place. With `decoder_only` latents stay what they are, and so does what a
    diffusion model learned about them."""
    for part in (model.encoder, model.quant_conv):
        part.requires_grad_(not decoder_only)
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, LEARNING_RATE, weight_decay=1e-4)
    warm_up, start = 50, time.time()
    for step in range(steps):
        # Linear warm-up, then a cosine to zero.
        rate = min(1.0, (step + 1) / warm_up) * 0.5 * (1 + numpy.cos(numpy.pi * step / steps))
        optimizer.param_groups[0]["lr"] = LEARNING_RATE * max(rate, 0.01)
        cropped = step < CROPPED * steps
        chosen = torch.randint(len(data), (2 * BATCH if cropped else BATCH,))
        batch = data[chosen].float() / 127.5 - 1
        if cropped:
            x, y = (int(torch.randint(64 - CROP + 1, ())) for _ in range(2))
            batch = batch[:, :, y : y + CROP, x : x + CROP]
        batch = batch.to(memory_format=torch.channels_last)
        posterior = model.encode(batch).latent_dist
        decoded = model.decode(posterior.sample()).sample
        difference = decoded - batch
        kl = posterior.kl().mean() / batch[0].numel()
        loss = difference.abs().mean() + 2 * difference.square().mean() + KL_WEIGHT * kl
        if decoder_only:
            loss = loss + EDGE_WEIGHT * edges(difference)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        if step % 50 == 0 or step == steps - 1:
            rms = difference.square().mean().sqrt().item()
            seconds = time.time() - start
            print(f"step {step} rms {rms:.4f} kl {kl.item():.4f} {seconds:.0f} s", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("pictures", type=pathlib.Path)
    parser.add_argument("out", type=pathlib.Path)
    parser.add_argument("--steps", type=int, default=4000)
    parser.add_argument("--limit", type=int, default=8000, help="how many pictures to read")
    parser.add_argument("--start", type=pathlib.Path, help="a component to go on from")
    parser.add_argument("--decoder-only", action="store_true", help="keep the encoder as it is")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    data = pictures(arguments.pictures, arguments.limit)
    model = AutoencoderKL.from_pretrained(arguments.start) if arguments.start else autoencoder()
    model = model.float().to(memory_format=torch.channels_last)
    print(f"{sum(p.numel() for p in model.parameters())} parameters", flush=True)
    train(model, data, arguments.steps, arguments.decoder_only)
    model.eval()
    with torch.no_grad():
        means, errors = [], []
        for batch in data[-512:].split(64):
            batch = batch.float() / 127.5 - 1
            posterior = model.encode(batch).latent_dist
            means.append(posterior.mean)
            decoded = model.decode(posterior.mean).sample.clamp(-1, 1)
            errors.append((decoded - batch).square().mean())
        means = torch.cat(means)
    if not arguments.decoder_only:
        model.register_to_config(scaling_factor=round(1 / means.std().item(), 5))
    by_channel = [f"{s:.3f}" for s in means.std(dim=(0, 2, 3)) * model.config.scaling_factor]
    print(f"rms {torch.stack(errors).mean().sqrt():.4f}, scaling {model.config.scaling_factor},"
          f" deviation by channel {by_channel},"
          f" means {means.mean(dim=(0, 2, 3)) * model.config.scaling_factor}")
    model.to(memory_format=torch.contiguous_format).half().save_pretrained(arguments.out)


if __name__ == "__main__":
    main()
