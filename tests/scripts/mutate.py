#!/usr/bin/env python3
"""Damage models and options at random, and hold `splamc` to its manners.

Takes: a built `splamc`, and the small models in `tests/golden`.
Gives: one line per run that misbehaved, with the command that repeats it, then a count; exit code 1
when there was one.
Never: writes outside of its scratch folder, or touches the network.

What misbehaving means: a panic, a signal, an exit code other than 0, 1 and 2, more than --seconds,
more than --gigabytes of address space, an error that names nothing, or a damaged output.

Each run is a function of (seed, number) alone: `--seed S --only N` repeats run N. Needs Python only.
Example: python3 tests/scripts/mutate.py --splamc target/debug/splamc --runs 3000
"""

import argparse
import collections
import concurrent.futures
import copy
import hashlib
import json
import os
import pathlib
import random
import resource
import shlex
import shutil
import signal
import struct
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
GOLDEN = ROOT / "tests/golden"
EXAMPLE = ROOT / "examples/tiny-model"

CLOSED = 141  # What shells say of a program that wrote to a closed pipe.

COUNTS = [0, 1, 2, 3, 7, 13, 77, 255, 65535, 2**31 - 1, 2**31, 2**32, 2**40, 2**62, 2**63 - 1]
NUMBERS = [*COUNTS, -1, -2, -(2**31), -(2**63), 2**63, 2**64 - 1, 2**64, 0.5, -0.5, 1e-30, 1e308, -1e308]
TEXTS = ["", " ", "a", "../x", "/etc/passwd", "\0", "é\u202e漢\U0001f600", "x" * 5000, "nan", "-1", "{}", "%s%n"]
WORDS = ["nan", "inf", "-inf", "-0", "0", "1", "-1", "7", "1e400", "", " ", "é漢", "0x10", "1" * 400, "--", "=", "a=0"]


# --- Protocol buffers, without a schema but for which fields are messages ---------------------

# message -> field number -> message
MESSAGES = {
    "model": {7: "graph", 8: "opset", 25: "function"},
    "graph": {1: "node", 5: "tensor", 11: "value", 12: "value", 13: "value"},
    "function": {7: "node", 9: "opset"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph"},
    "tensor": {13: "entry"},
    "value": {2: "type"},
    "type": {1: "tensor_type"},
    "tensor_type": {2: "shape"},
    "shape": {1: "dim"},
    "dim": {},
    "opset": {},
    "entry": {},
    "plan": {1: "program"},
    "program": {},
}


def read_varint(data, at):
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 127) << shift
        shift += 7
        if byte < 128:
            return value, at


def varint(value):
    value %= 2**64
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)


def decode(data, kind):
    """A message as a list of [field, wire type, value]; a nested message's value is a list."""
    fields, at = [], 0
    while at < len(data):
        tag, at = read_varint(data, at)
        field, wire = tag >> 3, tag & 7
        if wire == 0:
            value, at = read_varint(data, at)
        elif wire == 1:
            value, at = data[at : at + 8], at + 8
        elif wire == 5:
            value, at = data[at : at + 4], at + 4
        else:
            length, at = read_varint(data, at)
            value, at = data[at : at + length], at + length
            inner = MESSAGES[kind].get(field)
            if inner:
                value = decode(value, inner)
        fields.append([field, wire, value])
    return fields


def encode(fields):
    out = bytearray()
    for field, wire, value in fields:
        out += varint(field << 3 | wire)
        if wire == 0:
            out += varint(value)
        elif wire == 2:
            value = encode(value) if isinstance(value, list) else value
            out += varint(len(value)) + value
        else:
            out += value
    return bytes(out)


