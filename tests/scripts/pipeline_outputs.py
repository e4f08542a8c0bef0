"""Checks of mutate_pipelines.py about outputs: paths, standard output, and jobs that end halfway.

Takes: runs (`pipeline_run.Run`); changes their models and what is at the paths of outputs.
Gives: one function per check, which raises `Misbehaved`.
Never: asks what a picture shows.
"""

import fcntl
import hashlib
import json
import os
import pathlib
import signal
import stat
import struct
import time

import mutate
from pipeline_run import (
    ONNX,
    POINTER,
    SIZE,
    WEIGHTS,
    floats_of,
    is_same,
    load_tensors,
    map_tensor,
    parts,
    picture_fault,
    require,
    shuffle_nodes,
    widen_vocabulary,
)

PIPE_BYTES = 1 << 20  # The largest pipe of a user without rights.
VALUES = [None, True, -1, 0, 1, 3, 2**40, 0.5, 1e308, "", "x", [], [1], ["a", "b"], {}, {"a": 1}]


# --- Changes of a model: each returns what it did ------------------------------------------------


def change_keys(rng, model):
    """Removes, replaces or adds keys of a configuration, at its top or one level below."""
    path = rng.choice([path for path in parts(model, "*.json") if path.name != "vocab.json"])
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


def change_numbers(rng, model):
    """Makes one weight, or all of a tensor, NaN, infinite or large."""
    path = rng.choice(parts(model, "*.safetensors"))
    kind = rng.choice(["nan", "inf", "1e5", "1e30"])
    name = rng.choice(sorted(load_tensors(path)))
    map_tensor(path, name, lambda x: x * float(kind))
    return f"{name} of {path.parent.name}/{path.name} times {kind}"


def change_file(rng, model):
    """Cuts or replaces a file of weights."""
    path = rng.choice(parts(model, "*.safetensors") + parts(model, "*.onnx_data"))
    kind, data = rng.choice(["cut", "empty", "pointer", "link"]), path.read_bytes()
    path.unlink()
    if kind == "link":
        path.symlink_to("../../blobs/absent")
    else:
        cut = data[: rng.randrange(len(data))]
        path.write_bytes({"cut": cut, "empty": b"", "pointer": POINTER.encode()}[kind])
    return f"{kind} {path.parent.name}/{path.name}"


CHANGES = [change_keys, change_keys, change_numbers, change_file, shuffle_nodes]


# --- Outputs -------------------------------------------------------------------------------------

# What is at the output's path, and whether a good command can write there.
PLACES = {
    "new": True, "file": True, "link": True, "dangling": True, "pipe": True, "device": True, "writable": True,
    "full": False, "folder": False, "fixed": False, "closed": False,
}
# The words before the output's path of commands on an unchanged model.
COMMANDS = {
    "sample": ["sample", "model", "-p", "x", "--steps", "1", *SIZE, "-o"],
    "latents": ["sample", "model", "-p", "x", "--steps", "1", *SIZE, "-o", "other.png", "--latents-out"],
    "run": ["run", "model", "--component", "vae_decoder", "--inputs", "inputs.st", "--outputs"],
    "grad": ["grad", "model", "--component", "vae_decoder", "--inputs", "target.st", "--outputs"],
}


def inputs(run):
    decoder = mutate.INPUTS["vae_decoder"]
    mutate.save_tensors(run.folder / "inputs.st", decoder)
    mutate.save_tensors(run.folder / "target.st", {**decoder, "target": mutate.floats([1, 3, 32, 32])})


def make_place(run, kind):
    """Makes something at the output's path, which it returns."""
    path = run.folder / "out.png"
    if kind in ("closed", "writable"):
        path = run.folder / "closed/out.png"
        path.parent.mkdir()
    if kind in ("file", "fixed", "writable"):
        path.write_bytes(b"old")
        path.chmod(0o444 if kind == "fixed" else 0o666)
    if kind in ("closed", "writable"):
        path.parent.chmod(0o555)
    elif kind == "link":
        (run.folder / "target.png").write_bytes(b"old")
        path.symlink_to("target.png")
    elif kind == "dangling":
        path.symlink_to("target.png")
    elif kind == "pipe":
        os.mkfifo(path, 0o666)
    elif kind == "full":
        path.symlink_to("/dev/full")
    elif kind == "device" and os.geteuid() == 0:
        # One of our own, so that a fault does not break the machine.
        os.mknod(path, 0o666 | stat.S_IFCHR, os.makedev(1, 3))
    elif kind == "folder":
        path.mkdir()
    return path


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


