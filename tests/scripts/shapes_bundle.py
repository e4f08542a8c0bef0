"""Bundles a trained teacher and student of the shapes experiment for the repository.

Takes: the teacher's pipeline directory, the student's, and the folder `examples/shapes`.
Gives: `model/`, the student's pipeline, and `teacher/`, the teacher's, with weights in half
precision; what they share with `untrained/` are links to it.
Never: changes a number but by rounding it, or drops what a file says about its weights.

    python tests/scripts/shapes_bundle.py run/teacher/ema run/splad-0/ema examples/shapes
"""

import argparse
import pathlib
import shutil

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

WEIGHTS = "diffusion_pytorch_model.safetensors"
SHARED = ["vae", "text_encoder", "tokenizer"]


def halve(source: pathlib.Path, target: pathlib.Path) -> None:
    stored = load_file(source)
    with safe_open(source, "pt") as opened:
        metadata = opened.metadata() or {}
    weights = {name: tensor.to(torch.float16).contiguous() for name, tensor in stored.items()}
    assert all(tensor.isfinite().all() for tensor in weights.values()), source
    save_file(weights, target, metadata={"format": "pt"} | metadata)


def bundle(source: pathlib.Path, out: pathlib.Path) -> None:
    """Writes what a pipeline does not share: its index, its sampler and its network."""
    shutil.rmtree(out, ignore_errors=True)
    (out / "unet").mkdir(parents=True)
    shutil.copy(source / "model_index.json", out)
    shutil.copytree(source / "scheduler", out / "scheduler")
    shutil.copy(source / "unet/config.json", out / "unet")
    halve(source / "unet" / WEIGHTS, out / "unet" / WEIGHTS)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("teacher", type=pathlib.Path)
    parser.add_argument("student", type=pathlib.Path)
    parser.add_argument("out", type=pathlib.Path)
    arguments = parser.parse_args()
    bundle(arguments.student, arguments.out / "model")
    bundle(arguments.teacher, arguments.out / "teacher")
    for pipeline in ["model", "teacher"]:
        for part in SHARED:
            link = arguments.out / pipeline / part
            link.symlink_to(pathlib.Path("../untrained") / part)


if __name__ == "__main__":
    main()
