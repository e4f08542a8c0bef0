"""Writes the operators of the vector-Jacobian goldens as graphs in the text form.

Takes the folder of the goldens (`vjp.json`: one case an operator of PyTorch, its attributes and the
shapes of its inputs), writes `tests/golden/vjp/graphs.txt`: one function a case, whose inputs have the
names of the case's tensors and whose result is `out`. It computes nothing.

Usage: write_vjp_graphs.py GOLDENS [OUT]
"""

import json
import sys
from pathlib import Path


class Func:
    """The lines of one function."""

    def __init__(self, case):
        self.lines, self.count, self.shapes = [], 0, {}
        self.inputs = {}
        for given in case["inputs"]:
            dtype = {"float32": "f32", "int64": "i64"}[given["dtype"]]
            extents = ", ".join(map(str, given["shape"]))
            self.inputs[given["name"]] = self.line(f'input "{given["name"]}" : {dtype}[{extents}]')

    def line(self, text):
        value = f"%{self.count}"
        self.count += 1
        self.lines.append(f"  {value} = {text}")
        return value

    def op(self, name, *operands, **attributes):
        def written(value):
            if isinstance(value, bool):
                return str(value).lower()
            return json.dumps(value) if isinstance(value, str) else repr(value)

        fields = ", ".join(f"{key} = {written(value)}" for key, value in attributes.items())
        return self.line(f"{name}({', '.join(operands)})" + (f" {{{fields}}}" if fields else ""))

    def number(self, number):
        return self.line(f"constant() {{tensor = f32[] [{float(number)!r}]}}")

    def index(self, *numbers):
        return self.line(f"constant() {{tensor = i64[{len(numbers)}] {list(numbers)!r}}}")


def conv(f, case):
    a = case["attrs"]
    top, bottom, left, right = a["pad_tblr"]
    return f.op("conv", *f.inputs.values(), strides=[a["stride"]] * 2, pads_before=[top, left],
                pads_after=[bottom, right], dilations=[a["dilation"]] * 2, groups=a["groups"])


def mean(f, x, rank):
    return f.op("reduce_mean", x, axes=list(range(rank)), keep=False)


def absolute_difference(f, case):
    a, b = f.inputs.values()
    return f.op("abs", f.op("sub", a, b)), len(case["inputs"][0]["shape"])


def huber(f, case, threshold, scale):
    """`scale · (x² / 2)` below the threshold, `scale · threshold · (|x| − threshold / 2)` above."""
    x, rank = absolute_difference(f, case)
    near = f.op("mul", f.op("mul", x, x), f.number(0.5 * scale))
    far = f.op("sub", x, f.number(0.5 * threshold))
    far = f.op("mul", far, f.number(threshold * scale))
    return mean(f, f.op("select", f.op("less", x, f.number(threshold)), near, far), rank)