def mutate_fields(rng, fields):
    """Changes one field somewhere below, each level as likely to be the place as any other."""
    lists = [fields]
    for inner in lists:
        lists += [value for _, _, value in inner if isinstance(value, list)]
    by_size = [inner for inner in lists if inner]
    here = rng.choice([fields, rng.choice(by_size)]) if by_size else fields
    if not here:
        here.append([rng.randrange(1, 30), 0, rng.choice(COUNTS)])
        return
    at = rng.randrange(len(here))
    field, wire, value = here[at]
    match rng.randrange(6):
        case 0:
            del here[at]
        case 1:
            here.insert(rng.randrange(len(here) + 1), copy.deepcopy(here[at]))
        case 2:
            here[at] = copy.deepcopy(rng.choice(here))
        case 3:
            other = rng.choice(rng.choice(by_size))
            here[at] = [field, *copy.deepcopy(other[1:])]
        case _:
            if wire == 0:
                here[at] = [field, wire, rng.choice([int(rng.choice(NUMBERS[:-4])), value + 1, value ^ 1])]
            elif isinstance(value, list):
                mutate_fields(rng, value)
            else:
                here[at] = [field, wire, mutate_bytes(rng, value)]


# --- Files --------------------------------------------------------------------------------------


def mutate_bytes(rng, data):
    data = bytearray(data)
    at = rng.randrange(len(data) + 1)
    length = rng.choice([1, 1, 2, 4, 8, 100])
    match rng.randrange(7):
        case 0:
            return bytes(data[:at])
        case 1:
            del data[at : at + length]
        case 2:
            data[at:at] = data[at : at + length] or b"\0"
        case 3:
            data[at : at + length] = bytes(rng.randrange(256) for _ in range(length))
        case 4:
            data[at : at + length] = rng.choice([b"\0", b"\xff", b"\x7f", b"\x80"]) * length
        case 5:
            return rng.choice(TEXTS).encode()
        case _:
            if at < len(data):
                data[at] ^= 1 << rng.randrange(8)
    return bytes(data)


def places(value):
    """Every (container, key) of a JSON value."""
    items = value.items() if isinstance(value, dict) else enumerate(value)
    for key, inner in list(items):
        yield value, key
        if isinstance(inner, dict | list):
            yield from places(inner)


def odd_value(rng, like):
    if isinstance(like, bool):
        return rng.choice([not like, None, 1])
    if isinstance(like, int | float) and rng.random() < 0.7:
        return rng.choice([*NUMBERS, like + 1, like * 2, -like, like / 2, float("nan")])
    if isinstance(like, list) and like and rng.random() < 0.7:
        return rng.choice([like[:-1], like * 2, like[::-1], [], [like] * 3, like + [rng.choice(NUMBERS)]])
    return rng.choice([None, True, {}, [], [[]], rng.choice(TEXTS), rng.choice(NUMBERS), {"a": 1}])


def mutate_json_value(rng, value):
    found = list(places(value))
    if not found:
        return
    inside, key = rng.choice(found)
    match rng.randrange(6):
        case 0:
            del inside[key]
        case 1 if isinstance(inside, dict):
            inside[rng.choice(TEXTS + [str(key) + "_"])] = inside[key]
        case 2:
            other, name = rng.choice(found)
            inside[key] = json.loads(json.dumps(other[name])) if name in other or isinstance(other, list) else None
        case _:
            inside[key] = odd_value(rng, inside[key])


def mutate_json(rng, data):
    if rng.random() < 0.1:
        return mutate_bytes(rng, data)
    value = json.loads(data)
    if rng.random() < 0.03:
        return json.dumps(odd_value(rng, None)).encode()
    for _ in range(rng.choice([1, 1, 1, 2, 5])):
        mutate_json_value(rng, value)
    return json.dumps(value, ensure_ascii=rng.random() < 0.5).encode("utf-8", "replace")


