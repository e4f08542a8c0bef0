#!/usr/bin/env python3
"""Change whole pipelines and the places of outputs at random, and check what `splamc` makes of them.

Takes: a built `splamc`, `examples/tiny-model` and the ONNX pipeline in `tests/golden`.
Prints: one line per misbehaving run, with the seed and number that repeat it, then a count; exit
code 1 when there was one.
Never: writes outside of its scratch folder, or touches the network.

Each run changes one or two things: keys of model_index.json and of configurations, the order of ONNX
nodes, weights (cut, NaN, infinite, too large, a Git LFS pointer, a link to nothing), or what the
output's path leads to (a link, a pipe, a device, a folder, a file or folder that is read-only). A run
misbehaves when it panics, ends by a signal, fails without naming anything, writes a damaged or black
picture, changes the kind of what is at the output's path, changes a file that is not its output, or
refuses ONNX nodes for their order.

Each run is a function of (seed, number) alone: `--seed S --only N` repeats run N. Needs Python only.
Example: python3 tests/scripts/mutate_pipelines.py --tries 300
"""

import argparse
import hashlib
import json
import os
import random
import shlex
import shutil
import stat
import struct
import subprocess
import zlib

import mutate

POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:{}\nsize 3438167536\n"
VALUES = [None, True, -1, 0, 1, 3, 2**40, 0.5, 1e308, "", "x", [], [1], ["a", "b"], {}, {"a": 1}]
PIXELS = 32  # The fewest, along both axes, that every export here runs on.
NODES = 1  # The field of `GraphProto` that holds the nodes.


def parts(model, pattern):
    return sorted(path for path in model.rglob(pattern) if path.is_file())


# --- Changes of the model: each returns what it did, or None where it fits nothing ---------------


def change_keys(rng, path):
    """Removes, replaces or adds keys of a JSON object, at its top or one level below."""
    top = json.loads(path.read_bytes())
    inner = [value for value in top.values() if isinstance(value, dict) and value]
    target = rng.choice([top, *inner])
    key = rng.choice(sorted(target))
    kind = rng.choice(["remove", "replace", "replace", "rename", "add"])
    if kind == "replace":
        target[key] = rng.choice(VALUES)
    elif kind == "add":
        target[rng.choice(["_x", "swirl", key.upper()])] = rng.choice(VALUES)
    else:
        value = target.pop(key)
        if kind == "rename":
            target[key + "_"] = value
    path.write_text(json.dumps(top))
    return f"{kind} {key!r} of {path.parent.name}/{path.name}"


def index(rng, model):
    return change_keys(rng, model / "model_index.json")


def configuration(rng, model):
    return change_keys(rng, rng.choice([p for p in parts(model, "*.json") if p.name != "vocab.json"]))


