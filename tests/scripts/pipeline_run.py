"""One run of mutate_pipelines.py: a folder with models, the commands on them, and edits of their files.

Takes: the seeded random numbers of a run, its folder and the options of the script.
Gives: results of commands; raises `Misbehaved` where a command panics, ends by a signal, names
nothing in its error, or does not do what its caller requires.
Never: decides what to change, or writes outside of the folder.
"""

import collections
import json
import math
import os
import shlex
import shutil
import struct
import subprocess
import zlib

import mutate

PIXELS = 32  # The fewest, along both axes, that every export here runs on.
SIZE = ["-W", str(PIXELS), "-H", str(PIXELS)]
POINTER = f"version https://git-lfs.github.com/spec/v1\noid sha256:{'0' * 64}\nsize 3438167536\n"
ONNX = [mutate.GOLDEN / "onnx_torchscript", mutate.GOLDEN / "onnx_dynamo"]
# The weights that sampling reads, by the names of its networks.
WEIGHTS = {
    "text_encoder": "text_encoder/model.safetensors",
    "unet": "unet/diffusion_pytorch_model.safetensors",
    "vae_decoder": "vae/diffusion_pytorch_model.safetensors",
}
NOBODY = 65534  # Root may write anywhere: what permissions decide is run as this user.
TOLERANCE = 1e-3  # Of latents that are computed in another order.

Result = collections.namedtuple("Result", "code told data")


class Misbehaved(Exception):
    """What is wrong with a run, in words."""


def require(condition, what):
    if not condition:
        raise Misbehaved(what)