def received(pipe):
    """What was written to a pipe; None if nothing."""
    try:
        return os.read(pipe, PIPE_BYTES)
    except BlockingIOError:
        return None


def write_to(run, kind, arguments):
    """Runs a command whose last word is missing, the output; returns the result and what it wrote."""
    path = make_place(run, kind)
    own = [path, run.folder / "target.png", run.folder / "other.png"]
    before, old = tree(run.folder, own), path.lstat().st_mode if os.path.lexists(path) else None
    pipe = None
    if kind == "pipe":
        # Opened for both ends, so that nobody waits: each output here fits in it.
        pipe = os.open(path, os.O_RDWR | os.O_NONBLOCK)
        fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
    as_nobody = kind in ("fixed", "closed", "writable")
    result = run.splamc(*arguments, path.relative_to(run.folder).as_posix(), as_nobody=as_nobody)
    written = None
    if pipe is not None:
        written = received(pipe)
        os.close(pipe)
    elif kind not in ("full", "device", "folder") and path.exists():
        written = path.read_bytes()
    require(tree(run.folder, own) == before, "changed a file that is not its output")
    new = path.lstat().st_mode if os.path.lexists(path) else None
    is_kept = old is None or (new is not None and stat.S_IFMT(new) == stat.S_IFMT(old))
    require(is_kept, f"the output is no longer a {kind}")
    require(result.code or PLACES[kind], f"success although the output is {kind}")
    require(not result.code or written in (None, b"old"), "a failed run changed its output")
    return result, written


def anything(run):
    """One or two changes of any kind, and an output of any kind."""
    base = run.rng.choice([mutate.EXAMPLE, mutate.EXAMPLE, *ONNX])
    model, kind = run.copy(base), run.rng.choice(["new", *PLACES])
    for _ in range(run.rng.choice([1, 1, 2])):
        try:
            run.lines.append(run.rng.choice(CHANGES)(run.rng, model))
        except (OSError, ValueError, KeyError, IndexError, struct.error):
            pass  # It fits nothing, or the file was damaged by the change before.
    dtype = run.rng.choice([[], [], ["--dtype", "f16"], ["--dtype", "bf16"]])
    if run.rng.random() < 0.8:
        words = [*run.sample(model, "-p", run.rng.choice(["a cat", "", "-dash"])), *dtype, "-o"]
        result, written = write_to(run, kind, words)
        fault = picture_fault(written) if result.code == 0 and written is not None else None
        require(not fault, fault)
    else:
        run.splamc(*run.rng.choice([["inspect", "model"], run.compile(*dtype)]))


def output(run):
    """What is at an output's path stays what it is, and gets the whole content or none."""
    run.copy()
    inputs(run)
    kind, name = run.rng.choice(list(PLACES)), run.rng.choice(list(COMMANDS))
    run.lines.append(f"the output is {kind}")
    result, written = write_to(run, kind, COMMANDS[name])
    require(result.code == 0 or not PLACES[kind], f"refused to write to {kind}")
    if result.code == 0 and written is not None:
        is_picture = written.startswith(b"\x89PNG\r\n\x1a\n")
        require(is_picture == (name == "sample") and written != b"old", "wrong content")


def output_name(run):
    """`-` is standard output, and a name says what is written."""
    run.copy()
    inputs(run)
    if run.rng.random() < 0.5:
        name = run.rng.choice(list(COMMANDS))
        data = run.succeed(*COMMANDS[name], "-").data
        require(data and not (run.folder / "-").exists(), "a file called -")
    else:
        name, magic = run.rng.choice([("x.jpg", b"\xff\xd8"), ("x.webp", b"RIFF"), ("x.PNG", b"\x89PNG"), ("x", b"\x89PNG")])
        if run.splamc(*COMMANDS["sample"], name).code == 0:
            require((run.folder / name).read_bytes().startswith(magic), f"{name} is of another format")


