#!/usr/bin/env python3
"""Set a training step of `splamc bench --train splad` beside the same step in PyTorch and diffusers.

Takes: a built splamc, and sizes of a UNet; its random weights are written to --cache once.
Gives: a table of seconds per step, the ratio to PyTorch, and peak memory, or with --json one object
on standard output instead; progress on standard error. Exit code 1 when an engine failed.
Never: lets two engines live at once. Each round is a process per engine, one after the other, so
that what disturbs the machine disturbs both.

The step is SPLAD's with one step of the teacher (k = k_phi = 20), f32:

1. the teacher on the caption and without, as one batch of twice the size, no gradient; guidance 3;
2. the EMA of the student at the end of the sub-path: the target, no gradient;
3. the student between the ends, forward and backward; pseudo-Huber loss;
4. clipping by the global norm 1, AdamW, EMA with decay 0.95.

| engine | how |
|---|---|
| splamc | `splamc bench --train splad --json`: one program for all of it |
| train | `splamc train --method splad`: the same program with everything around it; without its checkpoint |
| torch | diffusers, eager, channels_last, fused AdamW, foreach clipping and EMA |
| compiled | the same with its three networks through `torch.compile` |

Peak memory is the largest resident set (ru_maxrss) of the engine's process; beside it, for PyTorch,
what is left after what importing torch and diffusers costs by itself.
Needs: torch, diffusers, safetensors.
Example: python3 tests/scripts/compare_training.py --splamc target/release/splamc
"""

import argparse
import hashlib
import json
import math
import os
import pathlib
import platform
import statistics
import subprocess
import sys
import tempfile
import time

ENGINES = ["splamc", "train", "torch", "compiled"]
GUIDANCE = 3.0
K = 20
HUBER_C = 0.001
LR = 8e-6
EMA_DECAY = 0.95
CONDITION_WIDTH = 256
TOKENS = 77


def say(message: str) -> None:
    """Progress, beside the data."""
    print(message, file=sys.stderr, flush=True)


def network_config(options: argparse.Namespace) -> dict:
    """The UNet: attention on every level but the coarsest, as Stable Diffusion has it."""
    levels = len(options.widths)
    return {
        "sample_size": options.latents,
        "in_channels": 4,
        "out_channels": 4,
        "layers_per_block": 2,
        "block_out_channels": options.widths,
        "down_block_types": ["CrossAttnDownBlock2D"] * (levels - 1) + ["DownBlock2D"],
        "up_block_types": ["UpBlock2D"] + ["CrossAttnUpBlock2D"] * (levels - 1),
        "attention_head_dim": 8,
        "cross_attention_dim": options.text_width,
        "norm_num_groups": 32,
    }


def written_model(options: argparse.Namespace) -> pathlib.Path:
    """A diffusers directory with random weights, written when the cache lacks it."""
    config = network_config(options)
    stamp = hashlib.sha256(json.dumps(config, sort_keys=True).encode()).hexdigest()[:16]
    out = options.cache / f"unet-{stamp}"
    if not (out / "unet/config.json").is_file():
        say(f"write {out}")
        import torch
        from diffusers import DDPMScheduler, UNet2DConditionModel

        torch.manual_seed(0)
        UNet2DConditionModel(**config).save_pretrained(out / "unet")
        schedule = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
        DDPMScheduler(**schedule).save_pretrained(out / "scheduler")
    return out


def loaded(model: str, conditioned: bool):
    """The UNet of a directory; with a condition on gamma that begins with zeros."""
    import torch
    from diffusers import UNet2DConditionModel
    from safetensors.torch import load_file

    folder = pathlib.Path(model) / "unet"
    config = dict(UNet2DConditionModel.load_config(folder))
    if conditioned:
        config["time_cond_proj_dim"] = CONDITION_WIDTH
    network = UNet2DConditionModel.from_config(config)
    weights = load_file(folder / "diffusion_pytorch_model.safetensors")
    if conditioned:
        width = config["block_out_channels"][0]
        weights["time_embedding.cond_proj.weight"] = torch.zeros(width, CONDITION_WIDTH)
    network.load_state_dict(weights)
    return network.to(memory_format=torch.channels_last)