def mutate_safetensors(rng, data):
    length = struct.unpack("<Q", data[:8])[0]
    header, body = data[8 : 8 + length], bytearray(data[8 + length :])
    match rng.randrange(8):
        case 0:
            return struct.pack("<Q", rng.choice([*COUNTS, length + 1, length - 1, 2**64 - 1])) + data[8:]
        case 1:
            return mutate_bytes(rng, data)
        case 2 | 3:
            for _ in range(rng.choice([1, 10])):
                at = rng.randrange(max(1, len(body) // 4)) * 4
                worst = [float("nan"), float("inf"), -float("inf"), 3e38, 1e-40]
                body[at : at + 4] = struct.pack("<f", rng.choice(worst))
        case 4:
            # Another dtype of the same size, shape rearranged: consistent, but not the model's.
            entries = json.loads(header)
            name = rng.choice([name for name in entries if name != "__metadata__"])
            entry = entries[name]
            if rng.random() < 0.5:
                entry["dtype"] = {"F32": "I32", "I64": "F64"}.get(entry["dtype"], "U8")
            else:
                entry["shape"] = rng.choice([entry["shape"][::-1], [*entry["shape"], 1], entry["shape"][1:]])
            header = json.dumps(entries).encode()
        case _:
            header = mutate_json(rng, header)
    return struct.pack("<Q", len(header)) + header + bytes(body)


def mutate_protobuf(rng, data, kind):
    if rng.random() < 0.15:
        return mutate_bytes(rng, data)
    fields = decode(data, kind)
    for _ in range(rng.choice([1, 1, 1, 2, 5])):
        mutate_fields(rng, fields)
    return encode(fields)


def mutate_program(rng, data):
    """The program's text is inside the plan: words and numbers of it change places."""
    if rng.random() < 0.3:
        return mutate_protobuf(rng, data, "plan")
    fields = decode(data, "plan")
    program = rng.choice([value for _, _, value in fields if isinstance(value, list)])
    texts = [field for field in program if field[1] == 2 and len(field[2]) > 200]
    text = rng.choice(texts or program)
    lines = text[2].split(b"\n") if text[1] == 2 else [b""]
    at = rng.randrange(len(lines))
    words = lines[at].split(b" ")
    spot = rng.randrange(len(words))
    match rng.randrange(5):
        case 0:
            del lines[at]
        case 1:
            lines.insert(at, rng.choice(lines))
        case 2:
            words[spot] = rng.choice(rng.choice(lines).split(b" "))
            lines[at] = b" ".join(words)
        case 3:
            words[spot] = str(rng.choice(NUMBERS)).encode()
            lines[at] = b" ".join(words)
        case _:
            digits = [i for i, byte in enumerate(lines[at]) if 48 <= byte < 58]
            line = bytearray(lines[at])
            if digits:
                i = rng.choice(digits)
                line[i : i + 1] = str(rng.choice([0, 1, 9, 10**6, 2**40, 2**63])).encode()
            lines[at] = bytes(line)
    if text[1] == 2:
        text[2] = b"\n".join(lines)
    return encode(fields)


def mutate_file(rng, name, data):
    """Damage that keeps the format where it can; a file that was damaged before may have none."""
    try:
        return mutate_format(rng, name, data)
    except (ValueError, KeyError, TypeError, AttributeError, IndexError, RecursionError, struct.error):
        return mutate_bytes(rng, data)


def mutate_format(rng, name, data):
    if name.endswith(".onnx"):
        return mutate_protobuf(rng, data, "model")
    if name.endswith(".pb"):
        return mutate_program(rng, data)
    if name.endswith(".safetensors"):
        return mutate_safetensors(rng, data)
    if name.endswith(".json"):
        return mutate_json(rng, data)
    return mutate_bytes(rng, data)


def reseal(folder, name):
    """Gives a changed file of an artifact the name, length and hashes that fit its content."""
    manifest = json.loads((folder / "manifest.json").read_text())
    entries = [entry for entry in manifest["files"].values() if entry["file"] == name]
    path = folder / name
    if entries and path.exists():
        content = path.read_bytes()
        digest = hashlib.sha256(content).hexdigest()
        stem, extension = name.rsplit(".", 1)
        renamed = f"{stem.rsplit('-', 1)[0]}-{digest[:16]}.{extension}"
        path.rename(folder / renamed)
        entries[0].update(file=renamed, bytes=len(content), sha256=digest)
    seal(folder, manifest)


def seal(folder, manifest):
    manifest.pop("sha256", None)
    text = json.dumps(manifest, indent=2)[:-2]
    digest = hashlib.sha256(text.encode()).hexdigest()
    (folder / "manifest.json").write_text(f'{text},\n  "sha256": "{digest}"\n}}\n')


# --- Models and commands ------------------------------------------------------------------------


def save_tensors(path, tensors):
    """Writes {name: (dtype, shape, bytes)}."""
    header, body = {}, b""
    for name, (dtype, shape, data) in tensors.items():
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [len(body), len(body) + len(data)]}
        body += data
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + body)


