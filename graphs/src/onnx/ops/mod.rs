//! The ONNX operators that are imported: one line each, lowered in the file of their family.
//!
//! A lowering takes a node with its operands as wires and gives one wire per result, built from
//! operators of the graph IR. It never reads a name of the model.

use super::context::{Context, Result, Wire};
use super::node::Node;

mod data;
mod linear;
mod movement;
mod norm;
mod pad;
mod pointwise;
mod reduce;
mod resample;
mod resize;
mod shape;
mod slice;
mod window;

/// A lowering: the results of a node.
pub(crate) type Lower = fn(&mut Context, &Node<'_>) -> Result<Vec<Wire>>;

/// An operator of the default domain.
pub(crate) struct Operator {
    /// Its name.
    pub(crate) name: &'static str,
    /// The first opset that is read: older ones broadcast differently, or say too little.
    pub(crate) since: i64,
    /// The attributes that the lowering reads, in any opset.
    pub(crate) attributes: &'static [&'static str],
    /// The lowering.
    pub(crate) lower: Lower,
}

const fn op(
    name: &'static str,
    since: i64,
    attributes: &'static [&'static str],
    lower: Lower,
) -> Operator {
    Operator {
        name,
        since,
        attributes,
        lower,
    }
}

/// The attributes of a reduction.
const REDUCE: &[&str] = &["axes", "keepdims", "noop_with_empty_axes"];

/// The attributes of a window that slides.
const WINDOW: &[&str] = &[
    "auto_pad",
    "dilations",
    "group",
    "kernel_shape",
    "pads",
    "strides",
];

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
    op("Cos", 7, &[], pointwise::cos),
    op("CumSum", 11, &["exclusive", "reverse"], reduce::cumsum),
    op("Div", 7, &[], pointwise::div),
    op("Dropout", 7, &["ratio", "seed"], data::dropout),
    op("Equal", 7, &[], pointwise::equal),
    op("Erf", 9, &[], pointwise::erf),
    op("Exp", 6, &[], pointwise::exp),
    op("Expand", 8, &[], shape::expand),
    op("Flatten", 1, &["axis"], shape::flatten),
    op("Floor", 6, &[], pointwise::floor),
    op("Gather", 1, &["axis"], movement::gather),
    op("GatherND", 11, &["batch_dims"], movement::gather_nd),
    op("Gelu", 20, &["approximate"], pointwise::gelu),
    op(
        "Gemm",
        7,
        &["alpha", "beta", "transA", "transB"],
        linear::gemm,
    ),
    op("GlobalAveragePool", 1, &[], reduce::global_average_pool),
    op("Greater", 7, &[], pointwise::greater),
    op("GreaterOrEqual", 12, &[], pointwise::greater_or_equal),
    op(
        "GroupNormalization",
        18,
        &["epsilon", "num_groups", "stash_type"],
        norm::group_normalization,
    ),
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
        17,
        &["axis", "epsilon", "stash_type"],
        norm::layer_normalization,
    ),
    op("Less", 7, &[], pointwise::less),
    op("LessOrEqual", 12, &[], pointwise::less_or_equal),
    op("Log", 6, &[], pointwise::log),
    op("MatMul", 1, &[], linear::matmul),
    op("Max", 8, &[], pointwise::max),
    op("Min", 8, &[], pointwise::min),
    op("Mod", 10, &["fmod"], pointwise::modulo),
    op("Mul", 7, &[], pointwise::mul),
    op("Neg", 6, &[], pointwise::neg),
    op("Not", 1, &[], pointwise::not),
    op("Or", 7, &[], pointwise::or),
    op("Pad", 2, &["mode", "pads", "value"], pad::pad),
    op("Pow", 7, &[], pointwise::pow),
    op("Range", 11, &[], data::range),
    op("Reciprocal", 6, &[], pointwise::reciprocal),
    op("ReduceMax", 1, REDUCE, reduce::reduce_max),
    op("ReduceMean", 1, REDUCE, reduce::reduce_mean),
    op("ReduceMin", 1, REDUCE, reduce::reduce_min),
    op("ReduceProd", 1, REDUCE, reduce::reduce_prod),
    op("ReduceSum", 1, REDUCE, reduce::reduce_sum),
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
    op("Shape", 1, &["end", "start"], shape::shape),
    op("Sigmoid", 6, &[], pointwise::sigmoid),
    op("Sin", 7, &[], pointwise::sin),
    op("Size", 1, &[], shape::size),
    op("Slice", 1, &["axes", "ends", "starts"], slice::slice),
    op("Softmax", 1, &["axis"], reduce::softmax),
    op("Split", 2, &["axis", "num_outputs", "split"], slice::split),
    op("Sqrt", 6, &[], pointwise::sqrt),
    op("Squeeze", 1, &["axes"], shape::squeeze),
    op("Sub", 7, &[], pointwise::sub),
    op("Sum", 8, &[], pointwise::sum),
    op("Swish", 24, &["alpha"], pointwise::swish),
    op("Tanh", 6, &[], pointwise::tanh),
    op("Tile", 6, &[], movement::tile),
    op("Transpose", 1, &["perm"], movement::transpose),
    op("Trilu", 14, &["upper"], movement::trilu),
    op("Unsqueeze", 1, &["axes"], shape::unsqueeze),
    op("Upsample", 7, &["mode", "scales"], resize::upsample),
    op("Where", 9, &[], pointwise::select),
];

/// The operator of that domain and name, if it is imported.
pub(crate) fn find(domain: &str, name: &str) -> Option<&'static Operator> {
    match domain {
        "" => {
            let index = OPERATORS
                .binary_search_by(|operator| operator.name.cmp(name))
                .ok()?;
            Some(&OPERATORS[index])
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_is_sorted() {
        assert!(OPERATORS.windows(2).all(|pair| pair[0].name < pair[1].name));
    }
}
