"""Make tests/golden/pictures: files of pictures, and what Pillow makes of them.

Takes: the folder to write to (default tests/golden/pictures).
Gives: small pictures in the formats that training reads, and pictures.safetensors with their RGB
values (`<file>`, u8 [rows, columns, 3]) and with `rows x columns` of noise.png resized, also by other
filters; `clean` and `torch` are clean-fid's and pytorch-fid's rules, f32 [3, rows, columns].
Never: reads the compiler.

Needs: requirements-dev.txt.
"""

import hashlib
import json
import pathlib
import sys

import numpy
import PIL
import torch
from PIL import Image, ImageOps
from safetensors.numpy import save_file

SEED = 20261
ORIENTATION = 0x0112
# Smaller, larger, one axis only, far smaller, and to a single pixel.
SIZES = [(16, 16), (23, 12), (50, 61), (37, 23), (5, 64), (1, 1), (37, 22), (36, 23)]


def smooth(rows: int, columns: int) -> numpy.ndarray:
    """Slow gradients, which JPEG keeps."""
    y, x = numpy.mgrid[0:rows, 0:columns]
    channels = [255 * x / columns, 255 * y / rows, 128 + 100 * numpy.sin((x + y) / 9)]
    return numpy.stack(channels, axis=2).astype(numpy.uint8)


def write(folder: pathlib.Path) -> list[str]:
    """Writes the files; returns their names."""
    draw = numpy.random.default_rng(SEED)
    noise = draw.integers(0, 256, (37, 23, 4), dtype=numpy.uint8)
    rgb = Image.fromarray(noise[:, :, :3].copy())
    rgb.save(folder / "noise.png")
    Image.fromarray(noise).save(folder / "transparent.png")
    rgb.quantize(16).save(folder / "palette.png", transparency=3)
    Image.fromarray(noise[:, :, 0].copy()).save(folder / "grey.png")
    Image.fromarray(noise).save(folder / "lossless.webp", lossless=True, exact=True)
    picture = Image.fromarray(smooth(24, 40))
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    picture.save(folder / "turned.jpg", quality=95, subsampling=0, exif=exif)
    picture.save(folder / "halved.jpg", quality=90, subsampling=2)
    picture.convert("L").save(folder / "grey.jpg", quality=95)
    return sorted(path.name for path in folder.iterdir() if path.suffix in (".png", ".webp", ".jpg"))


def clean(image: Image.Image, rows: int, columns: int) -> numpy.ndarray:
    """clean-fid's `resize_single_channel`: each channel as floats, bicubic."""
    channels = [Image.fromarray(channel) for channel in numpy.array(image).astype(numpy.float32).transpose(2, 0, 1)]
    resized = [channel.resize((columns, rows), Image.Resampling.BICUBIC) for channel in channels]
    return numpy.stack([numpy.array(channel).clip(0, 255) for channel in resized])


def between(image: Image.Image, rows: int, columns: int) -> numpy.ndarray:
    """pytorch-fid's resizing inside of its network."""
    pixels = torch.from_numpy(numpy.array(image).astype(numpy.float32).transpose(2, 0, 1).copy())
    sized = torch.nn.functional.interpolate(pixels[None], size=(rows, columns), mode="bilinear", align_corners=False)
    return sized[0].numpy()


def main():
    folder = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else "tests/golden/pictures")
    folder.mkdir(parents=True, exist_ok=True)
    names = write(folder)
    tensors = {}
    for name in names:
        image = ImageOps.exif_transpose(Image.open(folder / name))
        tensors[name] = numpy.array(image.convert("RGB"))
    noise = Image.open(folder / "noise.png")
    for rows, columns in SIZES:
        resized = noise.resize((columns, rows), Image.Resampling.BILINEAR)
        tensors[f"{rows}x{columns}"] = numpy.array(resized)
    for rows, columns in SIZES[:3]:
        for name, filter in (("bicubic", Image.Resampling.BICUBIC), ("lanczos", Image.Resampling.LANCZOS)):
            tensors[f"{name} {rows}x{columns}"] = numpy.array(noise.resize((columns, rows), filter))
        tensors[f"clean {rows}x{columns}"] = clean(noise, rows, columns)
        tensors[f"torch {rows}x{columns}"] = between(noise, rows, columns)
    save_file(tensors, folder / "pictures.safetensors")
    hashes = {}
    for name in [*names, "pictures.safetensors"]:
        hashes[name] = hashlib.sha256((folder / name).read_bytes()).hexdigest()
    versions = {"pillow": PIL.__version__, "numpy": numpy.__version__, "torch": torch.__version__}
    made = {"script": "tests/scripts/make_picture_goldens.py", "seed": SEED, "versions": versions}
    meta = {"made_by": made, "sha256": hashes}
    (folder / "meta.json").write_text(json.dumps(meta, indent=1) + "\n")


if __name__ == "__main__":
    main()