def floats(shape, value=0.25):
    count = 1
    for extent in shape:
        count *= extent
    return "F32", shape, struct.pack("<f", value) * count


def integers(shape, value=3):
    count = 1
    for extent in shape:
        count *= extent
    return "I64", shape, struct.pack("<q", value) * count


LATENTS = [1, 4, 8, 8]
INPUTS = {
    "unet": {"sample": floats(LATENTS), "timestep": integers([1]), "encoder_hidden_states": floats([1, 77, 24])},
    "vae_decoder": {"latent_sample": floats(LATENTS)},
    "vae_encoder": {"sample": floats([1, 3, 32, 32])},
    "text_encoder": {"input_ids": integers([1, 77])},
}


def node(op, inputs, outputs, attributes=()):
    fields = [[1, 2, name.encode()] for name in inputs] + [[2, 2, name.encode()] for name in outputs]
    return [*fields, [4, 2, op.encode()], *([5, 2, encode(attribute)] for attribute in attributes)]


def value_info(name, shape, dtype=1):
    dims = [[1, 2, encode([[1, 0, dim] if isinstance(dim, int) else [2, 2, dim.encode()]])] for dim in shape]
    kind = encode([[1, 2, encode([[1, 0, dtype], [2, 2, encode(dims)]])]])
    return encode([[1, 2, name.encode()], [2, 2, kind]])


def integer_list(name, values):
    return [[1, 2, name.encode()], [20, 0, 7], *([8, 0, value] for value in values)]


def tensor(name, shape, values):
    data = struct.pack(f"<{len(values)}q", *values)
    return encode([*([1, 0, dim] for dim in shape), [2, 0, 7], [8, 2, name.encode()], [9, 2, data]])


def onnx(nodes, inputs, outputs, initializers=()):
    graph = [[1, 2, encode(node)] for node in nodes] + [[2, 2, b"g"], *([5, 2, data] for data in initializers)]
    graph += [[11, 2, value] for value in inputs] + [[12, 2, value] for value in outputs]
    return encode([[1, 0, 8], [7, 2, encode(graph)], [8, 2, encode([[2, 0, 17]])]])


