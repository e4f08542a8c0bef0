"""Cases of the pointwise operators.

Takes: the collection of cases.
Gives: it filled with random, empty, scalar, stretched and special operands per element type.
Never: draws from anything but the collection.
"""

import math

import torch
import torch.nn.functional as F

from op_cases import DTYPES, FLOATS, INTS, dtype, name

NAN, INF = math.nan, math.inf
SPECIALS = [NAN, INF, -INF, 0.0, -0.0, 1.0, -1.5]

# Operator -> reference, scale of the normals, whether it also takes integers, whether NaN and
# infinities are part of its meaning.
UNARY = {
    "abs": (torch.abs, 2, True, True),
    "ceil": (torch.ceil, 3, False, False),
    "cos": (torch.cos, 4, False, False),
    "erf": (torch.special.erf, 1.5, False, True),
    "exp": (torch.exp, 2, False, True),
    "floor": (torch.floor, 3, False, False),
    "log": (torch.log, 2, False, True),
    "neg": (torch.neg, 2, True, True),
    "reciprocal": (torch.reciprocal, 2, False, False),
    "relu": (torch.relu, 2, True, True),
    "round": (torch.round, 3, False, False),
    "sigmoid": (torch.sigmoid, 4, False, True),
    "silu": (F.silu, 4, False, False),
    "sin": (torch.sin, 4, False, False),
    "sqrt": (lambda x: torch.sqrt(torch.abs(x)), 2, False, False),
    "tanh": (torch.tanh, 2, False, True),
}
SHAPES = [((2, 3, 5), (2, 3, 5)), ((2, 3, 4), (4,)), ((3, 1), (1, 4)), ((), (2, 3))]
SHAPES += [((2, 1, 3), (5, 1)), ((0, 3), (1, 3)), ((1,), (1,))]


def divide(a, b):
    return a / b if a.is_floating_point() else torch.div(a, b, rounding_mode="trunc")


ARITHMETIC = {
    "add": torch.add,
    "div": divide,
    "max": torch.maximum,
    "min": torch.minimum,
    "mul": torch.mul,
    "pow": torch.pow,
    "sub": torch.sub,
}
COMPARISONS = {"equal": torch.eq, "less": torch.lt, "less_equal": torch.le}


def unary(cases):
    for op, (reference, scale, on_ints, specials) in UNARY.items():
        for kind in FLOATS + (INTS if on_ints else ()):
            (x,) = cases.draw(op, kind, (2, 3, 5), scale=scale)
            cases.add(op, kind, reference, x.abs() if op in ("log", "sqrt") else x)
        for shape in [(), (0, 3), (1,)]:
            (x,) = cases.draw(op, "f32", shape)
            cases.add(op, f"shape {list(shape)}", reference, x.abs() if op == "sqrt" else x)
        if specials:
            cases.add(op, "specials", reference, torch.tensor(SPECIALS))
    large = torch.tensor([-1e4, -200.0, -20.0, 20.0, 200.0, 1e4])
    for op in ["sigmoid", "silu", "tanh", "erf"]:
        cases.add(op, "large arguments", UNARY[op][0], large)
    cases.add("sqrt", "below zero", torch.sqrt, torch.tensor([-1.0, -0.0, 4.0]))
    cases.add("reciprocal", "of zero", torch.reciprocal, torch.tensor([0.0, 2.0]))
    ties = torch.tensor([-2.5, -1.5, -0.5, 0.5, 1.5, 2.5, 0.49999997, 8388609.0])
    cases.add("round", "ties", torch.round, ties)
    least = torch.tensor([-(2**31), 2**31 - 1], dtype=torch.int32)
    cases.add("neg", "least integer", torch.neg, least)
    for op in ["not", "is_nan"]:
        kinds = ["bool"] if op == "not" else FLOATS
        for kind in kinds:
            for shape in [(3, 4), (), (0,)]:
                (x,) = cases.draw(op, kind, shape)
                reference = torch.logical_not if op == "not" else torch.isnan
                cases.add(op, f"{kind} {list(shape)}", reference, x)
    cases.add("is_nan", "specials", torch.isnan, torch.tensor(SPECIALS))


def quick(x):
    return x * torch.sigmoid(1.702 * x)


def gelus(cases):
    forms = {
        "erf": F.gelu,
        "tanh": lambda x: F.gelu(x, approximate="tanh"),
        "quick": quick,
    }
    for form, reference in forms.items():
        for kind in FLOATS:
            (x,) = cases.draw("gelu", kind, (3, 7), scale=2)
            cases.add("gelu", f"{form} {kind}", reference, x, form=name(form))
        large = torch.tensor([-1e4, -30.0, -9.0, -5.0, 5.0, 30.0, 1e4])
        cases.add("gelu", f"{form}, large arguments", reference, large, form=name(form))
        cases.add("gelu", f"{form}, empty", reference, torch.zeros(2, 0), form=name(form))

    def geglu(x):
        values, gate = x.chunk(2, dim=-1)
        return values * F.gelu(gate)

    for shape in [(2, 3, 8), (2,), (0, 4), (3, 0)]:
        (x,) = cases.draw("geglu", "f32", shape, scale=2)
        cases.add("geglu", f"shape {list(shape)}", geglu, x)
    for kind in FLOATS[1:]:
        (x,) = cases.draw("geglu", kind, (3, 10), scale=2)
        cases.add("geglu", kind, geglu, x)


