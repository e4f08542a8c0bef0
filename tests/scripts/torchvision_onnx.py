#!/usr/bin/env python3
"""Run torchvision's networks through `splamc run` and onnxruntime.

Takes: a built `splamc`; networks of torchvision with random weights of a seed, exported by torch's
default exporter (dynamo) and by the TorchScript exporter.
Gives: one line per network and exporter with the largest difference, relative to the largest
magnitude of onnxruntime's result, and the seconds of both; exit code 1 when a difference is above
1e-4 or a network is refused. The seconds of splamc are those of the process, compilation included.
Never: touches the network.

Needs: torch, torchvision, onnx, onnxscript, onnxruntime, numpy, safetensors.
Example: python3 tests/scripts/torchvision_onnx.py --splamc target/release/splamc --only resnet18
"""

import argparse
import contextlib
import io
import pathlib
import subprocess
import sys
import tempfile
import time
import warnings

import numpy as np
import onnxruntime
import torch
import torchvision
from safetensors.numpy import load_file, save_file

NETWORKS = [
    "alexnet",
    "squeezenet1_1",
    "resnet18",
    "densenet121",
    "mobilenet_v3_small",
    "efficientnet_b0",
    "shufflenet_v2_x1_0",
    "googlenet",
    "inception_v3",
    "vit_b_16",
    "swin_t",
]
EXPORTERS = ["dynamo", "torchscript"]
SEED = 0
SIZE = 224
# Both compute in f32, in sums of up to a few thousand terms in another order, layer after layer.
TOLERANCE = 1e-4


def network(name: str) -> torch.nn.Module:
    """A network with random weights; what starts as zeros, and the statistics of norms, are random too."""
    torch.manual_seed(SEED)
    options = {"init_weights": False} if name in ("googlenet", "inception_v3") else {}
    module = torchvision.models.get_model(name, weights=None, **options).eval()
    for part in module.modules():
        if isinstance(part, torch.nn.modules.batchnorm._BatchNorm):
            torch.nn.init.normal_(part.running_mean, std=0.1)
            torch.nn.init.uniform_(part.running_var, 0.5, 1.5)
    for weights in module.parameters():
        if weights.dim() > 1 and not weights.any():
            torch.nn.init.normal_(weights, std=0.1)
    return module


def export(module: torch.nn.Module, exporter: str, path: pathlib.Path) -> None:
    """Writes the network with an input `x` and a result `y`."""
    image = torch.zeros(1, 3, SIZE, SIZE)
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        torch.onnx.export(
            module,
            (image,),
            path,
            dynamo=exporter == "dynamo",
            input_names=["x"],
            output_names=["y"],
        )


def compare(command: list[str], name: str, exporter: str, folder: pathlib.Path) -> bool:
    """Prints the line of a network; whether it is within the tolerance."""
    path = folder / "model.onnx"
    export(network(name), exporter, path)
    x = np.random.default_rng(SEED).standard_normal((1, 3, SIZE, SIZE), dtype=np.float32)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    started = time.monotonic()
    want = session.run(["y"], {"x": x})[0]
    peer = time.monotonic() - started
    inputs, outputs = folder / "in.safetensors", folder / "out.safetensors"
    save_file({"x": x}, inputs)
    started = time.monotonic()
    done = subprocess.run(
        [*command, "run", path, "--inputs", inputs, "--outputs", outputs],
        capture_output=True,
        text=True,
    )
    own = time.monotonic() - started
    title = f"{name:20} {exporter:12}"
    if done.returncode != 0:
        print(f"{title} exit {done.returncode}: {done.stderr.strip()}")
        return False
    difference = np.abs(load_file(outputs)["y"] - want).max() / np.abs(want).max()
    verdict = "" if difference <= TOLERANCE else "  too far"
    print(f"{title} {difference:.1e}  splamc {own:6.2f} s  onnxruntime {peer:6.3f} s{verdict}")
    return difference <= TOLERANCE


def main() -> int:
    """Exports, runs and compares every network asked for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--splamc", nargs="+", default=["target/release/splamc"], metavar="WORD")
    parser.add_argument("--only", nargs="+", default=NETWORKS, metavar="NETWORK")
    parser.add_argument("--exporters", nargs="+", default=EXPORTERS, choices=EXPORTERS)
    options = parser.parse_args()
    good = True
    for name in options.only:
        for exporter in options.exporters:
            with tempfile.TemporaryDirectory(prefix="splamc-network-") as folder:
                good &= compare(options.splamc, name, exporter, pathlib.Path(folder))
            sys.stdout.flush()
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
