"""Collect cases of graph operators with the results that torch gives in float64.

Takes: operands, attributes and a reference function per case.
Gives: rows for tests/golden/ops.json and the tensors they name.
Never: knows an operator.
"""

import torch

DTYPES = {
    "bool": torch.bool,
    "u8": torch.uint8,
    "i8": torch.int8,
    "i32": torch.int32,
    "i64": torch.int64,
    "f16": torch.float16,
    "bf16": torch.bfloat16,
    "f32": torch.float32,
    "f64": torch.float64,
}
FLOATS = ("f32", "f16", "bf16", "f64")
INTS = ("i32", "i64", "i8", "u8")


def name(value):
    return {"name": value}


def dtype(value):
    return {"dtype": value}


def flag(value):
    return {"bool": value}


def integer(value):
    return {"int": value}


def ints(*values):
    return {"ints": list(values)}


def dim(value):
    return {"dim": value}


def dims(*values):
    return {"dims": list(values)}


def number(value):
    return {"float": value}


class Cases:
    """The cases so far; numbers drawn for one do not depend on the others of other operators."""

    def __init__(self):
        self.rows = []
        self.tensors = {}
        self.counts = {}

    def _generator(self, op):
        """Seeded by the operator's name and the number of its cases."""
        seed = sum(ord(letter) * 257**place for place, letter in enumerate(op)) % 2**31
        return torch.Generator().manual_seed(seed * 1000 + self.counts.get(op, 0))

    def draw(self, op, kind, *shapes, scale=1.0, low=-9, high=10):
        """One tensor per shape: normals times scale, integers from low to high, or coins."""
        generator = self._generator(op)
        tensors = []
        for shape in shapes:
            if kind == "bool":
                drawn = torch.rand(shape, generator=generator) < 0.5
            elif kind in FLOATS:
                drawn = torch.randn(shape, generator=generator, dtype=torch.float64) * scale
            else:
                least = 0 if kind == "u8" else low
                drawn = torch.randint(least, high, shape, generator=generator)
            tensors.append(drawn.to(DTYPES[kind]))
        return tensors

    def add(self, op, note, reference, *operands, result=None, **attributes):
        """Records one case; the reference gets floats as float64.

        `result` names the element type of the result where it is not that of the first operand
        of the same kind.
        """
        exact = [x.double() if x.is_floating_point() else x for x in operands]
        found = torch.as_tensor(reference(*exact))
        if result is not None:
            found = found.to(DTYPES[result])
        elif found.is_floating_point():
            found = rounded(found, next(x.dtype for x in operands if x.is_floating_point()))
        index = self.counts.get(op, 0)
        self.counts[op] = index + 1
        prefix = f"{op}.{index}"
        names = [f"{prefix}.{position}" for position in range(len(operands))]
        for key, tensor in zip([*names, f"{prefix}.result"], [*operands, found]):
            self.tensors[key] = tensor.contiguous().clone()
        row = {"op": op, "note": note, "attributes": attributes, "operands": names}
        self.rows.append(row | {"result": f"{prefix}.result"})


def rounded(tensor, to):
    """Rounds float64 once: torch goes through float32 to float16, numpy does not."""
    if to == torch.float16:
        return torch.from_numpy(tensor.numpy().astype("float16"))
    return tensor.to(to)