def binary(cases):
    for op, reference in (ARITHMETIC | COMPARISONS).items():
        for left, right in SHAPES:
            a, b = cases.draw(op, "f32", left, right, scale=2)
            a = a.abs() if op == "pow" else a
            cases.add(op, f"{list(left)} and {list(right)}", reference, a, b)
        for kind in FLOATS[1:] + INTS:
            a, b = cases.draw(op, kind, (2, 3), (3,), scale=2)
            if op == "pow":
                a, b = a.abs(), b.abs() if kind in INTS else b
            if op == "div" and kind in INTS:
                b = torch.where(b == 0, torch.ones_like(b), b)
            cases.add(op, kind, reference, a, b)
    for op in ["max", "min", "equal", "less", "less_equal"]:
        a = torch.tensor(SPECIALS)
        cases.add(op, "specials", (ARITHMETIC | COMPARISONS)[op], a[:, None], a[None, :])
    for op in ["equal", "less", "less_equal"]:
        a, b = cases.draw(op, "i64", (20,), (20,), low=0, high=3)
        cases.add(op, "ties", COMPARISONS[op], a, b)
    a, b = cases.draw("equal", "bool", (3, 4), (4,))
    cases.add("equal", "bool", torch.eq, a, b)
    for op, reference in {"and": torch.logical_and, "or": torch.logical_or}.items():
        for left, right in SHAPES:
            a, b = cases.draw(op, "bool", left, right)
            cases.add(op, f"{list(left)} and {list(right)}", reference, a, b)
    a = torch.tensor([7, -7, 7, -7, -(2**31)], dtype=torch.int32)
    b = torch.tensor([2, 2, -2, -2, 1], dtype=torch.int32)
    cases.add("div", "signs", divide, a, b)
    cases.add("div", "by zero", divide, torch.tensor([1.0, -1.0, 0.0]), torch.tensor(0.0))
    wide = torch.tensor([2**31 - 1, -(2**31), 65537], dtype=torch.int32)
    for op in ["add", "mul"]:
        cases.add(op, "wrapping", ARITHMETIC[op], wide, wide)
    base, exponent = torch.tensor([1, -1, -1, 2, -3]), torch.tensor([-5, -3, -2, -1, 3])
    cases.add("pow", "negative exponents", torch.pow, base, exponent)
    base = torch.tensor([-2.0, -2.0, 0.0, 0.0, 9.0])
    exponent = torch.tensor([3.0, -2.0, 0.0, 2.0, 0.5])
    cases.add("pow", "negative bases and zeros", torch.pow, base, exponent)


def select(cases):
    shapes = [((2, 3), (2, 3), (2, 3)), ((3, 1), (1, 4), ()), ((4,), (2, 1, 1), (3, 1))]
    for kind in ["f32", "f16", "bf16", "i32", "i64", "bool"]:
        for condition, left, right in shapes + [((1, 3), (0, 3), (3,))]:
            (c,) = cases.draw("select", "bool", condition)
            a, b = cases.draw("select", kind, left, right)
            note = f"{kind} {list(condition)}, {list(left)}, {list(right)}"
            cases.add("select", note, torch.where, c, a, b)


def saturated(x, to):
    """Floats to integers as the operator defines them: towards zero, ends, NaN to 0."""
    limits = torch.iinfo(DTYPES[to])
    values = [0 if math.isnan(v) else min(max(v, -1e300), 1e300) for v in x.flatten().tolist()]
    whole = [min(max(math.trunc(v), limits.min), limits.max) for v in values]
    return torch.tensor(whole, dtype=DTYPES[to]).reshape(x.shape)


def casts(cases):
    edges = torch.tensor([NAN, INF, -INF, 0.0, -0.9, 2.9, -2.9, 127.6, 300.0, -300.0, 3e9, -3e9])
    for to in INTS:
        cases.add("cast", f"f32 to {to}", lambda x, to=to: saturated(x, to), edges, dtype=dtype(to))
    cases.add("cast", "f32 to bool", lambda x: x != 0, edges, dtype=dtype("bool"))
    wide = torch.tensor([0, 1, -1, 127, 128, -129, 300, 2**31, -(2**31) - 1, 2**53 + 1])
    for to in ["bool", *INTS, *FLOATS]:
        convert = lambda x, to=to: x.to(DTYPES[to])  # noqa: E731
        cases.add("cast", f"i64 to {to}", convert, wide[: 6 if to == "f16" else 10],
                  dtype=dtype(to), result=to)
        truths = torch.tensor([[True, False, True]])
        cases.add("cast", f"bool to {to}", convert, truths, dtype=dtype(to), result=to)
    for kind in FLOATS:
        (x,) = cases.draw("cast", kind, (2, 9), scale=30)
        for to in FLOATS:
            halves = x if to != "f16" or kind != "f64" else x.float().double()
            convert = lambda x, to=to: x.to(DTYPES[to])  # noqa: E731
            cases.add("cast", f"{kind} to {to}", convert, halves, dtype=dtype(to), result=to)
    cases.add("cast", "empty", lambda x: x.int(), torch.zeros(0, 2), dtype=dtype("i32"))


def pointwise(cases):
    unary(cases)
    gelus(cases)
    binary(cases)
    select(cases)
    casts(cases)
