"""Cases of the operators that networks are named for: products, convolutions, norms, attention.

Takes: the collection of cases.
Gives: it filled with small random cases and the corners of each operator's attributes.
Never: draws from anything but the collection.
"""

import math

import torch
import torch.nn.functional as F

from op_cases import FLOATS, dims, flag, integer, ints, number

CONV = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}


def flat_pads(before, after):
    """The order of torch's pad: last axis first."""
    return [width for pair in reversed(list(zip(before, after))) for width in pair]


def matmuls(cases):
    shapes = [((3, 4), (4, 5)), ((2, 3, 4), (4, 5)), ((2, 1, 3, 4), (5, 4, 2)), ((1, 1), (1, 1))]
    shapes += [((0, 4), (4, 5)), ((3, 0), (0, 5)), ((2, 3, 4), (1, 4, 1))]
    for a, b in shapes:
        note = f"{list(a)} and {list(b)}"
        cases.add("matmul", note, torch.matmul, *cases.draw("matmul", "f32", a, b))
    for kind in FLOATS[1:] + ("i32", "i64"):
        drawn = cases.draw("matmul", kind, (2, 3, 4), (4, 5))
        cases.add("matmul", kind, torch.matmul, *drawn)
    shapes = [((2, 3, 4), (5, 4), (5,)), ((4,), (5, 4), (5,)), ((2, 4), (5, 4)), ((0, 4), (5, 4))]
    shapes += [((2, 0), (5, 0), (5,)), ((1, 1), (1, 1), (1,)), ((2, 3), (0, 3), (0,))]
    for drawn in shapes:
        note = " and ".join(str(list(shape)) for shape in drawn)
        cases.add("linear", note, F.linear, *cases.draw("linear", "f32", *drawn))
    for kind in FLOATS[1:]:
        cases.add("linear", kind, F.linear, *cases.draw("linear", kind, *shapes[0]))


def conv(cases, note, x, w, kind="f32", bias=True, strides=None, before=None, after=None,
         dilations=None, groups=1):
    axes = len(x) - 2
    strides, dilations = strides or [1] * axes, dilations or [1] * axes
    before = before or [0] * axes
    after = before if after is None else after

    def reference(x, w, bias=None):
        x = F.pad(x, flat_pads(before, after))
        return CONV[axes](x, w, bias, strides, 0, dilations, groups)

    operands = cases.draw("conv", kind, x, w, *([w[:1]] if bias else []))
    cases.add("conv", note, reference, *operands, strides=ints(*strides), groups=integer(groups),
              pads_before=ints(*before), pads_after=ints(*after), dilations=ints(*dilations))


def convs(cases):
    conv(cases, "3x3, padded", (2, 3, 5, 6), (4, 3, 3, 3), before=[1, 1])
    conv(cases, "1x1", (2, 3, 4, 4), (5, 3, 1, 1))
    conv(cases, "no bias", (1, 2, 4, 4), (3, 2, 3, 3), bias=False)
    conv(cases, "stride 2", (1, 2, 7, 8), (3, 2, 3, 3), strides=[2, 2], before=[1, 1])
    conv(cases, "stride 2, padded after only", (1, 2, 6, 6), (3, 2, 3, 3), strides=[2, 2],
         before=[0, 0], after=[1, 1])
    conv(cases, "asymmetric", (1, 2, 5, 7), (2, 2, 2, 4), strides=[1, 3], before=[2, 0],
         after=[0, 3])
    conv(cases, "dilated", (1, 2, 8, 9), (3, 2, 3, 2), before=[2, 1], dilations=[2, 3])
    conv(cases, "two groups", (2, 4, 5, 5), (6, 2, 3, 3), before=[1, 1], groups=2)
    conv(cases, "depthwise", (1, 4, 5, 5), (4, 1, 3, 3), before=[1, 1], groups=4)
    conv(cases, "depthwise, two features each", (1, 3, 4, 4), (6, 1, 3, 3), groups=3)
    conv(cases, "one axis", (2, 3, 9), (4, 3, 4), strides=[2], before=[1], after=[2])
    conv(cases, "three axes", (1, 2, 4, 5, 3), (3, 2, 2, 3, 1), before=[1, 0, 0])
    conv(cases, "kernel covers the image", (1, 2, 3, 3), (2, 2, 5, 5), before=[1, 1])
    conv(cases, "padding wider than the kernel", (1, 1, 2, 2), (1, 1, 2, 2), before=[3, 3])
    conv(cases, "16 channels", (1, 16, 8, 8), (16, 16, 3, 3), before=[1, 1])
    conv(cases, "no images", (0, 2, 4, 4), (3, 2, 3, 3))
    conv(cases, "one element", (1, 1, 1, 1), (1, 1, 1, 1))
    for kind in FLOATS[1:]:
        conv(cases, kind, (1, 3, 5, 5), (4, 3, 3, 3), kind=kind, before=[1, 1])


