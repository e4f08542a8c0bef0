"""Assembles every kernel of an artifact for CUDA, and checks what comes out, without a GPU.

Takes: a directory that `splamc compile MODEL --target cuda` wrote.
Gives: a line for each kernel: registers, shared memory, what its machine code holds, and whether a
static verifier finds a race; exit code 1 if a kernel is refused, spills, uses local memory, draws
a warning about its matrix instructions, lost one of them in its machine code, or may race.
Never: runs a kernel. What the verifier does not support is listed, and is no failure.

    pip install nvidia-cuda-nvcc-cu12 nvidia-cuda-nvdisasm sentryward
    python tests/scripts/ptx_gate.py OUT.splam --races
"""

import argparse
import collections
import importlib.metadata
import json
import pathlib
import re
import subprocess
import sys
import tempfile

# The capabilities that kernels for 8.0 are assembled for.
ARCHITECTURES = ["sm_80", "sm_86", "sm_89", "sm_90"]
# What machine code is told by: products of tensor cores, their loads, asynchronous copies, products
# of f32, and loads and stores of local memory.
COUNTED = ["HMMA", "LDSM", "LDGSTS", "FFMA", "LDL", "STL"]
# What instructions of a text are in machine code.
BECOME = {"mma.sync": "HMMA", "ldmatrix": "LDSM", "cp.async.cg": "LDGSTS"}
# Blocks along each axis that the verifier looks at: others do the same elsewhere.
BLOCKS = 2


def tool(package: str, name: str) -> pathlib.Path | None:
    """Returns a program that a package of PyPI brings."""
    try:
        files = importlib.metadata.files(package) or []
    except importlib.metadata.PackageNotFoundError:
        return None
    found = [file for file in files if file.name == name]
    return pathlib.Path(found[0].locate()) if found else None


def texts(artifact: pathlib.Path, only: str) -> list[tuple[str, str]]:
    """Returns the names and texts of the kernels whose names begin with `only`."""
    parts = [file.read_text().split("// kernel ")[1:] for file in artifact.glob("kernels-*.ptx")]
    kernels = [part.split("\n", 1) for file in parts for part in file]
    return [(name, text) for name, text in kernels if name.startswith(only)]


def assembled(ptxas: pathlib.Path, kernel: pathlib.Path, architecture: str, to: pathlib.Path):
    """Returns registers, bytes of shared memory and what is wrong."""
    command = [ptxas, f"-arch={architecture}", "-v", kernel, "-o", to]
    run = subprocess.run(command, capture_output=True, text=True)
    said = run.stdout + run.stderr
    if run.returncode:
        return 0, 0, [line for line in said.splitlines() if "error" in line or "fatal" in line][:3]
    number = lambda pattern: int(found[1]) if (found := re.search(pattern, said)) else 0
    wrong = []
    if spilled := number(r"(\d+) bytes spill stores"):
        wrong.append(f"{spilled} bytes are spilled")
    wrong += re.findall(r".*C75\d\d.*", said)
    return number(r"Used (\d+) registers"), number(r"(\d+) bytes smem"), wrong


def instructions(nvdisasm: pathlib.Path, binary: pathlib.Path) -> collections.Counter:
    """Returns how often each instruction stands in machine code, by its name without suffixes."""
    code = subprocess.run([nvdisasm, "-c", binary], capture_output=True, text=True, check=True)
    names = re.findall(r"^\s+/\*[0-9a-f]+\*/\s+(?:@!?U?P\w+ )?([A-Z0-9]+)", code.stdout, re.M)
    return collections.Counter(names)


def race(kernel: pathlib.Path, seconds: float) -> tuple[str, str]:
    """Returns the verdict of the verifier, and why."""
    from sentryward import verify

    found = re.search(r"\.reqntid (\d+), 1, 1 /\* grid (\d+) (\d+) (\d+)", kernel.read_text())
    threads, *grid = (int(number) for number in found.groups())
    grid = [min(blocks, BLOCKS) for blocks in grid]
    launch = {"grid_dim": grid, "block_dim": [threads, 1, 1]}
    given = {"schema": "spverify.kernel-input/v1", "launch": launch, "arguments": []}
    with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        json.dump(given, file)
        file.flush()
        found = verify(kernel, input=file.name, timeout_seconds=seconds)
    codes = sorted({one.get("code", "") for one in found.get("diagnostics", [])})
    return found["result"], ", ".join(codes)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("artifact", type=pathlib.Path)
    parser.add_argument("--architectures", nargs="+", default=ARCHITECTURES)
    parser.add_argument("--races", action="store_true", help="look for races too: seconds each")
    parser.add_argument("--timeout", type=float, default=60, help="seconds of the search for races")
    parser.add_argument("--only", default="", help="kernels whose names begin with this")
    arguments = parser.parse_args()
    ptxas = tool("nvidia-cuda-nvcc-cu12", "ptxas")
    nvdisasm = tool("nvidia-cuda-nvdisasm", "nvdisasm")
    if not ptxas or not nvdisasm:
        print("skipped: nvidia-cuda-nvcc-cu12 or nvidia-cuda-nvdisasm is not installed")
        return 0
    kernels = texts(arguments.artifact, arguments.only)
    if not kernels:
        sys.exit(f"{arguments.artifact}: no kernel in kernels-*.ptx")
    failures, verdicts = [], collections.Counter()
    held_by = collections.Counter()
    with tempfile.TemporaryDirectory() as folder:
        binary = pathlib.Path(folder) / "kernel.cubin"
        kernel = pathlib.Path(folder) / "kernel.ptx"
        for name, text in kernels:
            kernel.write_text(text)
            for architecture in arguments.architectures:
                registers, shared, wrong = assembled(ptxas, kernel, architecture, binary)
                failures += [f"{name} on {architecture}: {reason}" for reason in wrong]
                if wrong:
                    continue
                counts = instructions(nvdisasm, binary)
                if counts["LDL"] + counts["STL"]:
                    failures.append(f"{name} on {architecture}: its machine code uses local memory")
                for instruction, machine in BECOME.items():
                    if instruction in text and not counts[machine]:
                        failures.append(f"{name} on {architecture}: no {machine} in machine code")
                if architecture == arguments.architectures[0]:
                    held_by.update(one for one in COUNTED if counts[one])
                    held = " ".join(f"{counts[one]} {one}" for one in COUNTED if counts[one])
                    print(f"{name:<24} {registers:>4} registers {shared:>6} bytes shared  {held}")
            if arguments.races:
                verdict, why = race(kernel, arguments.timeout)
                verdicts[verdict] += 1
                if verdict != "race_free":
                    print(f"{name:<24} {verdict}: {why}")
                if verdict in ("potential_race", "not_wellsynced", "invalid_lifecycle"):
                    failures.append(f"{name}: {verdict}")
    if arguments.races:
        print(f"races: {dict(verdicts)}")
    print(f"{len(kernels)} kernels for {', '.join(arguments.architectures)}")
    print("  " + ", ".join(f"{held_by[one]} with {one}" for one in COUNTED if held_by[one]))
    for failure in failures:
        print(f"FAILED {failure}")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