class Step:
    """One training step in PyTorch."""

    def __init__(self, task: dict):
        """Loads teacher, student and EMA, and draws inputs."""
        import torch

        torch.set_num_threads(task["threads"])
        torch.manual_seed(0)
        self.teacher = loaded(task["model"], conditioned=False).eval().requires_grad_(False)
        self.student = loaded(task["model"], conditioned=True).train()
        self.ema = loaded(task["model"], conditioned=True).eval().requires_grad_(False)
        self.parameters = list(self.student.parameters())
        self.averages = list(self.ema.parameters())
        if task["compiled"]:
            self.teacher, self.student, self.ema = (
                torch.compile(network) for network in (self.teacher, self.student, self.ema)
            )
        self.optimizer = torch.optim.AdamW(self.parameters, lr=LR, weight_decay=0.0, fused=True)
        batch, side = task["batch"], task["latents"]

        def images():
            drawn = torch.randn(batch, 4, side, side)
            return drawn.to(memory_format=torch.channels_last)

        def text():
            return torch.randn(batch, TOKENS, task["text_width"])

        self.latents, self.noise = images(), images()
        self.text, self.both_texts = text(), None
        self.both_texts = torch.cat([text(), self.text])
        self.gamma_embedding = torch.randn(batch, CONDITION_WIDTH)
        self.one_embedding = torch.zeros(batch, CONDITION_WIDTH)
        betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2
        bars = torch.cumprod(1 - betas, 0)
        self.start = torch.arange(1, batch + 1) * (1000 // K // (batch + 1)) * K - 1
        self.end = self.start - K

        def factors(timesteps):
            shape = (-1, 1, 1, 1)
            bar = bars[timesteps]
            return bar.sqrt().float().view(shape), (1 - bar).sqrt().float().view(shape)

        self.alpha_t, self.sigma_t = factors(self.start)
        self.alpha_s, self.sigma_s = factors(self.end)
        self.gamma = torch.rand(batch, 1, 1, 1)

    def run(self) -> float:
        """Gives the loss."""
        import torch

        with torch.no_grad():
            z_t = self.alpha_t * self.latents + self.sigma_t * self.noise
            both = self.teacher(
                torch.cat([z_t, z_t]), torch.cat([self.start, self.start]), self.both_texts
            ).sample
            without, with_text = both.chunk(2)
            eps = without + GUIDANCE * (with_text - without)
            x0 = (z_t - self.sigma_t * eps) / self.alpha_t
            z_s = self.alpha_s * x0 + self.sigma_s * eps
            said = self.ema(z_s, self.end, self.text, timestep_cond=self.one_embedding).sample
            target = (z_s - self.sigma_s * said) / self.alpha_s
            ratio = self.alpha_t / self.alpha_s
            z_gamma = (1 - self.gamma) * ratio * z_s + self.gamma * z_t
            sigma = (1 - self.gamma) * ratio * self.sigma_s + self.gamma * self.sigma_t
        said = self.student(
            z_gamma, self.start, self.text, timestep_cond=self.gamma_embedding
        ).sample
        prediction = (z_gamma - sigma * said) / self.alpha_t
        difference = prediction - target
        loss = ((difference * difference + HUBER_C**2).sqrt() - HUBER_C).mean()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.parameters, 1.0, foreach=True)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        with torch.no_grad():
            torch._foreach_lerp_(self.averages, self.parameters, 1 - EMA_DECAY)
        return float(loss)


def work(task: dict) -> dict:
    """A round of PyTorch, in a process of its own."""
    if task["only_import"]:
        import diffusers  # noqa: F401
        import torch
        from diffusers import UNet2DConditionModel  # noqa: F401

        torch.set_num_threads(task["threads"])
        return {}
    step = Step(task)
    losses = [step.run()]
    seconds = []
    for _ in range(task["runs"]):
        before = time.perf_counter()
        losses.append(step.run())
        seconds.append(time.perf_counter() - before)
    if not all(math.isfinite(loss) for loss in losses):
        raise SystemExit(f"losses are {losses}")
    parameters = sum(parameter.numel() for parameter in step.parameters)
    return {"seconds": seconds, "parameters": parameters, "losses": losses}


def started(command: list[str], environment: dict[str, str]) -> dict | str:
    """What a process prints as JSON with its peak memory, or why it failed."""
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    ) as process:
        # The little that goes to standard error fits its pipe.
        out = process.stdout.read()
        err = process.stderr.read()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        lines = err.strip().splitlines() or [f"exit code {process.returncode}"]
        return lines[-1]
    found = json.loads(out[out.index("{") :]) if "{" in out else {}
    found["peak_resident_bytes"] = usage.ru_maxrss * 1024
    return found