def values_of(path):
    """The content of a file of weights and the ranges of its f32 tensors, by name."""
    data = bytearray(path.read_bytes())
    if path.suffix != ".safetensors":
        return data, {"data": (0, len(data) // 4 * 4)}
    length = struct.unpack("<Q", data[:8])[0]
    header = json.loads(data[8 : 8 + length])
    header.pop("__metadata__", None)
    ranges = {name: [8 + length + end for end in own["data_offsets"]] for name, own in header.items() if own["dtype"] == "F32"}
    return data, ranges


def weights(rng, model):
    path = rng.choice(parts(model, "*.safetensors") + parts(model, "*.onnx_data"))
    kind = rng.choice(["cut", "empty", "pointer", "link", "nan", "inf", "scale"])
    data = path.read_bytes()
    if kind == "cut":
        path.write_bytes(data[: rng.randrange(len(data))])
    elif kind == "empty":
        path.write_bytes(b"")
    elif kind == "pointer":
        path.write_text(POINTER.format("0" * 64))
    elif kind == "link":
        path.unlink()
        path.symlink_to("../../blobs/absent")
    else:
        data, ranges = values_of(path)
        start, end = ranges[rng.choice(sorted(ranges))]
        if kind == "scale":
            old = struct.unpack(f"<{(end - start) // 4}f", data[start:end])
            new = (max(min(value * 1e6, 3e38), -3e38) for value in old)
            data[start:end] = struct.pack(f"<{len(old)}f", *new)
        elif start < end:
            at = start + 4 * rng.randrange((end - start) // 4)
            data[at : at + 4] = struct.pack("<f", float(kind))
        path.write_bytes(data)
    return f"{kind} {path.parent.name}/{path.name}"


def nodes(rng, model):
    """Shuffles the nodes of an ONNX graph: they mean the same in any order."""
    graphs = parts(model, "*.onnx")
    if not graphs:
        return None
    path = rng.choice(graphs)
    fields = mutate.decode(path.read_bytes(), "model")
    graph = next(value for field, _, value in fields if field == 7)
    order = [field for field in graph if field[0] == NODES]
    rng.shuffle(order)
    graph[:] = order + [field for field in graph if field[0] != NODES]
    path.write_bytes(mutate.encode(fields))
    return f"nodes of {path.parent.name}/{path.name} in another order"


CHANGES = [index, configuration, configuration, weights, weights, nodes]


# --- Places of outputs ---------------------------------------------------------------------------


def place(rng, folder, user):
    """Makes something at the output's path; gives its name and the path."""
    kind = rng.choice(["new", "new", "file", "link", "dangling", "pipe", "full", "device", "folder", "fixed", "closed"])
    path = folder / "out.png"
    if kind in ("file", "fixed"):
        path.write_bytes(b"old")
        path.chmod(0o444 if kind == "fixed" else 0o644)
    elif kind == "link":
        (folder / "target.png").write_bytes(b"old")
        path.symlink_to("target.png")
    elif kind == "dangling":
        path.symlink_to("target.png")
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "full":
        path.symlink_to("/dev/full")
    elif kind == "device":
        if user != 0:
            return "new", path
        os.mknod(path, 0o666 | stat.S_IFCHR, os.makedev(1, 3))
    elif kind == "folder":
        path.mkdir()
    elif kind == "closed":
        path = folder / "closed/out.png"
        path.parent.mkdir()
        path.parent.chmod(0o555)
    return kind, path


def command(rng, output, is_onnx):
    """A command that writes a picture or prints; the picture's name is at its end."""
    size = ["-W", str(PIXELS), "-H", str(PIXELS)]
    steps = rng.choice(["1", "2"])
    # Exported graphs have types of their own.
    dtype = rng.choice([[], [], ["--dtype", "f16"], ["--dtype", "bf16"]]) if not is_onnx else []
    sample = ["sample", "model", "-p", rng.choice(["a cat", "", "-dash"]), "--steps", steps, *size, *dtype, "-o", output]
    others = [["inspect", "model"], ["compile", "model", "--target", "cpu", *size, *dtype, "-o", "m.splam"]]
    return sample if rng.random() < 0.8 else rng.choice(others)


# --- What a run must not do ----------------------------------------------------------------------


def tree(folder, left_out):
    """The kind and a hash of the content of everything in a folder but some paths."""
    found = {}
    for path in sorted(folder.rglob("*")):
        if any(path == own or own in path.parents for own in left_out):
            continue
        kind = stat.S_IFMT(path.lstat().st_mode)
        content = hashlib.sha256(path.read_bytes()).digest() if kind == stat.S_IFREG else b""
        found[path.relative_to(folder).as_posix()] = (kind, content)
    return found


def picture_fault(data):
    """What is wrong with a PNG of PIXELS x PIXELS; None if nothing."""
    if data[:8] != b"\x89PNG\r\n\x1a\n":
        return "an output that is not a PNG"
    at, pixels = 8, b""
    while at < len(data):
        length, kind = struct.unpack(">I4s", data[at : at + 8])
        content = data[at + 8 : at + 8 + length]
        if struct.unpack(">I", data[at + 8 + length : at + 12 + length])[0] != zlib.crc32(kind + content):
            return "a PNG with a wrong checksum"
        pixels += content if kind == b"IDAT" else b""
        if kind == b"IHDR" and struct.unpack(">II", content[:8]) != (PIXELS, PIXELS):
            return "a picture of another size"
        at += 12 + length
    lines = zlib.decompress(pixels)
    return "a black picture" if not any(lines) else None


def fault(options, folder, what, arguments, kind, output):
    """Runs the command; gives its ending, what is wrong, and its messages."""
    own = [output, folder / "target.png", folder / "m.splam"]
    before, old = tree(folder, own), output.lstat().st_mode if os.path.lexists(output) else None
    received = []
    if kind == "pipe":
        # Opened for both ends, so that nobody waits: a picture of this size fits in a pipe.
        pipe = os.open(output, os.O_RDWR | os.O_NONBLOCK)
    try:
        result = subprocess.run(
            [options.splamc, *arguments], cwd=folder, capture_output=True, timeout=options.seconds, check=False,
            preexec_fn=mutate.limits(options.gigabytes), env={**os.environ, "RUST_BACKTRACE": "0"}, stdin=subprocess.DEVNULL,
        )
    except subprocess.TimeoutExpired:
        return None, f"more than {options.seconds} s", ""
    if kind == "pipe":
        try:
            received.append(os.read(pipe, 1 << 16))
        except BlockingIOError:
            pass
        os.close(pipe)
    told, is_good = result.stderr.decode("utf-8", "replace"), result.returncode == 0
    wrong = mutate.complaint(folder, result, arguments)
    if tree(folder, own) != before:
        wrong = wrong or "changed a file that is not its output"
    new = output.lstat().st_mode if os.path.lexists(output) else None
    if old is not None and (new is None or stat.S_IFMT(new) != stat.S_IFMT(old)):
        wrong = wrong or f"the output is no longer a {kind}"
    if arguments[0] == "sample":
        written = None
        if kind == "pipe":
            written = b"".join(received) if is_good else None
        elif kind not in ("full", "device", "folder") and output.exists():
            written = output.read_bytes()
        if is_good and kind in ("full", "folder"):
            wrong = wrong or f"success although the output is a {kind}"
        elif is_good and written is not None:
            wrong = wrong or picture_fault(written)
        elif not is_good and written not in (None, b"old"):
            wrong = wrong or "a failed run changed its output"
    if not is_good and len(what) == 1 and what[0].startswith("nodes") and kind == "new":
        wrong = wrong or "refused nodes for their order"
    return result.returncode, wrong, told


def run(number, options, scratch):
    rng = random.Random(f"{options.seed}-{number}")
    folder = scratch / f"run-{number}"
    base = rng.choice([mutate.EXAMPLE, mutate.EXAMPLE, mutate.GOLDEN / "onnx_torchscript"])
    shutil.copytree(base, folder / "model")
    what = []
    for _ in range(rng.choice([0, 1, 1, 1, 2])):
        try:
            what.append(rng.choice(CHANGES)(rng, folder / "model"))
        except (OSError, ValueError, KeyError, IndexError, struct.error):
            # The file was damaged by the change before.
            pass
    what = [own for own in what if own]
    kind, output = place(rng, folder, os.geteuid())
    arguments = command(rng, output.relative_to(folder).as_posix(), base != mutate.EXAMPLE)
    ending, wrong, told = fault(options, folder, what, arguments, kind, output)
    (folder / "closed").exists() and (folder / "closed").chmod(0o755)
    if not (wrong and options.keep):
        shutil.rmtree(folder)
    line = f"run {number}: {', '.join([*what, 'output ' + kind])}: splamc {shlex.join(arguments)}\n    {told.strip()[:600]}"
    return ending, wrong, line


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tries", type=int, default=300)
    options = mutate.arguments(parser, seconds=60)
    mutate.carry_out(options, options.tries, lambda scratch: lambda number: run(number, options, scratch))


if __name__ == "__main__":
    main()