def standard_output(run):
    """Standard output that is closed or full."""
    model = run.copy()
    graph = ["inspect", "model", "--component", run.rng.choice(list(WEIGHTS)), "--stage", "graph"]
    picture = [*run.sample(model), "-o", "-"]
    command = run.rng.choice([["--help"], ["sample", "--help"], ["devices"], ["inspect", "model"], graph, picture])
    if run.rng.random() < 0.5:
        with open("/dev/full", "wb") as full:
            run.fail(*command, words=[["standard output"]], stdout=full)
        return
    reader, writer = os.pipe()
    os.close(reader)
    process = run.start(*command, stdout=writer)
    os.close(writer)
    code = run.finish(process).code
    require(code in (0, mutate.CLOSED), "an error about a closed standard output")


# --- Jobs that end halfway ----------------------------------------------------------------------


def failed_compile(run):
    """A compilation that fails leaves the old artifact, and nothing that the next one is refused for."""
    model, rng = run.copy(), run.rng
    other, had_one = run.compile("--dtype", "f16"), rng.random() < 0.5
    if had_one:
        run.succeed(*run.compile())
    kind = rng.choice(["limit", "limit", "SIGINT", "SIGINT", "SIGKILL", "damage"])
    if kind == "limit":
        code = run.splamc(*other, bytes_max=rng.choice([0, 1000, 5000, 20000, 100000, 300000])).code
    elif kind == "damage":
        path = model / WEIGHTS[rng.choice(list(WEIGHTS))]
        whole = path.read_bytes()
        path.write_bytes(whole[: rng.randrange(len(whole))])
        code = run.splamc(*other).code
        path.write_bytes(whole)
    else:
        process = run.start(*other)
        time.sleep(rng.uniform(0, 0.3))
        process.send_signal(signal.Signals[kind])
        code = run.finish(process, killed=True).code
    if had_one and code:
        run.succeed("sample", "m.splam", "-p", "x", "--steps", "1", "-o", "x.png")
    run.succeed(*other)


def changed_meanwhile(run):
    """Weights, or those of an artifact, that are cut or rewritten while a command has them open."""
    model, rng = run.copy(), run.rng
    widen_vocabulary(model, 100_000)  # Large enough to be mapped.
    dtype = rng.choice([[], ["--dtype", "f16"]])
    before = run.latents(model, *dtype)
    path, words = model / WEIGHTS["text_encoder"], run.sample(model, *dtype)
    if rng.random() < 0.3:
        run.succeed(*run.compile(*dtype))
        path = max(parts(run.folder / "m.splam", "weights*"), key=lambda own: own.stat().st_size)
        words = ["sample", "m.splam", "-p", "a cat", "--steps", "4"]
    data = bytearray(path.read_bytes())
    start = 8 + struct.unpack("<Q", data[:8])[0]
    signs = slice(start + 3, None, 4)
    data[signs] = bytes(data[signs]).translate(bytes(byte ^ 0x80 for byte in range(256)))
    cut = rng.choice([None, None, rng.randrange(start, len(data))])
    process = run.start(*words, "-o", "x.png", "--latents-out", "x.st")
    maps, name = pathlib.Path(f"/proc/{process.pid}/maps"), str(path.relative_to(run.folder))
    while process.poll() is None and name not in maps.read_text():
        pass
    time.sleep(rng.choice([0, rng.uniform(0, 0.05)]))
    run.lines.append(f"cut to {cut}" if cut else "all signs changed")
    if cut:
        os.truncate(path, cut)
    else:
        with path.open("r+b") as file:
            file.write(data)
    result = run.finish(process)
    if result.code:
        require(path.name in result.told, f"an error without {path.name}")
    else:
        after = floats_of(load_tensors(run.folder / "x.st")["final_latents"])
        require(is_same(before, after), "another picture without an error")
