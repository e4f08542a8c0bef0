//! The ONNX operators that are imported: one line each, lowered in the file of their family.
//!
//! A lowering takes a node with its operands as wires and gives one wire per result, built from
//! operators of the graph IR. It never reads a name of the model.

mod activation;
mod attention;
mod blocks;
mod conv_transpose;
mod data;
mod einsum;
mod linear;
mod max_pool;
pub(crate) mod microsoft;
mod movement;
mod norm;
mod operator;
mod pad;
mod pointwise;
mod random;
mod reduce;
mod reduce_composite;
mod resample;
mod resize;
mod shape;
mod slice;
mod top_k;
mod window;

use operator::{Operator, WINDOW, op};

/// The attributes of a reduction.
const REDUCE: &[&str] = &["axes", "keepdims", "noop_with_empty_axes"];

/// The operators of the default domain, sorted by name.
pub(crate) const OPERATORS: &[Operator] = &[
    op("Abs", 6, &[], pointwise::abs),
    op("Add", 7, &[], pointwise::add),
    op("And", 7, &[], pointwise::and),
    op(
        "ArgMax",
        1,
        &["axis", "keepdims", "select_last_index"],
        reduce::argmax,
    ),
    op("Atan", 7, &[], activation::atan),
    op(
        "Attention",
        23,
        &[
            "is_causal",
            "kv_num_heads",
            "left_window_size",
            "q_num_heads",
            "qk_matmul_output_mode",
            "right_window_size",
            "scale",
            "softcap",
            "softmax_precision",
        ],
        attention::attention,
    ),
    op(
        "AveragePool",
        1,
        &[
            "auto_pad",
            "ceil_mode",
            "count_include_pad",
            "dilations",
            "kernel_shape",
            "pads",
            "strides",
        ],
        window::average_pool,
    ),
    op(
        "BatchNormalization",
        7,
        &["epsilon", "momentum", "spatial", "training_mode"],
        norm::batch_normalization,
    ),
    op("Cast", 6, &["round_mode", "saturate", "to"], data::cast),
    op("CastLike", 15, &["round_mode", "saturate"], data::cast_like),
    op("Ceil", 6, &[], pointwise::ceil),
    op("Clip", 6, &["max", "min"], pointwise::clip),
    op("Concat", 1, &["axis"], movement::concat),
    op(
        "Constant",
        1,
        &[
            "value",
            "value_float",
            "value_floats",
            "value_int",
            "value_ints",
        ],
        data::constant,
    ),
    op("ConstantOfShape", 9, &["value"], data::constant_of_shape),
    op("Conv", 1, WINDOW, window::conv),
    op(
        "ConvTranspose",
        1,
        &[
            "auto_pad",
            "dilations",
            "group",
            "kernel_shape",
            "output_padding",
            "output_shape",
            "pads",
            "strides",
        ],
        conv_transpose::conv_transpose,
    ),
    op("Cos", 7, &[], pointwise::cos),
    op("CumSum", 11, &["exclusive", "reverse"], reduce::cumsum),
    op(
        "DepthToSpace",
        1,
        &["blocksize", "mode"],
        blocks::depth_to_space,
    ),
    op("Div", 7, &[], pointwise::div),
    op("Dropout", 7, &["ratio", "seed"], data::dropout),
    op("Einsum", 12, &["equation"], einsum::einsum),
    op("Elu", 6, &["alpha"], activation::elu),
    op("Equal", 7, &[], pointwise::equal),
    op("Erf", 9, &[], pointwise::erf),
    op("Exp", 6, &[], pointwise::exp),
    op("Expand", 8, &[], shape::expand),
    op("Flatten", 1, &["axis"], shape::flatten),
    op("Floor", 6, &[], pointwise::floor),
    op("Gather", 1, &["axis"], movement::gather),
    op("GatherElements", 11, &["axis"], movement::gather_elements),
    op("GatherND", 11, &["batch_dims"], movement::gather_nd),
    op("Gelu", 20, &["approximate"], pointwise::gelu),
    op(
        "Gemm",
        7,
        &["alpha", "beta", "transA", "transB"],
        linear::gemm,
    ),
    op("GlobalAveragePool", 1, &[], reduce::global_average_pool),
    op("GlobalMaxPool", 1, &[], reduce::global_max_pool),
    op("Greater", 7, &[], pointwise::greater),
    op("GreaterOrEqual", 12, &[], pointwise::greater_or_equal),
    op(
        "GroupNormalization",
        18,
        &["epsilon", "num_groups", "stash_type"],
        norm::group_normalization,
    ),
    op(
        "HardSigmoid",
        6,
        &["alpha", "beta"],
        activation::hard_sigmoid,
    ),
    op("HardSwish", 14, &[], activation::hard_swish),
    op("Identity", 1, &[], data::identity),
    op(
        "InstanceNormalization",
        6,
        &["epsilon"],
        norm::instance_normalization,
    ),
    op("IsNaN", 9, &[], pointwise::is_nan),
    op(
        "LayerNormalization",
        // Of the default domain since 17; onnxruntime's optimiser writes it into older opsets.
        1,
        &["axis", "epsilon", "stash_type"],
        norm::layer_normalization,
    ),
    op("LeakyRelu", 6, &["alpha"], activation::leaky_relu),
    op("Less", 7, &[], pointwise::less),
    op("LessOrEqual", 12, &[], pointwise::less_or_equal),
    op("Log", 6, &[], pointwise::log),
    op("LogSoftmax", 1, &["axis"], reduce::log_softmax),
    op("MatMul", 1, &[], linear::matmul),
    op("Max", 8, &[], pointwise::max),
    op(
        "MaxPool",
        1,
        &[
            "auto_pad",
            "ceil_mode",
            "dilations",
            "kernel_shape",
            "pads",
            "storage_order",
            "strides",
        ],
        max_pool::max_pool,
    ),
    op("Min", 8, &[], pointwise::min),
    op("Mish", 18, &[], activation::mish),
    op("Mod", 10, &["fmod"], pointwise::modulo),
    op("Mul", 7, &[], pointwise::mul),
    op("Neg", 6, &[], pointwise::neg),
    op("Not", 1, &[], pointwise::not),
    op("Or", 7, &[], pointwise::or),
    op("PRelu", 7, &[], activation::prelu),
    op("Pad", 2, &["mode", "pads", "value"], pad::pad),
    op("Pow", 7, &[], pointwise::pow),
    op(
        "RandomNormalLike",
        1,
        &["dtype", "mean", "scale", "seed"],
        random::random_normal_like,
    ),
    op("Range", 11, &[], data::range),
    op("Reciprocal", 6, &[], pointwise::reciprocal),
    op("ReduceL1", 1, REDUCE, reduce_composite::reduce_l1),
    op("ReduceL2", 1, REDUCE, reduce_composite::reduce_l2),
    op("ReduceLogSum", 1, REDUCE, reduce_composite::reduce_log_sum),
    op(
        "ReduceLogSumExp",
        1,
        REDUCE,
        reduce_composite::reduce_log_sum_exp,
    ),
    op("ReduceMax", 1, REDUCE, reduce::reduce_max),
    op("ReduceMean", 1, REDUCE, reduce::reduce_mean),
    op("ReduceMin", 1, REDUCE, reduce::reduce_min),
    op("ReduceProd", 1, REDUCE, reduce::reduce_prod),
    op("ReduceSum", 1, REDUCE, reduce::reduce_sum),
    op(
        "ReduceSumSquare",
        1,
        REDUCE,
        reduce_composite::reduce_sum_square,
    ),
    op("Relu", 6, &[], pointwise::relu),
    op("Reshape", 1, &["allowzero", "shape"], shape::reshape),
    op(
        "Resize",
        10,
        &[
            "antialias",
            "axes",
            "coordinate_transformation_mode",
            "cubic_coeff_a",
            "exclude_outside",
            "extrapolation_value",
            "keep_aspect_ratio_policy",
            "mode",
            "nearest_mode",
        ],
        resize::resize,
    ),
    op("Round", 11, &[], pointwise::round),
    op("ScatterND", 11, &["reduction"], movement::scatter_nd),
    op("Selu", 6, &["alpha", "gamma"], activation::selu),
    op("Shape", 1, &["end", "start"], shape::shape),
    op("Sigmoid", 6, &[], pointwise::sigmoid),
    op("Sin", 7, &[], pointwise::sin),
    op("Size", 1, &[], shape::size),
    op("Slice", 1, &["axes", "ends", "starts"], slice::slice),
    op("Softmax", 1, &["axis"], reduce::softmax),
    op("Softplus", 1, &[], activation::softplus),
    op("Softsign", 1, &[], activation::softsign),
    op(
        "SpaceToDepth",
        1,
        &["blocksize", "mode"],
        blocks::space_to_depth,
    ),
    op("Split", 2, &["axis", "num_outputs", "split"], slice::split),
    op("Sqrt", 6, &[], pointwise::sqrt),
    op("Squeeze", 1, &["axes"], shape::squeeze),
    op("Sub", 7, &[], pointwise::sub),
    op("Sum", 8, &[], pointwise::sum),
    op("Swish", 24, &["alpha"], pointwise::swish),
    op("Tanh", 6, &[], pointwise::tanh),
    op("Tile", 6, &[], movement::tile),
    op("TopK", 1, &["axis", "k", "largest", "sorted"], top_k::top_k),
    op("Transpose", 1, &["perm"], movement::transpose),
    op("Trilu", 14, &["upper"], movement::trilu),
    op("Unsqueeze", 1, &["axes"], shape::unsqueeze),
    op("Upsample", 7, &["mode", "scales"], resize::upsample),
    op("Where", 9, &[], pointwise::select),
];

/// The operator of that domain and name, if it is imported.
pub(crate) fn find(domain: &str, name: &str) -> Option<&'static Operator> {
    let operators = match domain {
        "" => OPERATORS,
        "com.microsoft" => microsoft::OPERATORS,
        _ => return None,
    };
    let index = operators.binary_search_by(|operator| operator.name.cmp(name));
    index.ok().map(|index| &operators[index])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lists_are_sorted() {
        for list in [OPERATORS, microsoft::OPERATORS] {
            assert!(list.windows(2).all(|pair| pair[0].name < pair[1].name));
        }
    }
}