def run_splamc(options: argparse.Namespace, model: pathlib.Path) -> dict | str:
    """splamc's round."""
    command = [str(options.splamc), "bench", str(model), "--train", "splad", "--json"]
    command += ["--set", f"k={K}", "--set", f"k-phi={K}"]
    command += ["-b", str(options.batch), "--threads", str(options.threads)]
    command += ["-W", str(options.latents * 8), "-H", str(options.latents * 8)]
    command += ["--runs", str(options.runs), *options.splamc_options]
    found = started(command, dict(os.environ))
    if isinstance(found, dict):
        found["median"] = found["seconds"]["median"]
    return found


def run_train(options: argparse.Namespace, model: pathlib.Path) -> dict | str:
    """A training of a few updates through the command, on latents and conditions from a file."""
    import numpy
    from safetensors.numpy import save_file

    random = numpy.random.default_rng(0)
    image = (options.batch, 4, options.latents, options.latents)
    text = (options.batch, TOKENS, options.text_width)
    draws = {}
    for step in range(1 + options.runs):
        shapes = {"latents": image, "cond": text, "uncond": text}
        for name, shape in shapes.items():
            draws[f"step{step}.{name}"] = random.standard_normal(shape, numpy.float32)
    with tempfile.TemporaryDirectory(dir=options.cache) as folder:
        file, out = pathlib.Path(folder, "draws.safetensors"), pathlib.Path(folder, "out")
        save_file(draws, file)
        command = [str(options.splamc), "train", str(model), "--method", "splad"]
        command += ["--draws", str(file), "--out", str(out), "--save-every", "0"]
        command += ["--k", str(K), "--k-phi", str(K), "--threads", str(options.threads)]
        found = started(command, dict(os.environ))
        if isinstance(found, str):
            return found
        lines = (out / "metrics.jsonl").read_text().splitlines()
    updates = [json.loads(line) for line in lines][1:]
    found["median"] = statistics.median(update["seconds"] for update in updates)
    found["host"] = statistics.median(
        update["host_seconds"] / update["seconds"] for update in updates
    )
    return found


def run_torch(
    options: argparse.Namespace,
    model: pathlib.Path,
    only_import: bool = False,
    compiled: bool = False,
) -> dict | str:
    """PyTorch's round."""
    task = {
        "model": str(model),
        "batch": options.batch,
        "latents": options.latents,
        "text_width": options.text_width,
        "threads": options.threads,
        "runs": options.runs,
        "only_import": only_import,
        "compiled": compiled,
    }
    environment = {**os.environ, "OMP_NUM_THREADS": str(options.threads), "HF_HUB_OFFLINE": "1"}
    found = started([sys.executable, __file__, "--work", json.dumps(task)], environment)
    if isinstance(found, dict) and not only_import:
        found["median"] = statistics.median(found["seconds"])
    return found


def compare(options: argparse.Namespace) -> dict:
    """All engines, round by round."""
    model = written_model(options)
    rounds: dict[str, list[dict]] = {engine: [] for engine in options.engines}
    errors: dict[str, str] = {}
    for number in range(options.rounds):
        for engine in options.engines:
            if engine in errors:
                continue
            if engine == "splamc":
                found = run_splamc(options, model)
            elif engine == "train":
                found = run_train(options, model)
            else:
                found = run_torch(options, model, compiled=engine == "compiled")
            if isinstance(found, str):
                errors[engine] = found
                say(f"round {number + 1}: {engine} failed: {found}")
            else:
                rounds[engine].append(found)
                say(f"round {number + 1}: {engine} {found['median']:.3f} s")
    imported = run_torch(options, model, only_import=True) if "torch" in rounds else {}
    import_bytes = imported["peak_resident_bytes"] if imported else None
    return summary(rounds, errors, import_bytes)


