#!/usr/bin/env python3
"""Set `splamc bench` on an NVIDIA GPU beside PyTorch there: same weights, shapes and type.

Takes: MODEL_DIR, a diffusers directory, and a built splamc.
Gives: for UNet and decoder seconds of splamc, of PyTorch eager and of torch.compile, the ratio, and
the share of the rate of a large matrix product that was measured in the same run.
Never: lets two engines live at once. Each runs in a process of its own, one round after the other.

Without a GPU, `--device cpu --adapter interpreter` runs the same lines on tiny sizes, so that the
script is known to work; its seconds say nothing then.
Needs: requirements-dev.txt.
Example: python3 tests/scripts/compare_gpu.py /tmp/sd15 --splamc target/release/splamc
"""

import argparse
import json
import pathlib
import statistics
import subprocess
import sys
import time

COMPONENTS = {"unet": "unet", "vae_decoder": "vae"}
ENGINES = ["splamc", "eager", "compiled"]
TEXT_TOKENS = 77


def synchronized(device: str) -> float:
    """Returns the time once all work is done."""
    import torch

    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


def timed(run, device: str, runs: int) -> float:
    """Returns the median of seconds, after three unmeasured runs."""
    for _ in range(3):
        run()
    seconds = []
    for _ in range(runs):
        start = synchronized(device)
        run()
        seconds.append(synchronized(device) - start)
    return statistics.median(seconds)


def peer(task: dict) -> dict:
    """A round of PyTorch, in a process of its own."""
    import torch
    from diffusers import AutoencoderKL, UNet2DConditionModel

    device = task["device"]
    dtype = {"f32": torch.float32, "f16": torch.float16, "bf16": torch.bfloat16}[task["dtype"]]
    folder = pathlib.Path(task["model"]) / COMPONENTS[task["component"]]
    kind = UNet2DConditionModel if task["component"] == "unet" else AutoencoderKL
    network = kind.from_pretrained(folder, torch_dtype=dtype).to(device).eval()
    network = network.to(memory_format=torch.channels_last)
    batch, rows, columns = task["batch"], task["height"] // task["scale"], task["width"] // task["scale"]
    latents = torch.randn(batch, 4, rows, columns, dtype=dtype, device=device)
    latents = latents.to(memory_format=torch.channels_last)
    if task["component"] == "unet":
        width = network.config.cross_attention_dim
        text = torch.randn(batch, TEXT_TOKENS, width, dtype=dtype, device=device)
        call = network.forward
        arguments = (latents, torch.tensor(500, device=device), text)
    else:
        call, arguments = network.decode, (latents,)
    if task["engine"] == "compiled":
        mode = "max-autotune" if device == "cuda" else "default"
        call = torch.compile(call, mode=mode)
    with torch.inference_mode():
        return {"seconds": timed(lambda: call(*arguments), device, task["runs"])}


def product(task: dict) -> dict:
    """The rate of a large matrix product, in operations per second."""
    import torch

    dtype = {"f32": torch.float32, "f16": torch.float16, "bf16": torch.bfloat16}[task["dtype"]]
    side = 8192 if task["device"] == "cuda" else 512
    a, b = (torch.randn(side, side, dtype=dtype, device=task["device"]) for _ in range(2))
    seconds = timed(lambda: a @ b, task["device"], task["runs"])
    return {"flops_per_second": 2 * side**3 / seconds}


def own(task: dict) -> dict:
    """A round of splamc."""
    command = [task["splamc"], "bench", task["model"], "--component", task["component"], "--json",
               "--target", "cuda", "--dtype", task["dtype"], "-b", str(task["batch"]),
               "-W", str(task["width"]), "-H", str(task["height"]), "--runs", str(task["runs"])]
    if task["adapter"]:
        command += ["--adapter", task["adapter"]]
    run = subprocess.run(command, capture_output=True, text=True)
    if run.returncode:
        sys.exit(run.stderr)
    found = json.loads(run.stdout)
    return {"seconds": found["seconds"]["median"], "flops": found["flops"]}


def in_process(task: dict) -> dict:
    """Runs a round in a process that ends with it, so that its memory is free again."""
    command = [sys.executable, __file__, "--round", json.dumps(task)]
    run = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(run.stdout.splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", nargs="?", type=pathlib.Path)
    parser.add_argument("--splamc", default="target/release/splamc")
    parser.add_argument("--dtype", default="f16", choices=["f32", "f16", "bf16"])
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--width", type=int, default=512)
    parser.add_argument("--height", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--runs", type=int, default=10)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--adapter", default="")
    parser.add_argument("--engines", nargs="+", default=ENGINES, choices=ENGINES)
    parser.add_argument("--round", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.round:
        task = json.loads(arguments.round)
        print(json.dumps(product(task) if task["engine"] == "product" else peer(task)))
        return
    vae = json.loads((arguments.model / "vae/config.json").read_text())
    task = vars(arguments) | {"model": str(arguments.model)}
    task["scale"] = 2 ** (len(vae["block_out_channels"]) - 1)
    rates = []
    for component in COMPONENTS:
        found = {engine: [] for engine in arguments.engines}
        flops = 0
        for _ in range(arguments.rounds):
            rates.append(in_process(task | {"engine": "product"})["flops_per_second"])
            for engine in arguments.engines:
                of = task | {"engine": engine, "component": component}
                result = own(of) if engine == "splamc" else in_process(of)
                flops = result.get("flops", flops)
                found[engine].append(result["seconds"])
        rate = statistics.median(rates)
        medians = {engine: statistics.median(seconds) for engine, seconds in found.items()}
        fastest = min(s for engine, s in medians.items() if engine != "splamc" or len(medians) == 1)
        print(f"{component} {arguments.dtype} batch {arguments.batch}:"
              f" matrix product {rate / 1e12:.2f} TFLOP/s")
        for engine, seconds in medians.items():
            share = f"{flops / seconds / rate:6.1%} of the product's rate" if flops else ""
            print(f"  {engine:<10} {seconds * 1e3:10.2f} ms  {seconds / fastest:6.2f} x  {share}")


if __name__ == "__main__":
    main()