class Run:
    """A folder, and what was done in it."""

    def __init__(self, rng, folder, options):
        self.rng, self.folder, self.options, self.lines, self.told = rng, folder, options, [], ""
        folder.mkdir()
        folder.chmod(0o777)

    def copy(self, base=mutate.EXAMPLE, name="model"):
        """Copies a model into the folder."""
        shutil.copytree(base, self.folder / name)
        return self.folder / name

    def start(self, *arguments, bytes_max=None, as_nobody=False, stdout=subprocess.PIPE, without=()):
        """Starts a command without some variables; `bytes_max` limits files as a full disk does."""
        self.lines.append(f"splamc {shlex.join(arguments)}")
        user = {"user": NOBODY, "group": NOBODY} if as_nobody and os.geteuid() == 0 else {}
        return subprocess.Popen(
            [self.options.splamc, *arguments], cwd=self.folder, stdin=subprocess.DEVNULL, stdout=stdout,
            stderr=subprocess.PIPE, preexec_fn=mutate.limits(self.options.gigabytes, bytes_max),
            env={name: value for name, value in os.environ.items() if name not in ("RUST_BACKTRACE", *without)}, **user,
        )

    def finish(self, process, killed=False):
        """Waits for a command; refuses what none may do. A killed one may end by a signal, and leave
        files that it was writing."""
        try:
            data, told = process.communicate(timeout=self.options.seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            raise Misbehaved(f"more than {self.options.seconds} s") from None
        result = Result(process.returncode, told.decode("utf-8", "replace"), data or b"")
        self.lines.append(f"  exit {result.code} {result.told.strip()[:600]}")
        if not (killed and result.code < 0):
            wrong = mutate.complaint(self.folder, result.code, result.told)
            require(not wrong or killed and wrong.startswith("left"), wrong)
            is_error = any(line.startswith("error:") for line in result.told.splitlines())
            require(result.code or not is_error, "success with an error on standard error")
        return result

    def splamc(self, *arguments, **how):
        return self.finish(self.start(*arguments, **how))

    def succeed(self, *arguments, **how):
        """Runs a command that has to succeed."""
        result = self.splamc(*arguments, **how)
        require(result.code == 0, "refused")
        return result

    def fail(self, *arguments, words=(), **how):
        """Runs a command that has to fail with a message that holds one of the words of each group."""
        result = self.splamc(*arguments, **how)
        require(result.code, "success")
        for group in words:
            require(any(word in result.told for word in group), f"an error without {' or '.join(group)}")
        return result

    def sample(self, model, *arguments):
        """The words of a command that samples a picture, but for its outputs."""
        prompt = [] if "-p" in arguments else ["-p", "a cat"]
        return ["sample", model.name, *prompt, "--steps", "4", *SIZE, *arguments]

    def compile(self, *arguments):
        """The words of a command that compiles the model."""
        return ["compile", "model", "--target", "cpu", *SIZE, *arguments, "-o", "m.splam"]

    def latents(self, model, *arguments):
        """What sampling a model gives before decoding; it has to succeed. `told` has its messages."""
        files = ["-o", "latents.png", "--latents-out", "latents.st"]
        self.told = self.succeed(*self.sample(model, *arguments), *files).told
        tensors = load_tensors(self.folder / "latents.st")
        require(not picture_fault((self.folder / "latents.png").read_bytes()), "a damaged or black picture")
        values = {name: floats_of(tensors[name]) for name in ("final_latents", "decoded")}
        require(all(math.isfinite(v) for own in values.values() for v in own), "NaN without an error")
        return values["final_latents"]


def is_same(a, b, tolerance=TOLERANCE):
    """Whether numbers are the same, within what rounding does to the largest; NaN is like NaN."""
    scale = max([1, *(abs(value) for value in a if math.isfinite(value))])
    return len(a) == len(b) and all(x == y or x != x and y != y or abs(x - y) <= tolerance * scale for x, y in zip(a, b))


# --- Files ---------------------------------------------------------------------------------------


def parts(model, pattern):
    return sorted(path for path in model.rglob(pattern) if path.is_file())


def edit(path, **keys):
    """Sets keys of a JSON object, or removes those that are `...`."""
    top = {**json.loads(path.read_bytes()), **keys}
    path.write_text(json.dumps({key: value for key, value in top.items() if value is not ...}))


def load_tensors(path):
    """The tensors of a safetensors file: {name: (dtype, shape, bytes)}."""
    data = path.read_bytes()
    length = struct.unpack("<Q", data[:8])[0]
    header, body = json.loads(data[8 : 8 + length]), data[8 + length :]
    header.pop("__metadata__", None)
    return {name: (own["dtype"], own["shape"], body[slice(*own["data_offsets"])]) for name, own in header.items()}


def floats_of(tensor):
    return struct.unpack(f"<{len(tensor[2]) // 4}f", tensor[2])


def map_tensor(path, name, change):
    """Changes every number of an f32 tensor of a safetensors file."""
    tensors = load_tensors(path)
    dtype, shape, _ = tensors[name]
    new = [change(value) for value in floats_of(tensors[name])]
    new = [max(min(value, 3e38), -3e38) if math.isfinite(value) else value for value in new]
    tensors[name] = (dtype, shape, struct.pack(f"<{len(new)}f", *new))
    mutate.save_tensors(path, tensors)


def widen_vocabulary(model, rows):
    """Gives the text encoder more tokens; returns the id of the first."""
    path = model / "text_encoder/model.safetensors"
    tensors = load_tensors(path)
    name = next(name for name in tensors if name.endswith("token_embedding.weight"))
    dtype, (count, width), data = tensors[name]
    tensors[name] = (dtype, [count + rows, width], data + struct.pack("<f", 3) * (rows * width))
    mutate.save_tensors(path, tensors)
    edit(model / "text_encoder/config.json", vocab_size=count + rows)
    return count


def shuffle_nodes(rng, model):
    """Shuffles the nodes of an ONNX graph: they mean the same in any order."""
    path = rng.choice(parts(model, "*.onnx"))
    fields = mutate.decode(path.read_bytes(), "model")
    graph = next(value for field, _, value in fields if field == 7)
    order = [field for field in graph if field[0] == 1]
    rng.shuffle(order)
    graph[:] = order + [field for field in graph if field[0] != 1]
    path.write_bytes(mutate.encode(fields))
    return f"nodes of {path.parent.name}/{path.name} in another order"


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
    return None if any(zlib.decompress(pixels)) else "a black picture"
