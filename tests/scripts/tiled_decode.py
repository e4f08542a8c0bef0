#!/usr/bin/env python3
"""Decode latents in overlapping tiles with diffusers' decoder: the reference of --vae-tiling.

Takes: a golden pipeline and one of its runs.
Gives: vae_tiling.safetensors in it: `decoded_thirds`, every third row and column of what the tiles
of TILE and OVERLAP blend to.
Never: calls AutoencoderKL.tiled_decode, whose tiles and seams are others; --compare tells how far
from it, and from decoding at once, the result is.

The picture is the sum of weight times tile over the sum of weights. A weight is the product of one
for rows and one for columns, which rise and fall linearly over what neighbours share.

Needs: requirements-dev.txt.
Example: python3 tests/scripts/tiled_decode.py tests/golden/pipeline --compare
"""

import argparse
import pathlib

import random_weights
import recording
import torch
from diffusers import AutoencoderKL
from safetensors.torch import load_file

RUN = "euler6_nocfg_24x16"
# Rows and columns in latents: on both axes the last tile has to move inwards.
TILE = (11, 7)
OVERLAP = (3, 2)


def starts(extent: int, tile: int, overlap: int) -> list[int]:
    """Where tiles begin: the last one ends with the picture."""
    found = [0]
    while found[-1] + tile < extent:
        found.append(min(found[-1] + tile - overlap, extent - tile))
    return found


def ramp(begin: list[int], number: int, length: int) -> torch.Tensor:
    """The weights of a tile's pixels along an axis; `begin` and `length` in pixels."""
    weights = torch.ones(length, dtype=torch.float64)
    for pixel in range(length):
        middle = pixel + 0.5
        if number > 0:
            shared = begin[number - 1] + length - begin[number]
            if shared > 0:
                weights[pixel] = min(weights[pixel], middle / shared)
        if number + 1 < len(begin):
            shared = begin[number] + length - begin[number + 1]
            if shared > 0:
                weights[pixel] = min(weights[pixel], (length - middle) / shared)
    return weights


def tiled_decode(vae, latents: torch.Tensor, tile=TILE, overlap=OVERLAP) -> torch.Tensor:
    """Decodes scaled latents [B,C,h,w] to [B,3,H,W] in the type of the decoder."""
    scaled = latents / vae.config.scaling_factor
    rows, columns = (
        starts(scaled.shape[axis], size, shared)
        for axis, size, shared in zip((2, 3), tile, overlap, strict=True)
    )
    total, weights = None, None
    for i, top in enumerate(rows):
        for k, left in enumerate(columns):
            part = scaled[:, :, top : top + tile[0], left : left + tile[1]]
            with torch.no_grad():
                decoded = vae.decode(part).sample.double()
            scale = decoded.shape[2] // tile[0]
            if total is None:
                size = [extent * scale for extent in scaled.shape[2:]]
                total = torch.zeros((*decoded.shape[:2], *size), dtype=torch.float64)
                weights = torch.zeros(size, dtype=torch.float64)
            down = ramp([start * scale for start in rows], i, tile[0] * scale)
            across = ramp([start * scale for start in columns], k, tile[1] * scale)
            weight = down[:, None] * across[None, :]
            window = (
                slice(top * scale, (top + tile[0]) * scale),
                slice(left * scale, (left + tile[1]) * scale),
            )
            total[(..., *window)] += weight * decoded
            weights[window] += weight
    return (total / weights).to(latents.dtype)


def compare(vae, latents: torch.Tensor, decoded: torch.Tensor) -> None:
    """Prints mean and largest differences, in 255ths of the range of pixels."""
    with torch.no_grad():
        whole = vae.decode(latents / vae.config.scaling_factor).sample
        vae.enable_tiling()
        vae.tile_latent_min_size = TILE[0]
        vae.tile_sample_min_size = TILE[0] * decoded.shape[2] // latents.shape[2]
        vae.tile_overlap_factor = OVERLAP[0] / TILE[0]
        theirs = vae.decode(latents / vae.config.scaling_factor).sample
    square = tiled_decode(vae_without_tiling(vae), latents, (TILE[0],) * 2, (OVERLAP[0],) * 2)
    for name, got, want in [
        ("tiles and the whole", decoded, whole),
        ("square tiles and the whole", square, whole),
        ("diffusers' square tiles and the whole", theirs, whole),
        ("square tiles and diffusers' square tiles", square, theirs),
    ]:
        apart = (got - want).abs() * 127.5
        print(f"{name}: mean {apart.mean():.3f}, largest {apart.max():.1f}")


def vae_without_tiling(vae):
    """The same autoencoder, decoding at once again."""
    vae.disable_tiling()
    return vae


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("golden", type=pathlib.Path)
    parser.add_argument("--compare", action="store_true")
    arguments = parser.parse_args()
    with random_weights.complete(arguments.golden) as folder:
        vae = AutoencoderKL.from_pretrained(folder / "model/vae").eval()
    latents = load_file(arguments.golden / "runs" / RUN / "tensors.safetensors")["final_latents"]
    decoded = tiled_decode(vae, latents)
    path = arguments.golden / "vae_tiling.safetensors"
    recording.save(recording.thinned({"decoded": decoded}), path)
    if arguments.compare:
        compare(vae, latents, decoded)


if __name__ == "__main__":
    main()
