#!/usr/bin/env python3
"""Set `splamc bench` beside onnxruntime, OpenVINO and PyTorch: same weights, shapes and threads.

Takes: MODEL_DIR, a diffusers directory with f32 weights, and a built splamc.
Gives: per component a table of seconds, ratio to the fastest peer, CPU-seconds and peak memory, and
with --json one object on standard output instead; progress on standard error. Exit code 1 when an
engine failed or the peers' results differ.
Never: lets two engines live at once. Each runs in a process of its own, one round after the other,
so that what disturbs the machine disturbs all; every process loads, runs once unmeasured, then
--runs times. All compute in f32 with static shapes.

| engine | how |
|---|---|
| splamc | `splamc bench --json` on MODEL_DIR |
| onnxruntime | the graph that export_onnx.py writes, free dimensions overridden, all optimisations |
| openvino | the same graph, reshaped; INFERENCE_PRECISION_HINT f32, one stream, latency hint |
| torch | diffusers and transformers, eager, channels_last |
| torch-compile | the same through torch.compile, static; its compilations are cached |

Exported graphs and compiled kernels stay in --cache for the next call.
Needs: requirements-dev.txt, openvino, and a C++ compiler for torch.compile.
Example: python3 tests/scripts/compare_peers.py examples/tiny-model --splamc target/release/splamc
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
import time

HERE = pathlib.Path(__file__).resolve().parent
ENGINES = ["splamc", "onnxruntime", "openvino", "torch", "torch-compile"]
PARTS = {"unet": "unet", "vae_decoder": "vae", "text_encoder": "text_encoder"}
UNET_EXTRA = ["timestep_cond", "text_embeds", "time_ids"]
UNET_INPUTS = ["sample", "timestep", "encoder_hidden_states", *UNET_EXTRA]
# Engines sum in different orders: their mean magnitudes may differ by this share.
AGREEMENT = 1e-3
TIMESTEP = 500


def say(message: str) -> None:
    """Progress, beside the data."""
    print(message, file=sys.stderr, flush=True)


def make_inputs(shapes: dict[str, list[int]], whole: set[str], vocabulary: int) -> dict:
    """The same inputs for every peer; `whole` names those that are whole numbers."""
    import numpy as np

    random = np.random.default_rng(0)
    inputs = {}
    for name, shape in shapes.items():
        if name == "timestep":
            drawn = np.full(shape, TIMESTEP)
        elif name in whole or name == "input_ids":
            drawn = (np.arange(math.prod(shape)) * 7919 % vocabulary).reshape(shape)
        else:
            drawn = random.standard_normal(shape)
        inputs[name] = drawn
    return inputs


class OnnxRuntime:
    """onnxruntime's CPU provider."""

    def __init__(self, task: dict):
        """Loads the exported graph with all dimensions fixed."""
        import numpy as np
        import onnx
        import onnxruntime

        settings = onnxruntime.SessionOptions()
        settings.intra_op_num_threads = task["threads"]
        settings.inter_op_num_threads = 1
        settings.log_severity_level = 3
        graph = onnx.load(task["onnx"], load_external_data=False).graph
        for value in graph.input:
            extents = task["shapes"].get(value.name, [])
            for dim, extent in zip(value.type.tensor_type.shape.dim, extents, strict=True):
                if dim.dim_param:
                    settings.add_free_dimension_override_by_name(dim.dim_param, extent)
        self.session = onnxruntime.InferenceSession(
            task["onnx"], settings, providers=["CPUExecutionProvider"]
        )
        types = {"tensor(float)": np.float32, "tensor(int64)": np.int64, "tensor(int32)": np.int32}
        dtypes = {value.name: types[value.type] for value in self.session.get_inputs()}
        whole = {name for name, dtype in dtypes.items() if dtype != np.float32}
        made = make_inputs(task["shapes"], whole, task["vocabulary"])
        self.inputs = {name: made[name].astype(dtype) for name, dtype in dtypes.items()}

    def run(self):
        """Gives the first output."""
        return self.session.run(None, self.inputs)[0]


