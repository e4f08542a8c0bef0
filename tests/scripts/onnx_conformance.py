#!/usr/bin/env python3
"""Run the node tests of the `onnx` package through `splamc run`.

Takes: the node test cases that ship inside the `onnx` package, the operator list
`tests/golden/onnx_ops.json`, and a built `splamc`.
Gives: one line per case that did not pass, with the reason, then `N passed, M failed`; exit code 1
when the share that passed is below `--require`.
Never: touches the network, or skips a selected case silently.

Which cases: those whose every node (subgraphs included) is a default-domain operator of the list,
and whose every graph input and output is a tensor of f16, f32, i32, i64 or bool. With onnx 1.23.2
that selects 984 of 1884; `--expect-cases` makes another count an error.

What passing means: exit code 0, every graph output present under its name, with the expected dtype
and shape, and |got - want| <= atol + rtol * |want| with the case's own tolerances (NaN equals NaN),
which is what onnx's own backend test runner asserts.

Needs: requirements-conformance.txt (onnx, numpy, safetensors).
Example: python3 tests/scripts/onnx_conformance.py --splamc target/release/splamc
"""

import argparse
import concurrent.futures
import contextlib
import dataclasses
import fnmatch
import hashlib
import io
import json
import os
import pathlib
import random
import shutil
import subprocess
import sys
import tempfile
import time
import warnings

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

ROOT = pathlib.Path(__file__).resolve().parents[2]
# Raise it when what a cached case holds changes, so that old caches are made anew.
CACHE_FORMAT = 1
SEED = 0


@dataclasses.dataclass
class Case:
    """One data set of one node test, on disk: model.onnx, inputs and expected outputs."""

    name: str
    folder: str
    rtol: float
    atol: float
    outputs: list[str]


def nodes_of(graph):
    """Yields every node of a graph, those of If, Loop and Scan bodies included."""
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            for body in [attribute.g] if attribute.HasField("g") else attribute.graphs:
                yield from nodes_of(body)


def is_selected(model, operators: set[str]) -> bool:
    """Whether a model stays within the operators and the dtypes of the selection."""
    from onnx import TensorProto

    dtypes = {
        TensorProto.FLOAT16,
        TensorProto.FLOAT,
        TensorProto.INT32,
        TensorProto.INT64,
        TensorProto.BOOL,
    }
    graph = model.graph
    return all(
        node.domain in ("", "ai.onnx") and node.op_type in operators for node in nodes_of(graph)
    ) and all(
        value.type.WhichOneof("value") == "tensor_type"
        and value.type.tensor_type.elem_type in dtypes
        for value in [*graph.input, *graph.output]
    )


def as_array(value) -> np.ndarray:
    """A data set holds arrays, NumPy scalars or TensorProto messages; gives a contiguous array."""
    import onnx

    if isinstance(value, onnx.TensorProto):
        value = onnx.numpy_helper.to_array(value)
    return np.array(value, order="C")


def write_case(test, folder: pathlib.Path) -> list[Case]:
    """Writes the data sets of one node test below `folder`, gives one Case for each."""
    cases = []
    graph = test.model.graph
    output_names = [value.name for value in graph.output]
    for index, (inputs, outputs) in enumerate(test.data_sets):
        name = test.name if len(test.data_sets) == 1 else f"{test.name}#{index}"
        case_folder = folder / name
        case_folder.mkdir(parents=True)
        (case_folder / "model.onnx").write_bytes(test.model.SerializeToString())
        # An optional input that a data set leaves out is None: no tensor is written for it.
        given = zip([value.name for value in graph.input], inputs, strict=True)
        save_file(
            {key: as_array(value) for key, value in given if value is not None},
            case_folder / "inputs.safetensors",
        )
        expected = zip(output_names, outputs, strict=True)
        save_file(
            {key: as_array(value) for key, value in expected},
            case_folder / "expected.safetensors",
        )
        cases.append(Case(name, name, test.rtol, test.atol, output_names))
    return cases


def generate(operators: set[str], folder: pathlib.Path) -> list[Case]:
    """Collects onnx's node tests and writes the selected ones; takes some ten seconds."""
    from onnx.backend.test.case.node import collect_testcases

    # Several cases draw their inputs from NumPy's or Python's global generator.
    np.random.seed(SEED)
    random.seed(SEED)
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        # The reference code of some cases divides by zero on purpose.
        warnings.simplefilter("ignore")
        tests = collect_testcases(None)
    cases = []
    for test in tests:
        if test.model is not None and is_selected(test.model, operators):
            cases.extend(write_case(test, folder))
    return sorted(cases, key=lambda case: case.name)


def cached_cases(ops_file: pathlib.Path, cache: pathlib.Path) -> tuple[pathlib.Path, list[Case]]:
    """Gives the folder of the cases and the cases; generates them when the cache lacks them."""
    import onnx

    ops_bytes = ops_file.read_bytes()
    key = hashlib.sha256(ops_bytes + str(CACHE_FORMAT).encode()).hexdigest()[:12]
    folder = cache / f"onnx-{onnx.__version__}-{key}"
    index = folder / "index.json"
    if not index.is_file():
        cache.mkdir(parents=True, exist_ok=True)
        beside = pathlib.Path(tempfile.mkdtemp(prefix="making-", dir=cache))
        cases = generate(set(json.loads(ops_bytes)), beside)
        rows = [dataclasses.asdict(case) for case in cases]
        (beside / "index.json").write_text(json.dumps(rows, indent=1))
        # The rename is the moment the cache exists: a killed run leaves no half of one.
        shutil.rmtree(folder, ignore_errors=True)
        beside.rename(folder)
    return folder, [Case(**row) for row in json.loads(index.read_text())]