def conv_gradients(cases, note, x, w, kind="f32", strides=None, before=None, after=None,
                   dilations=None, groups=1):
    """One case of each gradient of a convolution of `x` with `w`, by torch's autograd."""
    axes = len(x) - 2
    strides, dilations = strides or [1] * axes, dilations or [1] * axes
    before = before or [0] * axes
    after = before if after is None else after
    lists = {"strides": ints(*strides), "pads_before": ints(*before), "pads_after": ints(*after),
             "dilations": ints(*dilations), "groups": integer(groups)}

    def gradient(of, x, w, dr):
        leaf = (x, w)[of].requires_grad_()
        padded = F.pad(x, flat_pads(before, after))
        r = CONV[axes](padded, w, None, strides, 0, dilations, groups)
        return torch.autograd.grad(r, leaf, dr)[0]

    result = CONV[axes](F.pad(torch.zeros(x), flat_pads(before, after)), torch.zeros(w), None,
                        strides, 0, dilations, groups).shape
    blank = lambda shape: torch.zeros(shape, dtype=torch.float64)  # noqa: E731
    cases.add("conv_transpose", note, lambda dr, weight: gradient(0, blank(x), weight, dr),
              *cases.draw("conv_transpose", kind, result, w), **lists, extents=dims(*x[2:]))
    cases.add("conv_weight_gradient", note, lambda image, dr: gradient(1, image, blank(w), dr),
              *cases.draw("conv_weight_gradient", kind, x, result), **lists, kernel=ints(*w[2:]))


def all_conv_gradients(cases):
    for note, x, w, options in [
        ("3x3, padded", (2, 3, 5, 6), (4, 3, 3, 3), {"before": [1, 1]}),
        ("1x1", (2, 3, 4, 4), (5, 3, 1, 1), {}),
        ("stride 2", (1, 2, 7, 8), (3, 2, 3, 3), {"strides": [2, 2], "before": [1, 1]}),
        ("stride 2, padded after only", (1, 2, 6, 6), (3, 2, 3, 3),
         {"strides": [2, 2], "before": [0, 0], "after": [1, 1]}),
        ("strides beyond the kernel", (1, 2, 8, 7), (3, 2, 2, 1), {"strides": [3, 2]}),
        ("asymmetric", (1, 2, 5, 7), (2, 2, 2, 4),
         {"strides": [1, 3], "before": [2, 0], "after": [0, 3]}),
        ("dilated", (1, 2, 8, 9), (3, 2, 3, 2), {"before": [2, 1], "dilations": [2, 3]}),
        ("dilated, stride 2", (1, 2, 8, 9), (3, 2, 3, 2),
         {"before": [2, 1], "dilations": [2, 3], "strides": [2, 2]}),
        ("two groups", (2, 4, 5, 5), (6, 2, 3, 3), {"before": [1, 1], "groups": 2}),
        ("two groups, stride 2", (2, 4, 5, 5), (6, 2, 3, 3), {"strides": [2, 2], "groups": 2}),
        ("depthwise", (1, 4, 5, 5), (4, 1, 3, 3), {"before": [1, 1], "groups": 4}),
        ("one axis", (2, 3, 9), (4, 3, 4), {"strides": [2], "before": [1], "after": [2]}),
        ("three axes", (1, 2, 4, 5, 3), (3, 2, 2, 3, 1), {"before": [1, 0, 0]}),
        ("padding wider than the kernel", (1, 1, 2, 2), (1, 1, 2, 2), {"before": [3, 3]}),
        ("16 channels", (1, 16, 8, 8), (16, 16, 3, 3), {"before": [1, 1]}),
        ("no images", (0, 2, 4, 4), (3, 2, 3, 3), {}),
        ("one element", (1, 1, 1, 1), (1, 1, 1, 1), {}),
    ]:
        conv_gradients(cases, note, x, w, **options)
    for kind in FLOATS[1:]:
        conv_gradients(cases, kind, (1, 3, 5, 5), (4, 3, 3, 3), kind=kind, before=[1, 1])


