//! The rules of `simplify`: every result stays equal bit for bit.
//!
//! One rule, one file, one line below, in the order in which they are tried: what makes a node
//! vanish comes before what changes it.

use super::editor::Rule;

mod common_subexpression;
mod constant_gather;
mod constant_select;
mod double_negation;
mod drop_broadcast;
mod empty_pad;
mod fold_constants;
mod merge_broadcasts;
mod merge_casts;
mod merge_integers;
mod merge_reshapes;
mod merge_slices;
mod merge_transposes;
mod neutral_operand;
mod reduce_unit_axes;
mod single_concat;
mod sink_broadcast;
mod slice_of_concat;
mod transpose_between_reshapes;

macro_rules! rules {
    ($($name:ident),* $(,)?) => {
        &[$(Rule { name: stringify!($name), apply: $name::apply }),*]
    };
}

/// All rules, in order.
pub(super) const RULES: &[Rule] = rules![
    common_subexpression,
    neutral_operand,
    double_negation,
    constant_select,
    empty_pad,
    single_concat,
    reduce_unit_axes,
    merge_casts,
    merge_reshapes,
    transpose_between_reshapes,
    merge_transposes,
    merge_broadcasts,
    merge_slices,
    slice_of_concat,
    constant_gather,
    sink_broadcast,
    drop_broadcast,
    merge_integers,
    fold_constants,
];