def node_models():
    """Small graphs around operators whose attributes and operands decide sizes: name -> (model, inputs)."""
    x, y = value_info("x", [2, 3, 8, 8]), value_info("y", ["n", "c", "h", "w"])
    one = {"x": floats([2, 3, 8, 8])}
    simple = {
        "conv": [node("Conv", ["x", "x"], ["y"], [integer_list("pads", [1, 1, 1, 1]), integer_list("strides", [1, 2]), integer_list("dilations", [1, 1])])],
        "pool": [node("AveragePool", ["x"], ["y"], [integer_list("kernel_shape", [2, 2]), integer_list("strides", [2, 2])])],
        "transpose": [node("Transpose", ["x"], ["y"], [integer_list("perm", [0, 2, 3, 1])])],
        "concat": [node("Concat", ["x", "x"], ["y"], [[[1, 2, b"axis"], [20, 0, 2], [3, 0, 1]]])],
        "gather": [node("Shape", ["x"], ["s"]), node("Gather", ["x", "s"], ["y"])],
    }
    models = {name: (onnx(nodes, [x], [y]), one) for name, nodes in simple.items()}
    operands = {
        "reshape": ("Reshape", [("s", [3], [2, 3, 64])]),
        "expand": ("Expand", [("s", [4], [2, 3, 8, 8])]),
        "slice": ("Slice", [("a", [2], [0, 1]), ("b", [2], [2, 8]), ("c", [2], [2, 3]), ("d", [2], [1, 2])]),
        "tile": ("Tile", [("s", [4], [1, 2, 1, 3])]),
        "pad": ("Pad", [("s", [8], [0, 0, 1, 2, 0, 0, 3, 4])]),
        "unsqueeze": ("Unsqueeze", [("s", [2], [0, -1])]),
        "split": ("Split", [("s", [2], [1, 1])]),
        "reduce": ("ReduceSum", [("s", [2], [1, 2])]),
    }
    for name, (op, constants) in operands.items():
        nodes = [node(op, ["x", *(constant[0] for constant in constants)], ["y"])]
        models[name] = (onnx(nodes, [x], [y], [tensor(*constant) for constant in constants]), one)
    # Sizes that are computed: a range, a constant of a shape, a reshape to another's shape.
    computed = [
        node("Shape", ["x"], ["s"]), node("ConstantOfShape", ["s"], ["z"]),
        node("Add", ["x", "z"], ["t"]), node("Reshape", ["t", "s"], ["y"]),
    ]
    models["computed"] = (onnx(computed, [x], [y]), one)
    ranges = [node("Range", ["a", "b", "c"], ["r"]), node("Reshape", ["r", "s"], ["y"])]
    bounds = [tensor("a", [], [0]), tensor("b", [], [64]), tensor("c", [], [1]), tensor("s", [2], [8, 8])]
    models["range"] = (onnx(ranges, [], [value_info("y", [8, 8], 7)], bounds), {})
    return models


Base = collections.namedtuple("Base", "folder model components inputs")


def prepare(scratch, splamc):
    """Lays out the undamaged models, each in a folder with its inputs."""
    bases = []
    for model in [EXAMPLE, GOLDEN / "onnx_torchscript", GOLDEN / "onnx_dynamo"]:
        folder = scratch / "bases" / model.name
        shutil.copytree(model, folder / "model")
        bases.append(Base(folder, "model", list(INPUTS), None))
    compiled = scratch / "bases" / "compiled"
    compiled.mkdir()
    command = [splamc, "compile", EXAMPLE, "--target", "cpu", "-W", "32", "-H", "32"]
    subprocess.run([*command, "-o", compiled / "model.splam"], check=True)
    bases.append(Base(compiled, "model.splam", ["unet", "text_encoder", "vae_decoder"], None))
    nodes = scratch / "bases" / "nodes"
    nodes.mkdir()
    for base in bases:
        for component, tensors in INPUTS.items():
            save_tensors(base.folder / f"{component}.safetensors", tensors)
    for name, (model, tensors) in node_models().items():
        folder = nodes / name
        folder.mkdir()
        (folder / "model.onnx").write_bytes(model)
        save_tensors(folder / "inputs.safetensors", tensors)
        bases.append(Base(folder, "model.onnx", [], "inputs.safetensors"))
    return bases


OPTIONS = {
    "sample": ["--steps", "--cfg-scale", "--guidance-rescale", "-s", "-b", "-W", "-H", "--threads", "--sampler", "--spacing", "--rng", "--dtype", "-p", "-n", "--latents-in", "-o"],
    "inspect": ["-b", "-W", "-H", "--bind", "--component", "--stage"],
    "compile": ["-b", "-W", "-H", "--bind", "--component", "--dtype", "--dump"],
    "run": ["--threads", "--component", "--weights"],
    "bench": ["-b", "-W", "-H", "--bind", "--component", "--threads", "--weights"],
}
SAMPLERS = ["ddim", "ddpm", "dpm++2m", "dpm++2m_sde", "dpm", "euler", "euler_a", "lcm", "perflow", "pndm", "tcd", "unipc"]