def pooled(x, kernel, strides, before, after, overhang, dilations, count_padding):
    """Sums and counts as convolutions with ones."""
    axes = len(kernel)
    planes = x.reshape(-1, 1, *x.shape[2:])
    ones = torch.ones(1, 1, *kernel, dtype=x.dtype)
    counted = torch.ones_like(planes)
    pads = flat_pads(before, after)
    planes, counted = F.pad(planes, pads), F.pad(counted, pads, value=float(count_padding))
    pads = flat_pads([0] * axes, overhang)
    planes, counted = F.pad(planes, pads), F.pad(counted, pads)
    convolve = lambda y: CONV[axes](y, ones, None, strides, 0, dilations)  # noqa: E731
    mean = convolve(planes) / convolve(counted)
    return mean.reshape(*x.shape[:2], *mean.shape[2:])


def pool(cases, note, shape, kernel, kind="f32", strides=None, before=None, after=None,
         overhang=None, dilations=None, count_padding=False, peer=None):
    axes = len(kernel)
    strides, dilations = strides or kernel, dilations or [1] * axes
    before = before or [0] * axes
    after, overhang = before if after is None else after, overhang or [0] * axes
    args = (kernel, strides, before, after, overhang, dilations, count_padding)
    (x,) = cases.draw("average_pool", kind, shape)
    if peer is not None:
        torch.testing.assert_close(pooled(x.double(), *args), peer(x.double()))
    names = ["kernel", "strides", "pads_before", "pads_after", "overhang", "dilations"]
    lists = {key: ints(*value) for key, value in zip(names, args)}
    cases.add("average_pool", note, lambda x: pooled(x, *args), x, **lists,
              count_padding=flag(count_padding))


def pools(cases):
    pool(cases, "2x2", (2, 3, 4, 6), [2, 2], peer=lambda x: F.avg_pool2d(x, 2))
    for count in [False, True]:
        pool(cases, f"padded, counting {count}", (1, 2, 5, 5), [3, 3], strides=[2, 2],
             before=[1, 1], count_padding=count,
             peer=lambda x, count=count: F.avg_pool2d(x, 3, 2, 1, False, count))
        pool(cases, f"overhang, counting {count}", (1, 2, 6, 6), [3, 3], strides=[2, 2],
             before=[1, 1], overhang=[1, 1], count_padding=count,
             peer=lambda x, count=count: F.avg_pool2d(x, 3, 2, 1, True, count))
        pool(cases, f"asymmetric, counting {count}", (1, 2, 5, 4), [3, 2], strides=[1, 1],
             before=[0, 1], after=[2, 0], count_padding=count)
        pool(cases, f"dilated, counting {count}", (1, 2, 7, 7), [2, 3], strides=[1, 2],
             before=[1, 1], dilations=[3, 2], count_padding=count)
    pool(cases, "one axis", (2, 2, 7), [3], strides=[2])
    pool(cases, "three axes", (1, 2, 4, 4, 3), [2, 2, 3], peer=lambda x: F.avg_pool3d(x, (2, 2, 3)))
    pool(cases, "no channels", (2, 0, 4, 4), [2, 2])
    for kind in FLOATS[1:]:
        pool(cases, kind, (1, 2, 4, 4), [2, 2], kind=kind)


