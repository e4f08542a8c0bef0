"""Cases of sources, of operators that move elements, and of reductions.

Takes: the collection of cases.
Gives: it filled with every element type that moves, and the corners of the attributes.
Never: draws from anything but the collection.
"""

import numpy as np
import torch

from op_cases import DTYPES, FLOATS, INTS, dim, dims, dtype, flag, integer, ints, name

MOVED = ("f32", "f16", "bf16", "f64", "i32", "i64", "i8", "u8", "bool")


def sources(cases):
    for kind in MOVED:
        (x,) = cases.draw("constant", kind, (2, 3))
        key = f"constant.{kind}"
        cases.tensors[key] = x
        cases.add("constant", kind, lambda x=x: x, result=kind, tensor={"tensor": key})
    for kind in [kind for kind in MOVED if kind != "bool"]:
        for length in [7, 0] if kind == "i64" else [7]:
            cases.add("iota", f"{kind}, {length}", lambda n=length: torch.arange(n), result=kind,
                      length=dim(length), dtype=dtype(kind))


def shapes(cases):
    def every(op, drawn, reference, **attributes):
        for kind in MOVED:
            (x,) = cases.draw(op, kind, drawn)
            cases.add(op, kind, reference, x, **attributes)

    every("reshape", (2, 6), lambda x: x.reshape(3, 4), shape=dims(3, 4))
    every("transpose", (2, 3, 4), lambda x: x.permute(2, 0, 1), permutation=ints(2, 0, 1))
    every("stop_gradient", (2, 3), lambda x: x.detach())
    every("broadcast", (3, 1), lambda x: x.expand(2, 3, 4), shape=dims(2, 3, 4))
    for old, new in [((1,), ()), ((0, 3), (5, 0)), ((2, 3, 4), (24,)), ((), (1, 1))]:
        (x,) = cases.draw("reshape", "f32", old)
        cases.add("reshape", f"{list(old)}", lambda x, new=new: x.reshape(new), x,
                  shape=dims(*new))
    for shape, order in [((2, 3, 4, 5), (0, 2, 3, 1)), ((), ()), ((0, 3), (1, 0)), ((5,), (0,))]:
        (x,) = cases.draw("transpose", "f32", shape)
        cases.add("transpose", f"{list(shape)}", lambda x, order=order: x.permute(order), x,
                  permutation=ints(*order))
    for old, new in [((), (2, 2)), ((1, 3), (0, 3)), ((4,), (4,)), ((1, 1), (3, 1))]:
        (x,) = cases.draw("broadcast", "f32", old)
        cases.add("broadcast", f"{list(old)} to {list(new)}", lambda x, new=new: x.expand(new), x,
                  shape=dims(*new))


def concats(cases):
    def concat(note, axis, kind, *drawn):
        operands = cases.draw("concat", kind, *drawn)
        cases.add("concat", note, lambda *x: torch.cat(x, axis), *operands, axis=integer(axis))

    for kind in MOVED:
        concat(kind, 1, kind, (2, 3), (2, 1))
    concat("first axis", 0, "f32", (1, 2, 3), (2, 2, 3), (4, 2, 3))
    concat("one operand", 0, "f32", (3,))
    concat("empty ones", 1, "f32", (2, 0), (2, 3), (2, 0))


def slices(cases):
    def cut(note, shape, axis, start, length, step, kind="f32"):
        (x,) = cases.draw("slice", kind, shape)
        index = torch.arange(length) * step + start
        cases.add("slice", note, lambda x: x.index_select(axis, index), x, axis=integer(axis),
                  start=dim(start), length=dim(length), step=integer(step))

    for kind in MOVED:
        cut(kind, (2, 6, 2), 1, 1, 3, 2, kind)
    cut("first axis", (5, 3), 0, 2, 3, 1)
    cut("backwards", (4, 5), 1, 4, 5, -1)
    cut("backwards by two", (7,), 0, 5, 3, -2)
    cut("nothing", (4, 5), 1, 2, 0, 1)
    cut("one element", (1,), 0, 0, 1, 3)