def summary(rounds: dict, errors: dict[str, str], import_bytes: int | None) -> dict:
    """Medians over the rounds, and ratios to PyTorch."""
    engines: dict[str, dict] = {}
    for engine, found in rounds.items():
        if engine in errors:
            engines[engine] = {"error": errors[engine]}
            continue
        peak = max(one["peak_resident_bytes"] for one in found)
        beyond = import_bytes or 0 if engine in ("torch", "compiled") else 0
        engines[engine] = {
            "seconds": {
                "median": statistics.median(one["median"] for one in found),
                "min": min(one["median"] for one in found),
                "max": max(one["median"] for one in found),
            },
            "host_share": max((one.get("host", 0.0) for one in found), default=0.0),
            "peak_resident_bytes": peak,
            "peak_beyond_import_bytes": peak - beyond,
        }
    base = engines.get("torch", {"error": "not run"})
    for one in engines.values():
        if "error" not in one and "error" not in base:
            one["ratio"] = one["seconds"]["median"] / base["seconds"]["median"]
            one["memory_ratio"] = one["peak_resident_bytes"] / base["peak_resident_bytes"]
            beyond = base["peak_beyond_import_bytes"]
            one["memory_beyond_import_ratio"] = one["peak_beyond_import_bytes"] / beyond
    return {"engines": engines, "import_bytes": import_bytes}


def table(found: dict) -> str:
    """The comparison for people."""
    lines = [
        f"  {'engine':<8} {'median s':>9} {'fastest':>9} {'slowest':>9} {'ratio':>6}"
        f" {'peak MB':>8} {'ratio':>6} {'beyond import MB':>17} {'ratio':>6}"
    ]
    for engine, one in found["engines"].items():
        if "error" in one:
            lines.append(f"  {engine:<8} failed: {one['error']}")
            continue
        seconds = one["seconds"]
        lines.append(
            f"  {engine:<8} {seconds['median']:>9.3f} {seconds['min']:>9.3f}"
            f" {seconds['max']:>9.3f} {one.get('ratio', math.nan):>6.2f}"
            f" {one['peak_resident_bytes'] / 1e6:>8.0f} {one.get('memory_ratio', math.nan):>6.2f}"
            f" {one['peak_beyond_import_bytes'] / 1e6:>17.0f}"
            f" {one.get('memory_beyond_import_ratio', math.nan):>6.2f}"
        )
    train = found["engines"].get("train", {})
    if "host_share" in train:
        lines.append(f"  splamc train: {train['host_share']:.2%} of an update between its programs")
    if found["import_bytes"]:
        lines.append(f"  importing torch and diffusers: {found['import_bytes'] / 1e6:.0f} MB")
    return "\n".join(lines)


def parse_arguments() -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--splamc", type=pathlib.Path, default="target/release/splamc")
    parser.add_argument("--engines", nargs="+", choices=ENGINES, default=ENGINES)
    parser.add_argument("--widths", type=int, nargs="+", default=[64, 128, 256], metavar="N")
    parser.add_argument("--text-width", type=int, default=128)
    parser.add_argument("--latents", type=int, default=32, help="rows and columns")
    parser.add_argument("-b", "--batch", type=int, default=4)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3, help="processes per engine")
    parser.add_argument("--runs", type=int, default=3, help="timed steps in each process")
    parser.add_argument("--cache", type=pathlib.Path, default="target/peers")
    parser.add_argument("--json", action="store_true", help="one object instead of a table")
    parser.add_argument("splamc_options", nargs="*", help="after --: more options of splamc bench")
    return parser.parse_args()


def main() -> int:
    """Compares."""
    if sys.argv[1:2] == ["--work"]:
        print(json.dumps(work(json.loads(sys.argv[2]))))
        return 0
    options = parse_arguments()
    options.splamc = options.splamc.resolve()
    options.cache = options.cache.resolve()
    options.cache.mkdir(parents=True, exist_ok=True)
    found = compare(options)
    machine = f"{platform.processor() or platform.machine()}, {os.cpu_count()} processors"
    sizes = {
        "widths": options.widths,
        "text_width": options.text_width,
        "latents": options.latents,
        "batch": options.batch,
        "threads": options.threads,
    }
    if options.json:
        facts = {"machine": machine, **sizes, "rounds": options.rounds, "runs": options.runs}
        print(json.dumps({**facts, **found}, indent=1))
    else:
        print(f"{machine}; {', '.join(f'{name} {size}' for name, size in sizes.items())}")
        print(table(found))
    return 1 if any("error" in one for one in found["engines"].values()) else 0


if __name__ == "__main__":
    sys.exit(main())