class OpenVino:
    """OpenVINO's CPU plugin."""

    def __init__(self, task: dict):
        """Loads the exported graph, reshapes and compiles it."""
        import openvino

        core = openvino.Core()
        model = core.read_model(task["onnx"])
        names = [port.get_any_name() for port in model.inputs]
        model.reshape({name: task["shapes"][name] for name in names})
        settings = {
            "INFERENCE_PRECISION_HINT": "f32",
            "INFERENCE_NUM_THREADS": task["threads"],
            "NUM_STREAMS": 1,
            "PERFORMANCE_HINT": "LATENCY",
        }
        self.request = core.compile_model(model, "CPU", settings).create_infer_request()
        dtypes = {port.get_any_name(): port.get_element_type().to_dtype() for port in model.inputs}
        whole = {name for name, dtype in dtypes.items() if dtype.kind == "i"}
        made = make_inputs(task["shapes"], whole, task["vocabulary"])
        self.inputs = {name: made[name].astype(dtype) for name, dtype in dtypes.items()}

    def run(self):
        """Gives the first output."""
        self.request.infer(self.inputs)
        return self.request.get_output_tensor(0).data


class Torch:
    """PyTorch, eager or compiled."""

    def __init__(self, task: dict):
        """Loads the component and its inputs in channels_last."""
        import numpy as np
        import torch
        from diffusers import AutoencoderKL, UNet2DConditionModel
        from export_onnx import TextEncoder, Unet, VaeDecoder
        from transformers import CLIPTextModel

        self.torch = torch
        torch.set_num_threads(task["threads"])
        folder = pathlib.Path(task["model"]) / PARTS[task["component"]]
        # By position: the wrappers take what the exporter gives.
        ordered = sorted(task["shapes"], key=lambda name: (UNET_INPUTS + [name]).index(name))
        match task["component"]:
            case "unet":
                model = UNet2DConditionModel.from_pretrained(folder, torch_dtype=torch.float32)
                module = Unet(model.eval(), [name for name in ordered if name in UNET_EXTRA])
            case "vae_decoder":
                model = AutoencoderKL.from_pretrained(folder, torch_dtype=torch.float32)
                del model.encoder
                module = VaeDecoder(model.eval())
            case _:
                module = TextEncoder(CLIPTextModel.from_pretrained(folder, dtype=torch.float32))
        module = module.eval().to(memory_format=torch.channels_last)
        self.module = module
        if task["engine"] == "torch-compile":
            self.module = torch.compile(module, dynamic=False)
        self.inputs = []
        made = make_inputs(task["shapes"], set(), task["vocabulary"])
        for name in ordered:
            whole = name == "input_ids"
            tensor = torch.from_numpy(np.ascontiguousarray(made[name])).to(
                torch.int64 if whole else torch.float32
            )
            if tensor.dim() == 4:
                tensor = tensor.to(memory_format=torch.channels_last)
            self.inputs.append(tensor)

    def run(self):
        """Gives the first output."""
        with self.torch.inference_mode():
            out = self.module(*self.inputs)
        return (out[0] if isinstance(out, tuple) else out).numpy()


PEERS = {
    "onnxruntime": OnnxRuntime,
    "openvino": OpenVino,
    "torch": Torch,
    "torch-compile": Torch,
}


def peak_resident_bytes() -> int | None:
    """The largest resident memory of this process, where the system tells."""
    try:
        lines = pathlib.Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return None
    found = [line.split()[1] for line in lines if line.startswith("VmHWM:")]
    return int(found[0]) * 1024 if found else None


def work(task: dict) -> dict:
    """One peer's round, in its own process."""
    import numpy as np

    engine = PEERS[task["engine"]](task)
    first = engine.run()
    seconds = []
    cpu = time.process_time()
    for _ in range(task["runs"]):
        before = time.perf_counter()
        engine.run()
        seconds.append(time.perf_counter() - before)
    return {
        "seconds": seconds,
        "cpu_seconds": (time.process_time() - cpu) / task["runs"],
        "peak_resident_bytes": peak_resident_bytes(),
        "magnitude": float(np.abs(np.asarray(first, np.float64)).mean()),
    }