def pads(cases):
    modes = {"constant": "constant", "edge": "edge", "reflect": "reflect", "wrap": "wrap"}

    def pad(note, shape, before, after, mode, kind="f32", value=None):
        (x,) = cases.draw("pad", kind, shape)
        operands = [x] + ([] if value is None else [torch.tensor(value, dtype=DTYPES[kind])])

        def reference(x, value=None):
            extra = {} if value is None else {"constant_values": value.item()}
            found = np.pad(x.numpy(), list(zip(before, after)), mode=modes[mode], **extra)
            return torch.from_numpy(found)

        cases.add("pad", note, reference, *operands, before=ints(*before), after=ints(*after),
                  mode=name(mode))

    for mode in modes:
        pad(f"{mode}", (3, 4), [1, 2], [2, 0], mode)
        pad(f"{mode}, one axis of three", (2, 3, 4), [0, 0, 3], [0, 0, 2], mode)
        for kind in ["f16", "bf16", "i64"]:
            pad(f"{mode} {kind}", (4,), [1], [2], mode, kind)
    pad("edge, wide", (2, 2), [3, 0], [0, 4], "edge")
    pad("wrap, wide", (2, 3), [3, 0], [5, 7], "wrap")
    pad("value", (2, 3), [1, 1], [0, 2], "constant", value=-1.5)
    pad("bool value", (3,), [1], [1], "constant", kind="bool", value=True)
    pad("no element", (0, 2), [1, 0], [2, 1], "constant", value=2.0)
    pad("no border", (2, 2), [0, 0], [0, 0], "reflect")


def gathers(cases):
    def gather(note, shape, axis, indices, kind="f32", index="i64"):
        (data,) = cases.draw("gather", kind, shape)
        indices = torch.tensor(indices, dtype=DTYPES[index])

        def reference(data, indices):
            return torch.from_numpy(np.take(data.numpy(), indices.numpy(), axis))

        # numpy has no bfloat16, but add() hands all floats over as float64.
        cases.add("gather", note, reference, data, indices, axis=integer(axis))

    for kind in MOVED:
        gather(kind, (4, 3), 0, [[3, 0], [1, 1]], kind)
    gather("inner axis", (2, 5, 3), 1, [4, 2, 0], index="i32")
    gather("negative", (5, 2), 0, [-1, -5, 2])
    gather("scalar", (3, 4), 1, 2)
    gather("nothing", (3, 4), 0, [])

    def gather_nd(note, shape, indices, batch, reference, kind="f32", index="i64"):
        (data,) = cases.draw("gather_nd", kind, shape)
        indices = torch.tensor(indices, dtype=DTYPES[index])
        cases.add("gather_nd", note, reference, data, indices, batch_axes=integer(batch))

    def all_axes(data, indices):
        return data[tuple(indices.long().unbind(-1))]

    def per_batch(data, indices):
        return torch.stack([all_axes(d, i) for d, i in zip(data, indices)])

    for kind in MOVED:
        gather_nd(kind, (2, 3), [[0, 2], [1, 1]], 0, all_axes, kind)
    gather_nd("slices", (2, 3, 4), [[[1], [0]]], 0, all_axes, index="i32")
    gather_nd("negative", (2, 3), [[-1, -3]], 0, all_axes)
    gather_nd("batch", (2, 3, 4), [[[2], [0]], [[1], [1]]], 1, per_batch)

    def scatter_nd(note, shape, indices, reduction, kind="f32", index="i64"):
        indices = torch.tensor(indices, dtype=DTYPES[index])
        depth = indices.shape[-1]
        data, updates = cases.draw("scatter_nd", kind, shape, indices.shape[:-1] + shape[depth:])

        def reference(data, indices, updates):
            combine = {"replace": lambda old, new: new, "add": torch.add, "mul": torch.mul,
                       "max": torch.maximum, "min": torch.minimum}[reduction]
            data = data.clone()
            for place in np.ndindex(*indices.shape[:-1]):
                at = tuple(indices[place].tolist())
                data[at] = combine(data[at], updates[place])
            return data

        cases.add("scatter_nd", note, reference, data, indices, updates,
                  reduction=name(reduction))

    for kind in MOVED:
        scatter_nd(kind, (4, 3), [[0, 2], [3, 1]], "replace", kind)
    for reduction in ["replace", "add", "mul", "max", "min"]:
        scatter_nd(f"{reduction}, twice the same", (3, 2), [[1], [-1], [1]], reduction)
        scatter_nd(f"{reduction} i32", (5,), [[1], [4]], reduction, "i32", "i32")
    cases.add("scatter_nd", "no updates", lambda data, *_: data, torch.ones(3),
              torch.zeros(0, 1, dtype=torch.int64), torch.zeros(0), reduction=name("add"))