def norms(cases):
    def layer(note, shape, axes, parameters, epsilon=1e-5, kind="f32", scale=1.0):
        normalised = shape[len(shape) - axes :]
        drawn = cases.draw("layer_norm", kind, shape, *[normalised] * parameters, scale=scale)
        cases.add("layer_norm", note,
                  lambda x, *p: F.layer_norm(x, normalised, *p, eps=epsilon), *drawn,
                  axes=integer(axes), epsilon=number(epsilon))

    for parameters in range(3):
        layer(f"{parameters} parameters", (2, 3, 8), 1, parameters)
    layer("two axes", (2, 3, 4), 2, 2)
    layer("all axes", (3, 4), 2, 2, epsilon=1e-3)
    layer("one element each", (3, 1), 1, 2)
    layer("no rows", (0, 4), 1, 2)
    layer("tiny variance", (2, 6), 1, 2, scale=1e-3)
    for kind in FLOATS[1:]:
        layer(kind, (3, 16), 1, 2, kind=kind)

    def group(note, shape, groups, parameters, epsilon=1e-6, kind="f32"):
        drawn = cases.draw("group_norm", kind, shape, *[shape[1:2]] * parameters)
        cases.add("group_norm", note, lambda x, *p: F.group_norm(x, groups, *p, eps=epsilon),
                  *drawn, groups=integer(groups), epsilon=number(epsilon))

    for parameters in range(3):
        group(f"{parameters} parameters", (2, 6, 3, 4), 3, parameters)
    group("one group", (2, 4, 5), 1, 2)
    group("one channel each", (2, 4, 3, 3), 4, 2, epsilon=1e-5)
    group("no spatial axis", (3, 8), 2, 2)
    group("three spatial axes", (1, 4, 2, 3, 2), 2, 2)
    group("32 groups", (1, 64, 2, 2), 32, 2)
    for kind in FLOATS[1:]:
        group(kind, (2, 4, 3, 3), 2, 2, kind=kind)
    # torch refuses a batch of none here; nothing has no norm to compute.
    cases.add("group_norm", "no images", lambda x: x, torch.zeros(0, 4, 2), groups=integer(2),
              epsilon=number(1e-5))

    def statistics(note, shape, groups, epsilon=1e-6, kind="f32"):
        def reference(x):
            x = x.reshape(shape[0], groups, math.prod(shape[1:]) // groups)
            factor = (x.var(2, correction=0) + epsilon).rsqrt()
            return torch.stack([x.mean(2), factor], 2)

        (x,) = cases.draw("group_statistics", kind, shape)
        cases.add("group_statistics", note, reference, x, groups=integer(groups),
                  epsilon=number(epsilon), result="f64" if kind == "f64" else "f32")

    statistics("three groups", (2, 6, 3, 4), 3)
    statistics("one group", (2, 4, 5), 1, epsilon=1e-3)
    statistics("no spatial axis", (3, 8), 2)
    statistics("no images", (0, 4, 2), 2)
    for kind in FLOATS[1:]:
        statistics(kind, (2, 4, 3, 3), 2, kind=kind)
    for axis in range(3):
        (x,) = cases.draw("softmax", "f32", (2, 5, 3), scale=2)
        cases.add("softmax", f"axis {axis}", lambda x, axis=axis: x.softmax(axis), x,
                  axis=integer(axis))
    softmax = {
        "large arguments": torch.tensor([[1e4, -1e4, 9.99e3], [80.0, 90.0, 100.0]]),
        "masked": torch.tensor([[0.5, -torch.inf, 1.0], [-torch.inf, -torch.inf, 3.0]]),
        "one element": torch.ones(3, 1),
        "no elements": torch.zeros(3, 0),
        "no rows": torch.zeros(0, 3),
    }
    for note, x in softmax.items():
        cases.add("softmax", note, lambda x: x.softmax(1), x, axis=integer(1))
    for kind in FLOATS[1:]:
        (x,) = cases.draw("softmax", kind, (3, 7), scale=2)
        cases.add("softmax", kind, lambda x: x.softmax(1), x, axis=integer(1))


def attention(cases, note, q, keys, e=None, kind="f32", mask=None, scale=None, causal=False):
    """`mask` is a kind of element and a shape."""
    batch, heads, queries, d = q
    scale = d**-0.5 if scale is None else scale
    k, v = (batch, heads, keys, d), (batch, heads, keys, d if e is None else e)
    operands = cases.draw("attention", kind, q, k, v)
    if mask is not None:
        (drawn,) = cases.draw("attention", *mask)
        if drawn.dtype == torch.bool and drawn.shape[-1] > 0:
            drawn[..., 0] = True
        operands.append(drawn)

    def reference(q, k, v, mask=None):
        scores = q @ k.transpose(-1, -2) * scale
        if mask is not None and mask.dtype == torch.bool:
            scores = scores.masked_fill(~mask, -torch.inf)
        elif mask is not None:
            scores = scores + mask
        if causal:
            allowed = torch.ones(queries, keys, dtype=torch.bool).tril()
            scores = scores.masked_fill(~allowed, -torch.inf)
        found = scores.softmax(-1) @ v
        if mask is None or not causal:
            peer = F.scaled_dot_product_attention(q, k, v, mask, 0.0, causal, scale=scale)
            torch.testing.assert_close(found, peer)
        return found

    cases.add("attention", note, reference, *operands, scale=number(scale), causal=flag(causal))


def attentions(cases):
    attention(cases, "self", (2, 3, 5, 4), 5)
    attention(cases, "cross, wider values", (1, 2, 6, 4), 3, e=7)
    attention(cases, "unscaled", (1, 2, 3, 4), 3, scale=1.0)
    attention(cases, "causal", (1, 2, 5, 4), 5, causal=True)
    attention(cases, "causal, more keys", (1, 2, 3, 4), 6, causal=True)
    attention(cases, "causal, more queries", (1, 2, 6, 4), 3, causal=True)
    attention(cases, "truth mask", (2, 2, 3, 4), 5, mask=("bool", (2, 1, 3, 5)))
    attention(cases, "truth mask of keys", (2, 2, 3, 4), 5, mask=("bool", (2, 1, 1, 5)))
    attention(cases, "float mask", (2, 2, 3, 4), 5, mask=("f32", (3, 5)))
    attention(cases, "float mask per head", (2, 2, 3, 4), 5, mask=("f32", (1, 2, 3, 5)))
    attention(cases, "causal and masked", (1, 2, 4, 4), 4, mask=("bool", (1, 1, 1, 4)),
              causal=True)
    attention(cases, "one token", (1, 1, 1, 1), 1)
    attention(cases, "no images", (0, 2, 3, 4), 3)
    for kind in FLOATS[1:]:
        attention(cases, kind, (1, 2, 5, 8), 5, kind=kind)
    row = torch.tensor([[False, False], [True, False]])
    drawn = cases.draw("attention", "f32", (1, 1, 2, 3), (1, 1, 2, 3), (1, 1, 2, 3))

    def masked(q, k, v, mask):
        return (q @ k.mT).masked_fill(~mask, -torch.inf).softmax(-1) @ v

    cases.add("attention", "fully masked query", masked, *drawn, row, scale=number(1.0),
              causal=flag(False))


def nearest(x, size):
    """By whole numbers: torch's own float steps are off for some sizes."""
    for axis, (extent, length) in enumerate(zip(x.shape[2:], size), start=2):
        index = torch.arange(length) * extent // max(length, 1)
        x = x.index_select(axis, index)
    return x


def upsamples(cases):
    shapes = [((1, 2, 3, 4), (6, 8)), ((2, 1, 3, 3), (5, 7)), ((1, 2, 4, 4), (2, 3))]
    shapes += [((1, 2, 3), (7,)), ((1, 1, 2, 2, 3), (4, 2, 5)), ((1, 1, 1, 1), (3, 3))]
    shapes += [((0, 2, 3, 4), (6, 8)), ((1, 2, 3, 4), (0, 8))]
    for shape, size in shapes:
        (x,) = cases.draw("upsample_nearest", "f32", shape)
        if x.numel() > 0 and 0 not in size:
            assert torch.equal(nearest(x, size), F.interpolate(x, size=size, mode="nearest"))
        cases.add("upsample_nearest", f"{list(shape)} to {list(size)}",
                  lambda x, size=size: nearest(x, size), x, size=dims(*size))
    for kind in ["f16", "bf16", "i64", "u8", "bool"]:
        (x,) = cases.draw("upsample_nearest", kind, (1, 2, 2, 3))
        cases.add("upsample_nearest", kind, lambda x: nearest(x, (4, 6)), x, size=dims(4, 6))


def network(cases):
    matmuls(cases)
    convs(cases)
    all_conv_gradients(cases)
    pools(cases)
    norms(cases)
    attentions(cases)
    upsamples(cases)