def started(command: list[str], environment: dict[str, str]) -> dict | str:
    """What a process prints as JSON, or why it failed."""
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    if done.returncode != 0:
        lines = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        return lines[-1]
    # Libraries talk on standard output too; the object is the last thing there.
    return json.loads(done.stdout[done.stdout.index("{\n") :])


def bench(options: argparse.Namespace, component: str, runs: int) -> dict | str:
    """splamc's round."""
    command = [str(options.splamc), "bench", str(options.model), "--component", component]
    command += ["--threads", str(options.threads), "--runs", str(runs), "--json"]
    for flag, value in (("-W", options.width), ("-H", options.height), ("-b", options.batch)):
        command += [flag, str(value)] if value else []
    found = started(command, dict(os.environ))
    if isinstance(found, str):
        return found
    found["median"] = found["seconds"]["median"]
    return found


def exported(options: argparse.Namespace, component: str) -> pathlib.Path:
    """The component's ONNX graph, exported when the cache lacks it."""
    part = options.model / PARTS[component]
    stamp = hashlib.sha256()
    for file in sorted(part.iterdir()):
        facts = file.stat()
        stamp.update(f"{file.resolve()} {facts.st_size} {facts.st_mtime_ns}\n".encode())
    out = options.cache / f"onnx-{component}-{stamp.hexdigest()[:16]}"
    path = out / component / "model.onnx"
    if not path.is_file():
        say(f"{component}: export to {path}")
        only = options.cache / f"only-{PARTS[component]}"
        only.mkdir(parents=True, exist_ok=True)
        link = only / PARTS[component]
        link.unlink(missing_ok=True)
        link.symlink_to(part.resolve())
        command = [sys.executable, str(HERE / "export_onnx.py"), str(only), str(out)]
        command += ["--exporter", "torchscript", "--opset", "17", "--external-data"]
        subprocess.run(command, check=True, stdout=sys.stderr)
    return path


def vocabulary(model: pathlib.Path) -> int:
    """Token ids stay below."""
    path = model / "text_encoder/config.json"
    return json.loads(path.read_text())["vocab_size"] if path.is_file() else 1