def option(rng, command):
    name = rng.choice(OPTIONS[command])
    if name == "-o":
        return [name, rng.choice(["absent/out.png", "/dev/null/x", "é.png", "model"])]
    if name in ("--latents-in", "--weights"):
        return [name, rng.choice(["unet.safetensors", "absent", "model", "/dev/null"])]
    value = rng.choice([*WORDS, *(str(number) for number in NUMBERS), *(t for t in TEXTS if "\0" not in t)])
    if name in ("-W", "-H") and rng.random() < 0.5:
        value = str(rng.choice([4, 8, 16, 64, 256, 32768]))
    if name == "-b" and rng.random() < 0.5:
        value = str(rng.choice([1, 2, 3, 64]))
    return [f"{name}={value}" if name.startswith("--") else f"{name}{value}"] if rng.random() < 0.8 else [name, value]


def command_for(rng, base):
    """The arguments of a run on `base`."""
    if base.inputs:
        kinds = ["run", "run", "inspect", "compile"]
    else:
        kinds = ["sample", "sample", "run", "inspect", "compile"]
    kind = rng.choice(kinds)
    arguments = [kind, base.model]
    component = rng.choice(base.components) if base.components else None
    if kind == "sample":
        arguments += ["-p", rng.choice(["a cat", "", "é漢\U0001f600" * 40]), "-o", "out.png", "--sampler" , rng.choice(SAMPLERS)]
        arguments += ["--steps", rng.choice(["1", "2", "4"]), "-W", "32", "-H", "32"]
        if rng.random() < 0.3:
            arguments = [a for a in arguments if a not in ("--sampler", *SAMPLERS)]
    elif kind == "run":
        arguments += ["--inputs", base.inputs or f"{component}.safetensors", "--outputs", "out.safetensors"]
        arguments += ["--component", component] if component else []
    elif kind == "inspect":
        arguments += rng.choice([[], ["--stage", "graph"], ["--stage", "plan"]])
    else:
        arguments += ["--target", "cpu", "-o", "out.splam"]
    return arguments


def damage(rng, base, folder):
    """Copies the model to `folder` and damages it; gives what was damaged."""
    shutil.copytree(base.folder, folder)
    files = sorted(p for p in folder.rglob("*") if p.is_file())
    model = [p for p in files if p.relative_to(folder).parts[0] == base.model]
    inputs = [p for p in files if p not in model]
    damaged = []
    for _ in range(rng.choice([1, 1, 1, 2])):
        path = rng.choice(inputs if inputs and rng.random() < 0.1 else model)
        name = path.relative_to(folder).as_posix()
        if not path.exists():
            continue
        if rng.random() < 0.03:
            path.unlink()
            damaged.append(f"{name} removed")
            continue
        data = mutate_file(rng, name, path.read_bytes())
        path.write_bytes(data)
        damaged.append(name)
        artifact = folder / base.model
        if base.model.endswith(".splam") and path in model and rng.random() < 0.8:
            try:
                reseal(artifact, path.relative_to(artifact).as_posix())
                damaged.append("resealed")
            except (OSError, ValueError, KeyError, TypeError, AttributeError, IndexError):
                pass
    return damaged


def limits(gigabytes, file_bytes=None):
    def apply():
        resource.setrlimit(resource.RLIMIT_AS, (gigabytes << 30, gigabytes << 30))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        if file_bytes is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (file_bytes, file_bytes))
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)

    return apply


def complaint(folder, code, text):
    """What is wrong with how a command ended; None if nothing."""
    if "panicked at" in text:
        return "panic"
    if code not in (0, 1, 2, CLOSED):
        return f"exit code {code}"
    if code in (0, CLOSED):
        return None
    first = next((line for line in text.splitlines() if line.startswith("error: ")), "")
    message = first.removeprefix("error: ").strip()
    if len(message) < 12 or not any(sign in message for sign in ":'\"/-0123456789"):
        return "an error that names nothing"
    if len(text) > 20000:
        return "an error of more than 20,000 characters"
    left = [p.name for p in folder.rglob("*.part")]
    return f"left {left}" if left else None