def scans(cases):
    for upper in [True, False]:
        for diagonal in [0, 1, -2, 9, -9]:
            (x,) = cases.draw("trilu", "f32", (2, 4, 5))
            take = torch.triu if upper else torch.tril
            cases.add("trilu", f"upper {upper}, diagonal {diagonal}",
                      lambda x, take=take, diagonal=diagonal: take(x, diagonal), x,
                      upper=flag(upper), diagonal=integer(diagonal))
    for kind in MOVED[1:]:
        (x,) = cases.draw("trilu", kind, (3, 3))
        cases.add("trilu", kind, torch.triu, x, upper=flag(True), diagonal=integer(0))

    def cumsum(x, axis, exclusive, reverse):
        x = x.flip(axis) if reverse else x
        found = x.cumsum(axis, dtype=x.dtype)
        found = found - x if exclusive else found
        return found.flip(axis) if reverse else found

    def scan(note, kind, shape, axis, exclusive=False, reverse=False):
        (x,) = cases.draw("cumsum", kind, shape)
        cases.add("cumsum", note, lambda x: cumsum(x, axis, exclusive, reverse), x,
                  axis=integer(axis), exclusive=flag(exclusive), reverse=flag(reverse))

    for exclusive in [False, True]:
        for reverse in [False, True]:
            scan(f"exclusive {exclusive}, reverse {reverse}", "f32", (2, 4, 3), 1, exclusive,
                 reverse)
    for kind in FLOATS[1:] + ("i32", "i64"):
        scan(kind, kind, (3, 5), 1)
    scan("nothing", "f32", (0, 3), 0)

    def search(note, x, axis, last=False):
        def reference(x):
            if not last:
                return x.numpy().argmax(axis)
            return x.shape[axis] - 1 - x.flip(axis).numpy().argmax(axis)

        cases.add("argmax", note, reference, x, axis=integer(axis), last=flag(last))

    for kind in FLOATS + INTS:
        (x,) = cases.draw("argmax", kind, (3, 4))
        search(kind, x, 1)
    (ties,) = cases.draw("argmax", "i64", (4, 6), low=0, high=3)
    for last in [False, True]:
        search(f"ties, last {last}", ties, 1, last)
        search(f"first axis, last {last}", ties, 0, last)
    search("not a number", torch.tensor([1.0, torch.nan, 3.0]), 0)


def reductions(cases):
    def total(x, axes, keep):
        return x.sum(axes, keepdim=keep, dtype=x.dtype) if axes else x

    def largest(x, axes, keep):
        return x.amax(axes, keepdim=keep) if axes else x

    def mean(x, axes, keep):
        return x.mean(axes, keepdim=keep) if axes else x

    for op, reference in {"reduce_sum": total, "reduce_max": largest, "reduce_mean": mean}.items():
        def fold(note, x, axes, keep, op=op, reference=reference):
            cases.add(op, note, lambda x: reference(x, axes, keep), x, axes=ints(*axes),
                      keep=flag(keep))

        for axes in [(1,), (0, 2), (0, 1, 2), ()]:
            for keep in [False, True]:
                (x,) = cases.draw(op, "f32", (2, 3, 4))
                fold(f"axes {list(axes)}, keep {keep}", x, axes, keep)
        for kind in FLOATS[1:] + (() if op == "reduce_mean" else INTS[:2]):
            (x,) = cases.draw(op, kind, (3, 5))
            fold(kind, x, (1,), False)
        fold("not a number", torch.tensor([[1.0, torch.nan], [2.0, 3.0]]), (1,), False)
        fold("no rows", torch.zeros(0, 3), (1,), False)
        if op != "reduce_max":
            fold("of nothing", torch.zeros(2, 0), (1,), True)


def dots(cases):
    def dot(note, a, b, axes, keep):
        def reference(a, b):
            return (a * b).sum(axes, keepdim=keep) if axes else a * b

        cases.add("dot", note, reference, a, b, axes=ints(*axes), keep=flag(keep))

    for axes in [(1,), (0, 2), (0, 1, 2), ()]:
        for keep in [False, True]:
            a, b = cases.draw("dot", "f32", (2, 3, 4), (2, 3, 4))
            dot(f"axes {list(axes)}, keep {keep}", a, b, axes, keep)
    for kind in FLOATS[1:]:
        dot(kind, *cases.draw("dot", kind, (3, 5), (3, 5)), (1,), False)
    dot("not a number", torch.tensor([[1.0, torch.nan]]), torch.ones(1, 2), (1,), False)
    dot("no rows", torch.zeros(0, 3), torch.zeros(0, 3), (1,), False)
    dot("of nothing", torch.zeros(2, 0), torch.zeros(2, 0), (1,), True)


def movement(cases):
    sources(cases)
    shapes(cases)
    concats(cases)
    slices(cases)
    pads(cases)
    gathers(cases)
    scans(cases)
    reductions(cases)
    dots(cases)
