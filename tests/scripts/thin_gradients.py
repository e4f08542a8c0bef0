#!/usr/bin/env python3
"""Keep a sample of every tensor of a safetensors file.

Takes: IN and OUT, safetensors files of f32 tensors.
Gives: OUT with the same names; of a tensor with more than --keep elements those at floor(i·n/keep),
row-major, as a vector; smaller ones whole, as vectors.
Never: changes a value.

Gradients of whole networks are as large as the networks; a few elements of each tensor, spread over
all of it, find any error that is worth finding. Needs: numpy, safetensors.
Example: python3 tests/scripts/thin_gradients.py grads.safetensors tests/golden/grads/grads.safetensors
"""

import argparse
import pathlib
import sys

import numpy as np
from safetensors.numpy import load_file, save_file


def thinned(tensor: np.ndarray, keep: int) -> np.ndarray:
    """At most `keep` elements."""
    flat = tensor.reshape(-1)
    if flat.size <= keep:
        return flat.copy()
    return flat[np.arange(keep) * flat.size // keep]


def main() -> int:
    """Thins one file."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("source", type=pathlib.Path)
    parser.add_argument("out", type=pathlib.Path)
    parser.add_argument("--keep", type=int, default=128)
    options = parser.parse_args()
    tensors = load_file(options.source)
    save_file({name: thinned(x, options.keep) for name, x in tensors.items()}, options.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
