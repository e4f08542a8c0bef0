#!/usr/bin/env python3
"""Write a pipeline directory of Stable Diffusion 1.5's size with random weights.

Takes: sd15_shapes.json beside this script: names and shapes as diffusers has them.
Gives: OUT_DIR, a diffusers directory with unet (859,520,964 parameters), vae, text_encoder and
scheduler, and the tiny golden tokenizer, whose 934 ids fit the text encoder's 49,408. Weights are
normal with standard deviation 1/sqrt(fan-in), norm weights 1, biases 0, embeddings as CLIP starts
them (0.02). A tensor's values depend on the seed and its name alone.
Never: holds more than one tensor in memory.

For speed and memory measurements, and for checking names and shapes at full size: what it draws is
noise. Takes half a minute and 4.3 GB in f32. Needs: numpy.
Example: python3 tests/scripts/make_sd15_random.py /tmp/sd15 --dtype f16 --only unet
"""

import argparse
import hashlib
import json
import math
import pathlib
import shutil
import struct
import sys
import time

import numpy as np

HERE = pathlib.Path(__file__).resolve().parent
SHAPES = HERE / "sd15_shapes.json"
TOKENIZER = HERE.parent / "golden/pipeline/model/tokenizer"
DTYPES = {"f32": np.dtype("<f4"), "f16": np.dtype("<f2")}
EMBEDDING_STD = 0.02
CLASSES = {
    "unet": ["diffusers", "UNet2DConditionModel"],
    "vae": ["diffusers", "AutoencoderKL"],
    "text_encoder": ["transformers", "CLIPTextModel"],
    "tokenizer": ["transformers", "CLIPTokenizer"],
    "scheduler": ["diffusers", "PNDMScheduler"],
}


def values(name: str, shape: list[int], seed: int, dtype: np.dtype) -> np.ndarray:
    """One tensor's values."""
    if len(shape) == 1:
        # One-dimensional weights are those of norms.
        return np.full(shape, 1 if name.endswith(".weight") else 0, dtype)
    name_hash = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "little")
    drawn = np.random.default_rng([seed, name_hash]).standard_normal(shape, np.float32)
    drawn *= EMBEDDING_STD if "embedding.weight" in name else 1 / math.sqrt(math.prod(shape[1:]))
    return drawn.astype(dtype, copy=False)


def header(shapes: dict[str, list[int]], dtype: np.dtype) -> bytes:
    """A safetensors header, padded to 8 bytes as the format's own writer does."""
    entries: dict = {"__metadata__": {"format": "pt"}}
    start = 0
    for name, shape in shapes.items():
        end = start + math.prod(shape) * dtype.itemsize
        entries[name] = {
            "dtype": f"F{8 * dtype.itemsize}",
            "shape": shape,
            "data_offsets": [start, end],
        }
        start = end
    text = json.dumps(entries, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text


def write_weights(
    shapes: dict[str, list[int]], path: pathlib.Path, seed: int, dtype: np.dtype
) -> int:
    """Streams one safetensors file; gives its number of parameters."""
    beside = path.with_name(path.name + ".part")
    with beside.open("wb") as file:
        file.write(header(shapes, dtype))
        for name, shape in shapes.items():
            file.write(values(name, shape, seed, dtype).data)
    beside.rename(path)
    return sum(math.prod(shape) for shape in shapes.values())


def write_json(value, path: pathlib.Path) -> None:
    """Writes indented JSON, making the folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, indent=2) + "\n")


def parse_arguments() -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("out_dir", type=pathlib.Path)
    parser.add_argument("--dtype", choices=sorted(DTYPES), default="f32")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--only", nargs="+", choices=["unet", "vae", "text_encoder"], help="leave the others out"
    )
    return parser.parse_args()


def main() -> int:
    """Writes the components and what binds them."""
    options = parse_arguments()
    listed = json.loads(SHAPES.read_text())
    out: pathlib.Path = options.out_dir
    dtype = DTYPES[options.dtype]
    index: dict = {"_class_name": "StableDiffusionPipeline"}
    for name, component in listed["components"].items():
        if options.only and name not in options.only:
            continue
        started = time.monotonic()
        write_json(component["config"], out / name / "config.json")
        stem = "model" if name == "text_encoder" else "diffusion_pytorch_model"
        path = out / name / f"{stem}.safetensors"
        count = write_weights(component["shapes"], path, options.seed, dtype)
        index[name] = CLASSES[name]
        print(f"{name}: {count} parameters in {time.monotonic() - started:.1f} s", file=sys.stderr)
    write_json(listed["scheduler"], out / "scheduler/scheduler_config.json")
    shutil.copytree(TOKENIZER, out / "tokenizer", dirs_exist_ok=True, copy_function=shutil.copyfile)
    absent = {"safety_checker": [None, None], "feature_extractor": [None, None]}
    index |= {name: CLASSES[name] for name in ("tokenizer", "scheduler")} | absent
    write_json(index | {"requires_safety_checker": False}, out / "model_index.json")
    return 0


if __name__ == "__main__":
    sys.exit(main())
