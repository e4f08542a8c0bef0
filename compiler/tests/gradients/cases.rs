//! One node in each row, and the types of its operands: floats are differentiated.

/// A node over `%0`, `%1`, … and their types.
pub(crate) type Case = (&'static str, &'static [&'static str]);

/// Operators without a gradient, and why.
pub(crate) const WITHOUT: &[(&str, &str)] = &[
    ("and", "truth values"),
    ("argmax", "positions"),
    ("attention_gradient", "differentiated once"),
    ("attention_log_sum", "differentiated once"),
    ("call", "its body takes its place"),
    ("ceil", "steps"),
    ("constant", "nothing to learn"),
    ("equal", "truth values"),
    ("floor", "steps"),
    ("iota", "nothing to learn"),
    ("is_nan", "truth values"),
    ("less", "truth values"),
    ("less_equal", "truth values"),
    ("not", "truth values"),
    ("or", "truth values"),
    ("round", "steps"),
    ("stop_gradient", "none flows"),
];

/// Operands that begin with `+` are positive, those with `0` begin with a zero.
pub(crate) const CASES: &[Case] = &[
    ("abs(%0)", &["f64[2, 3]"]),
    ("add(%0, %1)", &["f64[2, 3]", "f64[2, 3]"]),
    ("add(%0, %1)", &["f64[2, 1, 3]", "f64[4, 1]"]),
    ("add(%0, %1)", &["f64[]", "f64[1, 1]"]),
    (
        "attention(%0, %1, %2) {scale = 0.7, causal = false}",
        &["f64[2, 2, 3, 4]", "f64[2, 2, 5, 4]", "f64[2, 2, 5, 3]"],
    ),
    (
        "attention(%0, %1, %2) {scale = 0.7, causal = true}",
        &["f64[1, 2, 4, 2]", "f64[1, 2, 4, 2]", "f64[1, 2, 4, 2]"],
    ),
    (
        "attention(%0, %1, %2, %3) {scale = 0.5, causal = false}",
        &[
            "f64[2, 1, 3, 2]",
            "f64[2, 1, 4, 2]",
            "f64[2, 1, 4, 2]",
            "f64[1, 1, 3, 4]",
        ],
    ),
    (
        "attention(%0, %1, %2, %3) {scale = 0.5, causal = true}",
        &[
            "f64[1, 1, 3, 2]",
            "f64[1, 1, 4, 2]",
            "f64[1, 1, 4, 2]",
            "f64[3, 4]",
        ],
    ),
    (
        "attention(%0, %1, %2) {scale = 1.0, causal = false}",
        &["f64[1, 1, 1, 1]", "f64[1, 1, 1, 1]", "f64[1, 1, 1, 1]"],
    ),
    (
        "average_pool(%0) {kernel = [2, 3], strides = [2, 1], pads_before = [0, 1], pads_after = [0, 1], overhang = [1, 0], dilations = [1, 1], count_padding = false}",
        &["f64[2, 2, 5, 4]"],
    ),
    (
        "average_pool(%0) {kernel = [2], strides = [1], pads_before = [1], pads_after = [0], overhang = [0], dilations = [2], count_padding = true}",
        &["f64[1, 2, 5]"],
    ),
    ("broadcast(%0) {shape = [2, 3, 4]}", &["f64[3, 1]"]),
    ("cast(%0) {dtype = f64}", &["f64[2]"]),
    ("concat(%0, %1, %0) {axis = 1}", &["f64[2, 1]", "f64[2, 3]"]),
    (
        "conv(%0, %1, %2) {strides = [1, 1], pads_before = [1, 1], pads_after = [1, 1], dilations = [1, 1], groups = 1}",
        &["f64[2, 3, 4, 5]", "f64[2, 3, 3, 3]", "f64[2]"],
    ),
    (
        "conv(%0, %1) {strides = [2, 1], pads_before = [0, 1], pads_after = [1, 2], dilations = [1, 2], groups = 1}",
        &["f64[2, 2, 6, 5]", "f64[3, 2, 3, 2]"],
    ),
    (
        "conv(%0, %1) {strides = [3], pads_before = [1], pads_after = [0], dilations = [1], groups = 2}",
        &["f64[1, 4, 9]", "f64[2, 2, 2]"],
    ),
    (
        "conv(%0, %1) {strides = [1, 1], pads_before = [0, 0], pads_after = [0, 0], dilations = [1, 1], groups = 1}",
        &["f64[1, 1, 1, 1]", "f64[1, 1, 1, 1]"],
    ),
    (
        "conv_transpose(%0, %1) {strides = [2, 1], pads_before = [0, 1], pads_after = [1, 1], dilations = [1, 1], groups = 1, extents = [5, 4]}",
        &["f64[2, 3, 2, 4]", "f64[3, 2, 3, 3]"],
    ),
    (
        "conv_transpose(%0, %1) {strides = [2], pads_before = [1], pads_after = [1], dilations = [2], groups = 2, extents = [7]}",
        &["f64[1, 4, 3]", "f64[4, 1, 3]"],
    ),
    (
        "conv_weight_gradient(%0, %1) {strides = [2, 1], pads_before = [0, 1], pads_after = [1, 1], dilations = [1, 1], groups = 1, kernel = [3, 3]}",
        &["f64[2, 2, 5, 4]", "f64[2, 3, 2, 4]"],
    ),
    (
        "conv_weight_gradient(%0, %1) {strides = [1], pads_before = [1], pads_after = [1], dilations = [1], groups = 2, kernel = [3]}",
        &["f64[2, 2, 4]", "f64[2, 4, 4]"],
    ),
    ("cos(%0)", &["0f64[3]"]),
    (
        "cumsum(%0) {axis = 1, exclusive = false, reverse = false}",
        &["f64[2, 4]"],
    ),
    (
        "cumsum(%0) {axis = 0, exclusive = true, reverse = true}",
        &["f64[4, 2]"],
    ),
    ("div(%0, %1)", &["f64[2, 3]", "+f64[3]"]),
    ("div(%0, %1)", &["f64[1, 3]", "+f64[2, 1]"]),
    (
        "dot(%0, %1) {axes = [0, 2], keep = false}",
        &["f64[2, 3, 2]", "f64[2, 3, 2]"],
    ),
    ("dot(%0, %0) {axes = [1], keep = true}", &["f64[2, 3]"]),
    ("erf(%0)", &["0f64[4]"]),
    ("exp(%0)", &["0f64[4]"]),
    ("gather(%0, %1) {axis = 0}", &["f64[4, 2]", "i64[2, 3]"]),
    ("gather(%0, %1) {axis = 1}", &["f64[2, 4, 3]", "i64[2]"]),
    (
        "gather_nd(%0, %1) {batch_axes = 0}",
        &["f64[4, 4, 2]", "i64[3, 2]"],
    ),
    (
        "gather_nd(%0, %1) {batch_axes = 1}",
        &["f64[2, 4, 3]", "i64[2, 5, 1]"],
    ),
    ("geglu(%0)", &["f64[2, 6]"]),
    ("gelu(%0) {form = \"erf\"}", &["0f64[5]"]),
    ("gelu(%0) {form = \"tanh\"}", &["0f64[5]"]),
    ("gelu(%0) {form = \"quick\"}", &["0f64[5]"]),
    (
        "group_norm(%0, %1, %2) {groups = 2, epsilon = 1e-5}",
        &["f64[2, 4, 3, 2]", "f64[4]", "f64[4]"],
    ),
    ("group_norm(%0) {groups = 1, epsilon = 0.1}", &["f64[2, 3]"]),
    (
        "group_norm(%0, %1) {groups = 3, epsilon = 1e-3}",
        &["f64[1, 3, 4]", "f64[3]"],
    ),
    (
        "group_statistics(%0) {groups = 2, epsilon = 1e-2}",
        &["f64[2, 4, 3]"],
    ),
    (
        "layer_norm(%0, %1, %2) {axes = 1, epsilon = 1e-5}",
        &["f64[2, 3, 4]", "f64[4]", "f64[4]"],
    ),
    (
        "layer_norm(%0) {axes = 2, epsilon = 1e-3}",
        &["f64[2, 3, 2]"],
    ),
    (
        "layer_norm(%0, %1) {axes = 1, epsilon = 0.1}",
        &["f64[1]", "f64[1]"],
    ),
    (
        "linear(%0, %1, %2)",
        &["f64[2, 3, 4]", "f64[5, 4]", "f64[5]"],
    ),
    ("linear(%0, %1)", &["f64[4]", "f64[1, 4]"]),
    ("log(%0)", &["+f64[4]"]),
    ("matmul(%0, %1)", &["f64[2, 3, 4]", "f64[2, 4, 2]"]),
    ("matmul(%0, %1)", &["f64[2, 3, 4]", "f64[4, 2]"]),
    ("matmul(%0, %1)", &["f64[3, 4]", "f64[2, 1, 4, 2]"]),
    ("matmul(%0, %1)", &["f64[1, 3, 4]", "f64[2, 4, 2]"]),
    ("matmul(%0, %1)", &["f64[3, 4]", "f64[1, 1, 4, 2]"]),
    ("max(%0, %1)", &["f64[2, 3]", "f64[3]"]),
    ("min(%0, %1)", &["f64[2, 3]", "f64[2, 1]"]),
    ("mul(%0, %1)", &["f64[2, 3]", "f64[2, 3]"]),
    ("mul(%0, %1)", &["f64[2, 1, 3]", "f64[4, 1]"]),
    ("mul(%0, %0)", &["0f64[2]"]),
    ("neg(%0)", &["0f64[2]"]),
    (
        "pad(%0, %1) {before = [1, 0], after = [0, 2], mode = \"constant\"}",
        &["f64[2, 3]", "f64[]"],
    ),
    (
        "pad(%0) {before = [0, 2], after = [1, 1], mode = \"reflect\"}",
        &["f64[2, 4]"],
    ),
    (
        "pad(%0) {before = [2, 0], after = [1, 1], mode = \"edge\"}",
        &["f64[1, 4]"],
    ),
    (
        "pad(%0) {before = [3, 0], after = [1, 0], mode = \"wrap\"}",
        &["f64[2, 2]"],
    ),
    ("pow(%0, %1)", &["+f64[2, 3]", "f64[3]"]),
    ("reciprocal(%0)", &["+f64[3]"]),
    ("reduce_max(%0) {axes = [1], keep = false}", &["f64[2, 4]"]),
    (
        "reduce_mean(%0) {axes = [0, 2], keep = true}",
        &["f64[2, 3, 2]"],
    ),
    ("reduce_mean(%0) {axes = [0], keep = false}", &["f64[1]"]),
    (
        "reduce_sum(%0) {axes = [0, 1], keep = false}",
        &["f64[2, 3, 2]"],
    ),
    ("relu(%0)", &["f64[5]"]),
    ("reshape(%0) {shape = [3, 2]}", &["f64[2, 3]"]),
    (
        "scatter_nd(%0, %1, %2) {reduction = \"add\"}",
        &["f64[4, 2]", "i64[3, 1]", "f64[3, 2]"],
    ),
    (
        "scatter_nd(%0, %1, %2) {reduction = \"replace\"}",
        &["f64[4, 2]", "i64[2, 1]", "f64[2, 2]"],
    ),
    ("select(%0, %1, %2)", &["bool[2, 3]", "f64[3]", "f64[2, 1]"]),
    ("sigmoid(%0)", &["0f64[3]"]),
    ("silu(%0)", &["0f64[3]"]),
    ("sin(%0)", &["0f64[3]"]),
    (
        "slice(%0) {axis = 1, start = 1, length = 2, step = 1}",
        &["f64[2, 4]"],
    ),
    (
        "slice(%0) {axis = 0, start = 1, length = 3, step = 2}",
        &["f64[7, 2]"],
    ),
    (
        "slice(%0) {axis = 1, start = 5, length = 3, step = -2}",
        &["f64[2, 7]"],
    ),
    (
        "slice(%0) {axis = 0, start = 0, length = 0, step = 1}",
        &["f64[3]"],
    ),
    ("softmax(%0) {axis = 1}", &["0f64[2, 4, 2]"]),
    ("sqrt(%0)", &["+f64[3]"]),
    ("sub(%0, %1)", &["f64[2, 3]", "f64[1, 3]"]),
    ("tanh(%0)", &["0f64[3]"]),
    ("transpose(%0) {permutation = [2, 0, 1]}", &["f64[2, 3, 4]"]),
    ("trilu(%0) {upper = false, diagonal = 1}", &["f64[3, 4]"]),
    ("upsample_nearest(%0) {size = [4, 6]}", &["f64[1, 2, 2, 3]"]),
    ("upsample_nearest(%0) {size = [5, 2]}", &["f64[1, 1, 3, 4]"]),
];
