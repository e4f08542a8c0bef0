#!/usr/bin/env python3
"""Distil a student by each method and set its latents beside those that diffusers samples of it.

Takes: a built splamc, MODEL (a small diffusers pipeline) and DATA (pictures with captions).
Gives: per method and number of steps the largest difference of the final latents as a share of the
largest magnitude; exit code 1 when one is above --bar.
Never: trains for long. Six updates make a student that differs from its teacher; how good it is is
another question.

Students are opened by `StableDiffusionPipeline.from_pretrained`, LoRA files by `load_lora_weights`
(which needs peft). Both sides start from the same latents and add the same noise. PeRFlow is left
out: diffusers has no sampler for it.
Needs: requirements-dev.txt and peft.
Example: python3 tests/scripts/compare_students.py MODEL examples/pictures --splamc target/release/splamc
"""

import argparse
import pathlib
import subprocess
import sys
import tempfile

import diffusers.schedulers.scheduling_lcm as scheduling
import numpy as np
import torch
from diffusers import LCMScheduler, StableDiffusionPipeline
from safetensors.numpy import load_file, save_file

PROMPT = "a red circle"
PIXELS = 64
TRAINING = ["--resolution", str(PIXELS), "--steps", "6", "--lr", "2e-3", "--ema-decay", "0.5"]
LORA = "pytorch_lora_weights.safetensors"
# Method, its options, and the guidance scale that diffusers' pipeline is called with.
STUDENTS = [
    ("lcm", ["--guidance", "3..8"], 8.5),
    ("lcm", [], 1.0),
    ("splad", ["--k", "40"], 1.0),
    ("splad", ["--k", "40", "--gamma-embed", "official"], 1.0),
    ("splad", ["--k", "40", "--gamma-embed", "matched"], 1.0),
    ("lcm-lora", ["--rank", "4", "--alpha", "2"], 1.0),
]


def run(command):
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(map(str, command))}\n{done.stderr}")


def opened(model, student, lora):
    """The student as diffusers reads it."""
    if not lora:
        return StableDiffusionPipeline.from_pretrained(student, safety_checker=None)
    pipeline = StableDiffusionPipeline.from_pretrained(model, safety_checker=None)
    pipeline.scheduler = LCMScheduler.from_pretrained(student / "scheduler")
    pipeline.load_lora_weights(student, weight_name=LORA)
    return pipeline


def theirs(pipeline, steps, guidance, latents, noise):
    draws = iter(noise)
    scheduling.randn_tensor = lambda *_, **__: torch.from_numpy(next(draws))
    made = pipeline(
        PROMPT,
        num_inference_steps=steps,
        guidance_scale=guidance,
        latents=torch.from_numpy(latents),
        output_type="latent",
    )
    return made.images.numpy()


def ours(options, student, steps, latents, noise, lora, folder):
    given, written = folder / "in.safetensors", folder / "out.safetensors"
    save_file({"init_latents": latents, "step_noise": np.stack(noise)}, given)
    command = [options.splamc, "sample", student, "-p", PROMPT, "--steps", steps, "--exact"]
    command += ["-H", PIXELS, "-W", PIXELS, "--latents-in", given, "--latents-out", written]
    command += ["-o", folder / "out.png"] + (["--lora", student / LORA] if lora else [])
    run(command)
    return load_file(written)["final_latents"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=pathlib.Path)
    parser.add_argument("data", type=pathlib.Path)
    parser.add_argument("--splamc", type=pathlib.Path, default="target/release/splamc")
    parser.add_argument("--bar", type=float, default=1e-3)
    options = parser.parse_args()
    random, worst = np.random.default_rng(0), 0.0
    with tempfile.TemporaryDirectory() as scratch:
        folder = pathlib.Path(scratch)
        for number, (method, settings, guidance) in enumerate(STUDENTS):
            out, lora = folder / str(number), method.endswith("-lora")
            run([options.splamc, "train", options.model, "--method", method, "--data", options.data,
                 "--out", out, *TRAINING, *settings])
            pipeline = opened(options.model, out / "ema", lora)
            pipeline.set_progress_bar_config(disable=True)
            shape = (1, 4, PIXELS // 8, PIXELS // 8)
            for steps in (1, 2, 4):
                draws = random.standard_normal((steps + 1, *shape)).astype(np.float32)
                latents, noise = draws[0], list(draws[1:])
                wanted = theirs(pipeline, steps, guidance, latents, noise)
                found = ours(options, out / "ema", steps, latents, noise, lora, folder)
                apart = float(np.abs(found - wanted).max() / np.abs(wanted).max())
                worst = max(worst, apart)
                print(f"{method} {' '.join(settings)}: {steps} steps, {apart:.1e}", flush=True)
    sys.exit(worst > options.bar)


if __name__ == "__main__":
    main()
