//! The rules of `raise`: first-class operators in the spellings of exporters.
//!
//! Results are equal as real numbers; they round differently, mostly less. One pattern, one
//! file, one line below; what a pattern reads must not be needed elsewhere where raising it
//! would compute it twice.

use super::editor::Rule;

mod attention;
mod conv_bias;
mod geglu;
mod gelu;
mod group_norm;
mod layer_norm;
mod linear;
mod nan_guard;
mod narrow_casts;
mod norm_affine;
mod silu;
mod softmax;

macro_rules! rules {
    ($($name:ident = $apply:path),* $(,)?) => {
        &[$(Rule { name: stringify!($name), apply: $apply }),*]
    };
}

/// All rules, in order.
pub(super) const RULES: &[Rule] = rules![
    narrow_casts = narrow_casts::apply,
    silu = silu::apply,
    gelu = gelu::apply,
    geglu = geglu::apply,
    softmax = softmax::apply,
    layer_norm = layer_norm::apply,
    norm_unit_affine = norm_affine::drop_unit,
    group_norm = group_norm::apply,
    norm_scale = norm_affine::scale,
    norm_bias = norm_affine::bias,
    nan_guard = nan_guard::apply,
    attention = attention::apply,
    linear = linear::apply,
    linear_bias = linear::bias,
    conv_bias = conv_bias::apply,
];