def mismatch(want: np.ndarray, got: np.ndarray, case: Case) -> str | None:
    """Says in one line how an output differs from what the case expects, or None."""
    if got.dtype != want.dtype:
        return f"dtype {got.dtype}, wanted {want.dtype}"
    if got.shape != want.shape:
        return f"shape {list(got.shape)}, wanted {list(want.shape)}"
    if np.issubdtype(want.dtype, np.floating):
        close = np.isclose(
            got.astype(np.float64),
            want.astype(np.float64),
            rtol=case.rtol,
            atol=case.atol,
            equal_nan=True,
        )
    else:
        close = got == want
    if close.all():
        return None
    at = tuple(int(i) for i in np.argwhere(~close)[0]) if want.ndim else ()
    wrong = int(close.size - np.count_nonzero(close))
    first = f"first at {list(at)}: {got[at]}, wanted {want[at]}"
    return f"{wrong} of {close.size} elements differ, {first}"


def run_case(case: Case, folder: pathlib.Path, command: list[str], timeout_s: float) -> str | None:
    """Runs one case in a process of its own; gives the reason why it did not pass, or None."""
    case_folder = folder / case.folder
    with tempfile.TemporaryDirectory(prefix="splamc-case-") as scratch:
        out = pathlib.Path(scratch) / "out.safetensors"
        arguments = [
            *command,
            "run",
            str(case_folder / "model.onnx"),
            "--inputs",
            str(case_folder / "inputs.safetensors"),
            "--outputs",
            str(out),
        ]
        try:
            done = subprocess.run(
                arguments,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=timeout_s,
            )
        except subprocess.TimeoutExpired:
            return f"no answer within {timeout_s:g} s"
        if done.returncode != 0:
            lines = [line.strip() for line in done.stderr.splitlines() if line.strip()]
            return f"exit {done.returncode}: {lines[0] if lines else 'nothing on stderr'}"
        try:
            got = load_file(out)
        except (OSError, SafetensorError) as error:
            return f"outputs file unreadable: {error}"
    want = load_file(case_folder / "expected.safetensors")
    for name in case.outputs:
        if name not in got:
            return f"output {name!r} missing, the file has {sorted(got)}"
        reason = mismatch(want[name], got[name], case)
        if reason:
            return f"output {name!r}: {reason}"
    return None


def default_splamc() -> str:
    """The newest of the release and the debug build, where Cargo puts them."""
    target = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
    built = [p for p in (target / "release/splamc", target / "debug/splamc") if p.is_file()]
    return str(max(built, key=lambda p: p.stat().st_mtime, default=target / "release/splamc"))


def parse_arguments() -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--splamc",
        nargs="+",
        default=[default_splamc()],
        metavar="WORD",
        help="the command to test (default: the newest build in Cargo's target folder)",
    )
    parser.add_argument("--ops", type=pathlib.Path, default=ROOT / "tests/golden/onnx_ops.json")
    parser.add_argument(
        "--cache",
        type=pathlib.Path,
        default=ROOT / "target/onnx-conformance",
        help="folder that keeps the generated cases (default: %(default)s)",
    )
    parser.add_argument("--require", type=float, default=0.95, help="least share to pass (0.95)")
    parser.add_argument("--expect-cases", type=int, help="fail when another number is selected")
    parser.add_argument("--jobs", type=int, default=2, help="cases that run at once (2)")
    parser.add_argument("--timeout", type=float, default=30.0, metavar="SECONDS")
    parser.add_argument("--filter", default="*", metavar="GLOB", help="only cases of this name")
    parser.add_argument("--list", action="store_true", help="print the cases' names and stop")
    parser.add_argument(
        "--json", type=pathlib.Path, help="also write name -> reason (null: passed)"
    )
    return parser.parse_args()


def main() -> int:
    """Selects, runs, reports."""
    options = parse_arguments()
    started = time.monotonic()
    folder, cases = cached_cases(options.ops, options.cache)
    if options.expect_cases is not None and len(cases) != options.expect_cases:
        print(f"selected {len(cases)} cases, wanted {options.expect_cases}", file=sys.stderr)
        return 1
    chosen = [case for case in cases if fnmatch.fnmatch(case.name, options.filter)]
    if options.list:
        print("\n".join(case.name for case in chosen))
        return 0
    if not chosen:
        print(f"no case is named like {options.filter!r}", file=sys.stderr)
        return 1
    if shutil.which(options.splamc[0]) is None:
        print(
            f"no program at {options.splamc[0]}: build it, or name it by --splamc", file=sys.stderr
        )
        return 2
    prepared = time.monotonic()
    with concurrent.futures.ThreadPoolExecutor(options.jobs) as pool:
        reasons = list(
            pool.map(lambda c: run_case(c, folder, options.splamc, options.timeout), chosen)
        )
    ran = time.monotonic()
    if options.json:
        rows = {case.name: reason for case, reason in zip(chosen, reasons, strict=True)}
        options.json.write_text(json.dumps(rows, indent=1) + "\n")
    failed = [(case, reason) for case, reason in zip(chosen, reasons, strict=True) if reason]
    for case, reason in failed:
        print(f"{case.name}: {reason}")
    passed = len(chosen) - len(failed)
    share = passed / len(chosen)
    print(
        f"{len(chosen)} cases from {folder.name}: "
        f"{share:.1%} passed, {options.require:.1%} required; "
        f"prepared in {prepared - started:.1f} s, ran in {ran - prepared:.1f} s"
    )
    print(f"{passed} passed, {len(failed)} failed")
    return 0 if share >= options.require else 1


if __name__ == "__main__":
    sys.exit(main())