def peer(options: argparse.Namespace, task: dict) -> dict | str:
    """A peer's round."""
    threads = str(options.threads)
    cached = {"TORCHINDUCTOR_CACHE_DIR": str(options.cache / "inductor")}
    environment = {**os.environ, **cached, "OMP_NUM_THREADS": threads, "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, __file__, "--work", json.dumps(task)]
    found = started(command, environment)
    if isinstance(found, dict):
        found["median"] = statistics.median(found["seconds"])
    return found


def compare(options: argparse.Namespace, component: str) -> dict:
    """All engines on one component, round by round."""
    probe = bench(options, component, 1)
    if isinstance(probe, str):
        return {"engines": {"splamc": {"error": probe}}}
    shapes = probe["shapes"]["inputs"]
    needs_graph = {"onnxruntime", "openvino"} & set(options.engines)
    task = {
        "model": str(options.model),
        "onnx": str(exported(options, component)) if needs_graph else None,
        "component": component,
        "shapes": shapes,
        "vocabulary": vocabulary(options.model),
        "threads": options.threads,
        "runs": options.runs,
    }
    rounds: dict[str, list[dict]] = {engine: [] for engine in options.engines}
    errors: dict[str, str] = {}
    for number in range(options.rounds):
        for engine in options.engines:
            if engine in errors:
                continue
            if engine == "splamc":
                found = bench(options, component, options.runs)
            else:
                found = peer(options, task | {"engine": engine})
            if isinstance(found, str):
                errors[engine] = found
                say(f"{component} round {number + 1}: {engine} failed: {found}")
            else:
                rounds[engine].append(found)
                say(f"{component} round {number + 1}: {engine} {found['median']:.4f} s")
    return summary(shapes, rounds, errors)


def summary(shapes: dict, rounds: dict[str, list[dict]], errors: dict[str, str]) -> dict:
    """Medians over the rounds, and ratios to the fastest peer."""
    engines: dict[str, dict] = {}
    for engine, found in rounds.items():
        if engine in errors or not found:
            engines[engine] = {"error": errors.get(engine, "no round was run")}
            continue
        peaks = [one["peak_resident_bytes"] for one in found if one["peak_resident_bytes"]]
        engines[engine] = {
            "seconds": {
                "median": statistics.median(one["median"] for one in found),
                "min": min(one["median"] for one in found),
                "max": max(one["median"] for one in found),
            },
            "cpu_seconds": statistics.median(one["cpu_seconds"] or 0 for one in found),
            "peak_resident_bytes": max(peaks, default=None),
        }
        if engine == "splamc":
            engines[engine]["ceilings"] = found[-1]["ceilings"]["best"]
        else:
            engines[engine]["magnitude"] = found[-1]["magnitude"]
    peers = [one for name, one in engines.items() if name != "splamc" and "error" not in one]
    fastest = min((one["seconds"]["median"] for one in peers), default=None)
    for one in engines.values():
        if fastest and "error" not in one:
            one["ratio"] = one["seconds"]["median"] / fastest
    magnitudes = [one["magnitude"] for one in peers]
    agree = not magnitudes or max(magnitudes) <= min(magnitudes) * (1 + AGREEMENT)
    return {"shapes": shapes, "engines": engines, "peers_agree": agree}


def table(component: str, found: dict) -> str:
    """One component for people."""
    lines = [f"{component} {found.get('shapes', '')}"]
    lines.append(
        f"  {'engine':<14} {'median s':>10} {'fastest':>10} {'slowest':>10}"
        f" {'ratio':>7} {'CPU s':>9} {'peak MB':>9}"
    )
    for engine, one in found["engines"].items():
        if "error" in one:
            lines.append(f"  {engine:<14} failed: {one['error']}")
            continue
        seconds = one["seconds"]
        peak = one["peak_resident_bytes"]
        lines.append(
            f"  {engine:<14} {seconds['median']:>10.4f} {seconds['min']:>10.4f}"
            f" {seconds['max']:>10.4f} {one.get('ratio', math.nan):>7.2f}"
            f" {one['cpu_seconds']:>9.3f} {peak / 1e6 if peak else math.nan:>9.0f}"
        )
    if not found.get("peers_agree", True):
        lines.append("  the peers' results differ: they do not compute the same")
    return "\n".join(lines)


def parse_arguments() -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", type=pathlib.Path)
    parser.add_argument("--splamc", type=pathlib.Path, default="target/release/splamc")
    parser.add_argument("--components", nargs="+", choices=list(PARTS), default=list(PARTS))
    parser.add_argument("--engines", nargs="+", choices=ENGINES, default=ENGINES)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3, help="processes per engine")
    parser.add_argument("--runs", type=int, default=5, help="timed runs in each process")
    parser.add_argument("-W", "--width", type=int, help="pixels; the model's own if not given")
    parser.add_argument("-H", "--height", type=int)
    parser.add_argument("-b", "--batch", type=int)
    parser.add_argument("--cache", type=pathlib.Path, default="target/peers")
    parser.add_argument("--json", action="store_true", help="one object instead of tables")
    return parser.parse_args()


def main() -> int:
    """Compares component by component."""
    if sys.argv[1:2] == ["--work"]:
        print(json.dumps(work(json.loads(sys.argv[2])), indent=1))
        return 0
    options = parse_arguments()
    options.model = options.model.resolve()
    options.splamc = options.splamc.resolve()
    options.cache = options.cache.resolve()
    options.cache.mkdir(parents=True, exist_ok=True)
    found = {component: compare(options, component) for component in options.components}
    machine = f"{platform.processor() or platform.machine()}, {os.cpu_count()} processors"
    if options.json:
        facts = {"machine": machine, "threads": options.threads, "runs": options.runs}
        print(json.dumps({**facts, "rounds": options.rounds, "components": found}, indent=1))
    else:
        print(f"{machine}, {options.threads} threads, {options.rounds} rounds")
        print("\n\n".join(table(component, one) for component, one in found.items()))
    engines = [one for component in found.values() for one in component["engines"].values()]
    agree = all(one.get("peers_agree", True) for one in found.values())
    return 0 if agree and not any("error" in one for one in engines) else 1


if __name__ == "__main__":
    sys.exit(main())
