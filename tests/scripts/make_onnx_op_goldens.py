#!/usr/bin/env python3
"""Make tests/golden/onnx_operators.safetensors: what onnxruntime computes for single nodes.

Takes: the file to write to (default above).
Gives: for each case a model of one node as bytes (`<case>.model`), its inputs (`<case>.in.<name>`)
and its results (`<case>.out.<name>`). Operators that onnxruntime has for GPUs only are computed by
the nodes of the default domain that they stand for.
Never: reads the compiler.

Needs: requirements-dev.txt (onnx, onnxruntime, numpy, safetensors).
"""

import pathlib
import sys

import numpy as np
import onnxruntime
from onnx import TensorProto, helper
from safetensors.numpy import save_file

SEED = 0
MICROSOFT = "com.microsoft"
rng = np.random.default_rng(SEED)
tensors: dict[str, np.ndarray] = {}


def normal(*shape: int, dtype=np.float32) -> np.ndarray:
    return rng.standard_normal(shape).astype(dtype)


def model(nodes, inputs, outputs, opset):
    """A model of `nodes` whose results may have any type and shape."""
    graph = helper.make_graph(
        nodes,
        "case",
        [
            helper.make_tensor_value_info(
                name, helper.np_dtype_to_tensor_dtype(value.dtype), value.shape
            )
            for name, value in inputs.items()
        ],
        [helper.make_empty_tensor_value_info(name) for name in outputs],
    )
    opsets = [helper.make_opsetid("", opset), helper.make_opsetid(MICROSOFT, 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=10)


def values(proto, inputs):
    """What onnxruntime computes, without its optimisations."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(
        proto.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    return session.run(None, inputs)


def case(name, op, *operands, opset=21, domain="", results=1, by=None, **attributes):
    """Records one node; an operand None is left out, and `by` computes it in other nodes."""
    inputs = {f"x{i}": value for i, value in enumerate(operands) if value is not None}
    names = ["" if value is None else f"x{i}" for i, value in enumerate(operands)]
    outputs = [f"y{i}" for i in range(results)]
    node = helper.make_node(op, names, outputs, domain=domain, **attributes)
    proto = model([node], inputs, outputs, opset)
    found = values(model(by, inputs, outputs, opset) if by else proto, inputs)
    key = f"{op}.{name}" if not domain else f"{domain}.{op}.{name}"
    tensors[f"{key}.model"] = np.frombuffer(proto.SerializeToString(), dtype=np.uint8)
    tensors.update({f"{key}.in.{name}": value for name, value in inputs.items()})
    tensors.update({f"{key}.out.{name}": value for name, value in zip(outputs, found)})


def pools():
    case("1d", "MaxPool", normal(2, 3, 9), kernel_shape=[3], strides=[2], pads=[1, 1])
    case("plain", "MaxPool", normal(1, 2, 6, 7), kernel_shape=[2, 3])
    case(
        "pads",
        "MaxPool",
        normal(1, 2, 6, 7),
        kernel_shape=[3, 3],
        strides=[2, 2],
        pads=[0, 1, 1, 0],
    )
    case("dilated", "MaxPool", normal(1, 1, 9, 9), kernel_shape=[3, 2], dilations=[2, 3])
    case("ceil", "MaxPool", normal(1, 2, 6, 7), kernel_shape=[3, 3], strides=[2, 2], ceil_mode=1)
    case(
        "ceil_pads",
        "MaxPool",
        normal(1, 1, 6, 8),
        kernel_shape=[3, 3],
        strides=[3, 2],
        ceil_mode=1,
        pads=[1, 1, 1, 1],
    )
    case(
        "upper",
        "MaxPool",
        normal(1, 1, 5, 6),
        kernel_shape=[2, 3],
        strides=[2, 2],
        auto_pad="SAME_UPPER",
    )
    case(
        "lower",
        "MaxPool",
        normal(1, 1, 5, 6),
        kernel_shape=[2, 4],
        strides=[2, 1],
        auto_pad="SAME_LOWER",
    )
    case("3d", "MaxPool", normal(1, 1, 4, 5, 4), kernel_shape=[2, 3, 2], strides=[1, 2, 2])
    bytes_ = rng.integers(0, 255, (1, 1, 4, 4)).astype(np.uint8)
    case("bytes", "MaxPool", bytes_, kernel_shape=[3, 3], pads=[1, 1, 1, 1])
    case("plain", "GlobalMaxPool", normal(2, 3, 4, 5))
    case("1d", "GlobalMaxPool", normal(2, 3, 4))


def transposed():
    x, w = normal(1, 4, 3, 4), normal(4, 2, 3, 2)
    case("plain", "ConvTranspose", x, w)
    case("bias", "ConvTranspose", x, w, normal(2), strides=[2, 1], pads=[1, 0, 0, 1])
    case("output_padding", "ConvTranspose", x, w, strides=[2, 3], output_padding=[1, 2])
    case("group", "ConvTranspose", x, w, normal(4), group=2, strides=[2, 2])
    case("dilated", "ConvTranspose", x, w, dilations=[2, 3])
    case("upper", "ConvTranspose", x, w, strides=[2, 2], auto_pad="SAME_UPPER")
    case("shape", "ConvTranspose", x, w, strides=[3, 2], output_shape=[9, 7])
    case("1d", "ConvTranspose", normal(2, 2, 5), normal(2, 3, 4), strides=[2], pads=[1, 1])
    case("3d", "ConvTranspose", normal(1, 2, 2, 3, 2), normal(2, 1, 2, 2, 2), strides=[2, 1, 2])


def norms():
    channels = [normal(3), normal(3), normal(3), np.abs(normal(3)) + 0.1]
    case("2d", "BatchNormalization", normal(2, 3, 2, 4), *channels)
    case("epsilon", "BatchNormalization", normal(2, 3), *channels, epsilon=0.5, momentum=0.1)
    case("old", "BatchNormalization", normal(1, 3, 5), *channels, opset=9)


def activations():
    x = np.concatenate([normal(3, 4) * 3, np.float32([[0.0, -0.0, 1e-3, -20.0]])])
    case("plain", "HardSwish", x)
    for op, options in [
        ("HardSigmoid", {"alpha": 0.5, "beta": 0.3}),
        ("LeakyRelu", {"alpha": 0.3}),
        ("Elu", {"alpha": 0.7}),
        ("Selu", {"alpha": 1.2, "gamma": 0.8}),
    ]:
        case("default", op, x)
        case("options", op, x, **options)
    for op in ["Softplus", "Softsign", "Mish"]:
        case("plain", op, x)
    wide = np.float32([0, -0.0, 1e-6, 0.2, -0.5, 1, -1, 1.5, -3, 1e3, -1e20, 1e-20])
    case("plain", "Atan", wide)
    case("channels", "PRelu", normal(2, 3, 2), normal(3, 1))
    case("one", "PRelu", normal(2, 3), normal(1))
    for axis in [0, 1, 2]:
        case(f"axis{axis}", "LogSoftmax", normal(2, 3, 4), axis=axis)
        case(f"flat{axis}", "LogSoftmax", normal(2, 3, 4), axis=axis, opset=11)
    case("default", "LogSoftmax", normal(2, 3, 4))


def movements():
    for mode in ["DCR", "CRD"]:
        case(mode, "DepthToSpace", normal(2, 12, 2, 3), blocksize=2, mode=mode)
    case("plain", "SpaceToDepth", normal(2, 3, 4, 6), blocksize=2)
    x = normal(3, 4, 5)
    for axis in [0, 1, -1]:
        index = rng.integers(-x.shape[axis], x.shape[axis], (2, 3, 4)).astype(np.int64)
        case(f"axis{axis}", "GatherElements", x, index, axis=axis)
    case("i32", "GatherElements", normal(3, 2), np.int32([[2, 0], [-1, 1]]), axis=0)


def einsums():
    def einsum(name, equation, *shapes):
        case(name, "Einsum", *(normal(*shape) for shape in shapes), equation=equation)

    einsum("transpose", "ij->ji", (2, 3))
    einsum("implicit", "ba", (2, 3))
    einsum("sum", "ij->i", (2, 3))
    einsum("all", "ij->", (2, 3))
    einsum("matmul", "ij,jk->ik", (2, 3), (3, 4))
    einsum("matmul_implicit", "ij,jk", (2, 3), (3, 4))
    einsum("attention", "b i h d , b j h d -> b h i j", (2, 3, 2, 4), (2, 5, 2, 4))
    einsum("bilinear", "bi,ijk,bk->bj", (2, 3), (3, 4, 2), (2, 2))
    einsum("outer", "i,j->ij", (2,), (3,))
    einsum("dot", "i,i", (4,), (4,))
    einsum("elementwise", "ij,ij->ij", (2, 3), (2, 3))
    einsum("hadamard_sum", "ijk,ik->j", (2, 3, 4), (2, 4))
    einsum("ellipsis", "...ij,...jk->...ik", (2, 3, 2, 4), (2, 3, 4, 2))
    einsum("ellipsis_one", "...ij,...jk->...ik", (2, 1, 2, 4), (2, 3, 4, 2))
    einsum("ellipsis_implicit", "...ij,...jk", (2, 2, 4), (2, 4, 3))
    einsum("ellipsis_sum", "i...->...", (2, 3, 4))
    einsum("ellipsis_last", "i...->i...", (2, 3))
    einsum("diagonal", "ii->i", (3, 3))
    einsum("trace", "ii", (3, 3))
    einsum("batch_diagonal", "...ii->...i", (2, 3, 3))
    einsum("four", "ab,bc,cd,de->ae", (2, 3), (3, 2), (2, 4), (4, 2))
    einsum("upper", "Ab,bC->CA", (2, 3), (3, 4))


def reductions():
    x = np.abs(normal(2, 3, 4)) + 0.1
    for op in ["ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp", "ReduceSumSquare"]:
        data = x if op == "ReduceLogSum" else normal(2, 3, 4)
        case("all", op, data)
        case("axes", op, data, np.int64([0, -1]), keepdims=0)
        case("noop", op, data, noop_with_empty_axes=1)
        case("attribute", op, data, axes=[1], opset=13)
    case(
        "large", "ReduceLogSumExp", np.float32([[100, 200, 300], [-500, -501, -502]]), np.int64([1])
    )
    case("ints", "ReduceSumSquare", rng.integers(-5, 5, (2, 3)).astype(np.int32), np.int64([1]))


def top():
    x = normal(2, 5)
    case("largest", "TopK", x, np.int64([3]), results=2)
    case("smallest", "TopK", x, np.int64([2]), results=2, largest=0)
    ties = np.float32([[1, 3], [3, 3], [2, 1], [3, 2]])
    case("ties", "TopK", ties, np.int64([3]), results=2, axis=0)
    numbers = rng.integers(-9, 9, (2, 3, 6)).astype(np.int64)
    case("ints", "TopK", numbers, np.int64([6]), results=2, axis=2)
    case("old", "TopK", x, results=2, k=2, opset=9)
    case("middle", "TopK", normal(2, 4, 3), np.int64([1]), results=2, axis=1)


def attentions():
    q, k, v = normal(2, 4, 3, 8), normal(2, 4, 5, 8), normal(2, 4, 5, 6)

    def attention(name, *operands, **attributes):
        case(name, "Attention", *operands, opset=attributes.pop("opset", 23), **attributes)

    attention("4d", q, k, v)
    attention("scale", q, k, v, scale=0.2)
    attention("causal", q, normal(2, 4, 3, 8), normal(2, 4, 3, 6), is_causal=1)
    attention("grouped", q, normal(2, 2, 5, 8), normal(2, 2, 5, 8))
    allowed = rng.random((3, 5)) < 0.6
    allowed[:, 0] = True
    attention("bool_mask", q, k, v, allowed)
    attention("float_mask", q, k, v, normal(2, 1, 3, 5))
    attention("heads_mask", q, k, v, normal(1, 4, 3, 5), is_causal=1)
    attention("softcap", q, k, v, softcap=1.5)
    attention("past", q, k, v, None, normal(2, 4, 2, 8), normal(2, 4, 2, 6), results=3)
    heads = {"q_num_heads": 4, "kv_num_heads": 2}
    attention("3d", normal(2, 3, 16), normal(2, 5, 8), normal(2, 5, 12), **heads)
    for mode in range(2):
        attention(f"scores{mode}", q, k, v, normal(3, 5), results=4, qk_matmul_output_mode=mode)


def microsoft():
    def fused(name, op, *operands, **attributes):
        case(name, op, *operands, domain=MICROSOFT, **attributes)

    def kept(*shape):
        # Scores of a query without keys are rounded at the size of what masks add.
        mask = rng.integers(0, 2, shape).astype(np.int32)
        mask[..., 0] = 1
        return mask

    x, bias = normal(2, 3, 8), normal(8)
    fused("plain", "QuickGelu", x)
    fused("alpha", "QuickGelu", x, alpha=1.0)
    fused("plain", "Gelu", x)
    fused("plain", "BiasGelu", x, bias)
    fused("plain", "FastGelu", x)
    fused("bias", "FastGelu", x, bias)
    nodes = [
        helper.make_node("Add", ["x0", "x1"], ["sum"]),
        helper.make_node("Split", ["sum"], ["left", "right"], axis=-1, num_outputs=2),
        helper.make_node("Gelu", ["right"], ["gate"]),
        helper.make_node("Mul", ["left", "gate"], ["y0"]),
    ]
    fused("plain", "BiasSplitGelu", x, bias, by=nodes)
    fused("plain", "FusedMatMul", normal(2, 3, 4), normal(4, 5), alpha=0.5)
    fused("turned", "FusedMatMul", normal(2, 4, 3), normal(2, 5, 4), transA=1, transB=1)
    fused("batch", "FusedMatMul", normal(3, 2, 4), normal(2, 4, 5), transBatchA=1)
    fused("both", "FusedMatMul", normal(4, 2, 3), normal(2, 4, 5), transBatchA=1, transA=1)
    image, weights = normal(1, 5, 4, 6), normal(4, 3, 2, 3)
    window = {"group": 2, "strides": [2, 1], "pads": [1, 0, 1, 1]}
    nodes = [
        helper.make_node("Transpose", ["x0"], ["x"], perm=[0, 3, 1, 2]),
        helper.make_node("Transpose", ["x1"], ["w"], perm=[0, 3, 1, 2]),
        helper.make_node("Conv", ["x", "w", "x2"], ["y"], **window),
        helper.make_node("Transpose", ["y"], ["y0"], perm=[0, 2, 3, 1]),
    ]
    fused("plain", "NhwcConv", image, weights, normal(4), by=nodes, **window)
    for activation in range(2):
        last = [
            helper.make_node("Sigmoid", ["n"], ["s"]),
            helper.make_node("Mul", ["n", "s"], ["a"]),
        ]
        nodes = [
            helper.make_node("Transpose", ["x0"], ["x"], perm=[0, 3, 1, 2]),
            helper.make_node(
                "GroupNormalization", ["x", "x1", "x2"], ["n"], num_groups=3, epsilon=1e-3
            ),
            *(last if activation else [helper.make_node("Identity", ["n"], ["a"])]),
            helper.make_node("Transpose", ["a"], ["y0"], perm=[0, 2, 3, 1]),
        ]
        options = {"groups": 3, "epsilon": 1e-3, "activation": activation}
        fused(f"silu{activation}", "GroupNorm", image, normal(6), normal(6), by=nodes, **options)
    nodes = [
        helper.make_node("Unsqueeze", ["x3", "axes"], ["skip"]),
        helper.make_node("Add", ["x0", "skip"], ["sum"]),
        helper.make_node("Add", ["sum", "x4"], ["y1"]),
        helper.make_node("Transpose", ["y1"], ["x"], perm=[0, 3, 1, 2]),
        helper.make_node("GroupNormalization", ["x", "x1", "x2"], ["n"], num_groups=2),
        helper.make_node("Transpose", ["n"], ["y0"], perm=[0, 2, 3, 1]),
        helper.make_node("Constant", [], ["axes"], value_ints=[1, 2]),
    ]
    nodes.insert(0, nodes.pop())
    operands = [image, normal(6), normal(6), normal(1, 6), normal(6)]
    fused("plain", "SkipGroupNorm", *operands, results=2, by=nodes, groups=2)
    image, kernel = normal(1, 3, 4, 4), normal(2, 3, 2, 2)
    activations = {"Relu": [], "LeakyRelu": [0.2], "Clip": [-0.5, 1.0], "HardSigmoid": [0.3, 0.4]}
    for name, parameters in activations.items():
        options = (
            {"activation": name, "activation_params": parameters}
            if parameters
            else {"activation": name}
        )
        fused(name, "FusedConv", image, kernel, normal(2), **options)
    fused("sum", "FusedConv", image, kernel, normal(2), normal(1, 2, 3, 3), activation="Relu")
    matrices = [normal(2, 3), normal(4, 3), normal(4)]
    fused("relu", "FusedGemm", *matrices, transB=1, activation="Relu")
    options = {"activation": "LeakyRelu", "activation_alpha": 0.1}
    fused("leaky", "FusedGemm", *matrices, transB=1, alpha=0.5, **options)
    skip = normal(2, 3, 8)
    fused("plain", "SkipLayerNormalization", x, skip, bias, normal(8), epsilon=1e-5)
    fused("broadcast", "SkipLayerNormalization", x, skip[:1], bias, None, normal(8))
    node = ["SkipLayerNormalization", x, skip, bias, normal(8), normal(8)]
    nodes = [
        helper.make_node("Add", ["x0", "x1"], ["s"]),
        helper.make_node("Add", ["s", "x4"], ["y3"]),
        helper.make_node(
            "LayerNormalization", ["y3", "x2", "x3"], ["y0", "y1", "y2"], epsilon=1e-3
        ),
    ]
    fused("all", *node, results=4, by=nodes, epsilon=1e-3)
    packed = [normal(2, 3, 8), normal(8, 24), normal(24)]
    fused("plain", "Attention", *packed, num_heads=2)
    fused("unidirectional", "Attention", *packed, num_heads=4, unidirectional=1)
    fused("lengths", "Attention", *packed, np.int32([2, 3]), num_heads=2)
    mask = np.int32([[1, 1, 0], [1, 0, 1]])
    fused("mask", "Attention", *packed, mask, num_heads=2, mask_filter_value=-50.0)
    fused("mask3", "Attention", *packed, kept(2, 3, 3), num_heads=2)
    fused("bias", "Attention", *packed, None, None, normal(1, 2, 3, 3), num_heads=2, scale=0.3)
    sizes = {"num_heads": 2, "qkv_hidden_sizes": [8, 8, 4]}
    fused("sizes", "Attention", normal(2, 3, 6), normal(6, 20), normal(20), **sizes)
    q, k, v = normal(2, 3, 8), normal(2, 5, 8), normal(2, 5, 4)
    multi = "MultiHeadAttention"
    fused("plain", multi, q, k, v, num_heads=2)
    fused("bias", multi, q, k, v, normal(20), num_heads=2, scale=0.5)
    fused("mask", multi, q, k, v, None, kept(2, 5), num_heads=2)
    fused("scores", multi, q, k, v, None, None, normal(2, 2, 3, 5), num_heads=2)
    fused("unidirectional", multi, q, q, q, num_heads=4, unidirectional=1)
    fused("heads", multi, q, normal(2, 2, 5, 4), normal(2, 2, 5, 4), num_heads=2)


def main():
    for family in [
        pools, transposed, norms, activations, movements, einsums, reductions, top, attentions,
        microsoft,
    ]:  # fmt: skip
        family()
    default = pathlib.Path("tests/golden/onnx_operators.safetensors")
    path = pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else default
    made = {
        "made_by": f"{pathlib.Path(__file__).name}, onnxruntime {onnxruntime.__version__}, seed {SEED}"
    }
    save_file(tensors, path, made)
    count = sum(name.endswith(".model") for name in tensors)
    print(f"{count} cases, {path.stat().st_size} bytes")


if __name__ == "__main__":
    main()