def build(f, case):
    op, a = case["op"], case["attrs"]
    shape = case["inputs"][0]["shape"]
    values = list(f.inputs.values())
    x = values[0]
    plain = {"silu", "sigmoid", "tanh", "relu", "sin", "cos", "erf", "neg", "abs", "exp", "log", "sqrt",
             "reciprocal", "matmul", "linear", "add", "sub", "mul", "div"}
    if op in plain:
        return f.op(op, *values)
    if op == "conv2d":
        return conv(f, case)
    if op == "group_norm":
        return f.op(op, *values, groups=a["num_groups"], epsilon=a["eps"])
    if op == "layer_norm":
        return f.op(op, *values, axes=1, epsilon=a["eps"])
    if op == "softmax":
        return f.op(op, x, axis=a["dim"] % len(shape))
    if op == "attention":
        return f.op(op, *values, scale=a["scale"], causal=a["mask"] == "causal")
    if op in ("gelu_erf", "gelu_tanh"):
        return f.op("gelu", x, form=op[5:])
    if op == "quick_gelu":
        return f.op("gelu", x, form="quick")
    if op in ("softplus", "mish"):
        grown = f.op("log", f.op("add", f.op("exp", x), f.number(1)))
        return grown if op == "softplus" else f.op("mul", x, f.op("tanh", grown))
    if op == "leaky_relu":
        return f.op("max", x, f.op("mul", x, f.number(0.1)))
    if op == "rsqrt":
        return f.op("reciprocal", f.op("sqrt", x))
    if op == "pow":
        return f.op("pow", x, f.number(a["exponent"]))
    if op == "clamp":
        return f.op("min", f.op("max", x, f.number(a["min"])), f.number(a["max"]))
    if op == "geglu":
        return f.op("geglu", f.op("linear", *values))
    if op == "upsample_nearest":
        return f.op(op, x, size=a["size"])
    if op == "avg_pool2d":
        return f.op("average_pool", x, kernel=[a["kernel"]] * 2, strides=[a["stride"]] * 2,
                    pads_before=[0, 0], pads_after=[0, 0], overhang=[0, 0], dilations=[1, 1],
                    count_padding=False)
    if op == "pad":
        left, right, top, bottom = a["pad_last2"]
        return f.op("pad", x, f.number(a["value"]), before=[0, 0, top, left],
                    after=[0, 0, bottom, right], mode="constant")
    if op == "concat":
        return f.op(op, *values, axis=a["dim"] % len(shape))
    if op == "slice":
        length = len(range(a["start"], a["end"], a["step"]))
        return f.op(op, x, axis=a["dim"], start=a["start"], length=length, step=a["step"])
    if op == "permute":
        turned = f.op("transpose", x, permutation=a["perm"])
        last = shape[a["perm"][-1]]
        return f.op("mul", turned, f.line(f"constant() {{tensor = f32[{last}] {[float(i) for i in range(last)]}}}"))
    if op == "expand":
        return f.op("broadcast", x, shape=a["shape"])
    if op == "gather":
        # Elements along the last axis, by rows: gather_nd below one batch axis.
        named = case["inputs"][1]["shape"]
        index = f.op("reshape", values[1], shape=named + [1])
        return f.op("gather_nd", x, index, batch_axes=1)
    if op == "embedding":
        return f.op("gather", *values, axis=0)
    if op == "maximum":
        return f.op("max", *values)
    if op in ("mean", "sum"):
        axes = a.get("dims")
        axes = list(range(len(shape))) if axes is None else [axis % len(shape) for axis in axes]
        return f.op(f"reduce_{op}", x, axes=axes, keep=bool(a.get("keepdim")))
    if op == "var":
        axes = [axis % len(shape) for axis in a["dims"]]
        off = f.op("sub", x, f.op("reduce_mean", x, axes=axes, keep=True))
        return f.op("reduce_mean", f.op("mul", off, off), axes=axes, keep=a["keepdim"])
    if op == "mse_loss":
        off = f.op("sub", *values)
        return mean(f, f.op("mul", off, off), len(shape))
    if op == "pseudo_huber":
        off = f.op("sub", *values)
        square = f.op("add", f.op("mul", off, off), f.number(a["c"] ** 2))
        return mean(f, f.op("sub", f.op("sqrt", square), f.number(a["c"])), len(shape))
    if op == "huber_loss":
        return huber(f, case, a["delta"], 1.0)
    if op == "smooth_l1_loss":
        return huber(f, case, a["beta"], 1.0 / a["beta"])
    if op == "l1_loss":
        return mean(f, *absolute_difference(f, case))
    if op == "cross_entropy":
        top = f.op("reduce_max", x, axes=[1], keep=True)
        off = f.op("sub", x, f.op("stop_gradient", top))
        total = f.op("reduce_sum", f.op("exp", off), axes=[1], keep=True)
        logits = f.op("sub", off, f.op("log", total))
        index = f.op("reshape", values[1], shape=[shape[0], 1])
        return f.op("neg", mean(f, f.op("gather_nd", logits, index, batch_axes=1), 1))
    if op == "cosine_similarity":
        a, b = values
        axes = [len(shape) - 1]
        dot = f.op("dot", a, b, axes=axes, keep=False)
        norms = [f.op("sqrt", f.op("dot", v, v, axes=axes, keep=False)) for v in values]
        return f.op("div", dot, f.op("mul", *norms))
    raise SystemExit(f"{case['name']}: no graph for {op!r}")


def main():
    folder = Path(sys.argv[1])
    out = Path(sys.argv[2] if len(sys.argv) > 2 else "tests/golden/vjp/graphs.txt")
    cases = json.loads((folder / "vjp.json").read_text())["cases"]
    text = []
    for case in cases:
        f = Func(case)
        result = build(f, case)
        text += [f'func "{case["name"]}" {{', *f.lines, f'  return "out" {result}', "}"]
    out.write_text("\n".join(text) + "\n")


main()
