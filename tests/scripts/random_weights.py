"""Random weights that a few lines describe: the same values here and in tests/support/random.rs.

Takes: a seed, names and shapes.
Gives: f32 tensors; and instead of a safetensors file of them a list of its tensors, from which the
tests make the file again.
Never: asks torch's or numpy's generators, which no other program has.

The value i of a tensor is mean + spread · n, rounded once to f32, where n is the sum of the four
16-bit parts of word i of splitmix64 (Steele et al. 2014) from the state
mix(seed · γ + FNV-1a(name)), less its mean and over its deviation: near a normal value, and exact in
f64.

Needs: numpy, safetensors.
"""

import contextlib
import pathlib
import shutil
import tempfile
from collections.abc import Iterator

import numpy as np
from safetensors.numpy import load_file, save_file

GAMMA = np.uint64(0x9E3779B97F4A7C15)
# The mean of the sum of four numbers of 16 bits, and its deviation, 65536 / √3.
MEAN, DEVIATION = 131070.0, 37837.0
SUFFIX = ".random"
# How far norm weights stray from 1, and biases from 0: enough to notice one that is left out.
NORM_SPREAD = 0.1
BIAS_SPREAD = 0.05
# An embedding is looked up, not summed over: its entries are of the size of a layer's output.
EMBEDDING_SPREAD = 0.5


def mix(words: np.ndarray) -> np.ndarray:
    """The output function of splitmix64."""
    words = (words ^ (words >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    words = (words ^ (words >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return words ^ (words >> np.uint64(31))


def counters(count: int) -> np.ndarray:
    """γ, 2γ, … modulo 2^64."""
    return np.arange(1, count + 1, dtype=np.uint64) * GAMMA


def key(seed: int, name: str) -> np.ndarray:
    """The state that a tensor's words start from."""
    state = 0xCBF29CE484222325
    for byte in name.encode():
        state = (state ^ byte) * 0x100000001B3 % 2**64
    return mix(np.array([(seed * int(GAMMA) + state) % 2**64], dtype=np.uint64))


def values(seed: int, name: str, shape: tuple[int, ...], mean: float, spread: float) -> np.ndarray:
    """A tensor."""
    words = mix(key(seed, name) + counters(int(np.prod(shape))))
    parts = words.view(np.uint16).reshape(-1, 4).astype(np.float64).sum(axis=1)
    return (mean + spread * ((parts - MEAN) / DEVIATION)).astype(np.float32).reshape(shape)


def mean_and_spread(name: str, shape: tuple[int, ...]) -> tuple[float, float]:
    """What a parameter's values are around, and how far from it: every layer matters, none overflows."""
    if "embeddings." in name:
        return 0.0, EMBEDDING_SPREAD
    if len(shape) >= 2:
        return 0.0, float(f"{np.prod(shape[1:]) ** -0.5:.4g}")
    return (1.0, NORM_SPREAD) if name.endswith("weight") else (0.0, BIAS_SPREAD)


def parameter(seed: int, name: str, shape: tuple[int, ...]) -> np.ndarray:
    """A parameter by the rule for its name and shape."""
    return values(seed, name, shape, *mean_and_spread(name, shape))


def checksum(tensors: list[np.ndarray]) -> int:
    """A sum over all values in their order, each with its place."""
    words = np.concatenate([tensor.reshape(-1) for tensor in tensors]).view(np.uint32)
    return int(np.sum(mix(words.astype(np.uint64) + counters(words.size)), dtype=np.uint64))


def describe_file(path: pathlib.Path, seed: int) -> None:
    """Replaces a safetensors file by the list of its tensors, all of them `parameter`'s."""
    tensors = dict(sorted(load_file(path).items()))
    lines = [f"seed {seed} checksum {checksum(list(tensors.values())):016x}"]
    for name, tensor in tensors.items():
        if not np.array_equal(tensor, parameter(seed, name, tensor.shape)):
            raise ValueError(f"{path}: {name} is not of this generator")
        mean, spread = mean_and_spread(name, tensor.shape)
        lines.append(f"{name} {'x'.join(map(str, tensor.shape))} {mean:g} {spread:g}")
    path.with_name(path.name + SUFFIX).write_text("\n".join(lines) + "\n")
    path.unlink()


def describe(component: pathlib.Path, seed: int) -> None:
    """Describes the one safetensors file of a component."""
    (path,) = component.glob("*.safetensors")
    describe_file(path, seed)


def made(path: pathlib.Path) -> dict[str, np.ndarray]:
    """The tensors that a list describes."""
    first, *lines = (line.split(" ") for line in path.read_text().splitlines())
    tensors = {}
    for name, shape, mean, spread in lines:
        extents = tuple(map(int, shape.split("x")))
        tensors[name] = values(int(first[1]), name, extents, float(mean), float(spread))
    if f"{checksum(list(tensors.values())):016x}" != first[3]:
        raise ValueError(f"{path}: the checksum differs")
    return tensors


@contextlib.contextmanager
def complete(golden: pathlib.Path) -> Iterator[pathlib.Path]:
    """A copy of a folder of goldens that has every file of weights."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = pathlib.Path(scratch) / golden.name
        shutil.copytree(golden, folder)
        for path in sorted(folder.rglob("*" + SUFFIX)):
            save_file(made(path), path.with_suffix(""), {"format": "pt"})
        yield folder