def run(number, options, bases, scratch):
    """One run; gives (how it ended, complaint, what to print)."""
    rng = random.Random(f"{options.seed}-{number}")
    base = rng.choice([rng.choice(bases[:4]), rng.choice(bases)])
    folder = scratch / f"run-{number}"
    arguments = command_for(rng, base)
    what = damage(rng, base, folder) if rng.random() < 0.85 else None
    if what is None:
        shutil.copytree(base.folder, folder)
        what = ["options"]
    if what == ["options"] or rng.random() < 0.1:
        for _ in range(rng.choice([1, 1, 2, 3])):
            arguments += option(rng, arguments[0])
    arguments = [argument.replace("\0", "") for argument in arguments]
    environment = {**os.environ, "RUST_BACKTRACE": "0"}
    try:
        result = subprocess.run(
            [options.splamc, *arguments], cwd=folder, capture_output=True, timeout=options.seconds,
            preexec_fn=limits(options.gigabytes), env=environment, stdin=subprocess.DEVNULL, check=False,
        )
        stderr = result.stderr.decode("utf-8", "replace")
        wrong, ending = complaint(folder, result.returncode, stderr), f"exit {result.returncode}"
    except subprocess.TimeoutExpired:
        wrong, ending, stderr = f"more than {options.seconds} s", "time-out", ""
    if not (wrong and options.keep):
        shutil.rmtree(folder)
    line = f"run {number}: {', '.join(what)}: splamc {shlex.join(arguments)[:300]}\n    {stderr.strip()[:options.characters]}"
    return ending, wrong, line


def arguments(parser, seconds):
    """The options of every script that changes inputs at random, parsed."""
    parser.add_argument("--splamc", default=ROOT / "target/debug/splamc", type=pathlib.Path)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", type=int, help="repeat this run alone")
    parser.add_argument("--seconds", type=float, default=seconds)
    parser.add_argument("--gigabytes", type=int, default=4)
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    parser.add_argument("--keep", type=pathlib.Path, help="a new folder for the models that failed")
    parser.add_argument("--all", action="store_true", help="print every run")
    options = parser.parse_args()
    options.splamc = options.splamc.resolve()
    return options


def carry_out(options, count, prepare):
    """Does `count` runs, or the one asked for, and exits. `prepare` takes the scratch folder and
    returns what does the run of a number: its kind, a complaint if it misbehaved, and its line."""
    numbers = range(count) if options.only is None else [options.only]
    kinds, complaints = collections.Counter(), collections.Counter()
    if options.keep:
        options.keep.mkdir(parents=True)
    with tempfile.TemporaryDirectory() as temporary:
        run_number = prepare((options.keep or pathlib.Path(temporary)).resolve())
        with concurrent.futures.ThreadPoolExecutor(options.jobs) as pool:
            for kind, wrong, line in pool.map(run_number, numbers):
                kinds[kind] += 1
                complaints[kind] += wrong is not None
                if wrong or options.all:
                    print(f"{wrong or 'good'}: {line}", flush=True)
    counts = ", ".join(f"{complaints[kind]} of {count} {kind}" for kind, count in kinds.most_common())
    print(f"seed {options.seed}: {complaints.total()} of {kinds.total()} misbehaved: {counts}")
    sys.exit(1 if complaints.total() else 0)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=1000)
    parser.add_argument("--characters", type=int, default=400, help="of a message to print")
    options = arguments(parser, seconds=20)

    def prepared(scratch):
        bases = prepare(scratch, options.splamc)
        return lambda number: run(number, options, bases, scratch)

    carry_out(options, options.runs, prepared)


if __name__ == "__main__":
    main()
