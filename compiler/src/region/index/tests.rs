//! Tests of index arithmetic: what simplifies, and what values it keeps.

use super::*;

fn scope(extents: &[usize]) -> Scope<'_> {
    Scope {
        extents,
        bounds: &[],
    }
}

#[test]
fn what_a_range_proves_is_simplified_away() {
    let extents = [2, 6, 8];
    let scope = scope(&extents);
    let [i0, i1, i2] = [0, 1, 2].map(Index::axis);
    let flat = i0.clone().times(48).add(&i1.clone().times(8)).add(&i2);
    let cases = [
        (flat.div(48, scope), "i0"),
        (flat.div(8, scope), "6*i0 + i1"),
        (flat.div(8, scope).modulo(6, scope), "i1"),
        (flat.modulo(8, scope), "i2"),
        (flat.modulo(4, scope), "(i2%4)"),
        (flat.modulo(16, scope), "i2 + 8*(i1%2)"),
        (i1.div(4, scope), "(i1/4)"),
        (i1.clone().times(2).div(4, scope), "(i1/2)"),
        (i1.div(2, scope).div(2, scope), "(i1/4)"),
        (i1.div(2, scope).times(2).add(&i1.modulo(2, scope)), "i1"),
        (i2.modulo(4, scope).div(2, scope), "((i2/2)%2)"),
        (i1.clone().plus(-7).div(4, scope), "((i1 + 1)/4) - 2"),
    ];
    for (index, wanted) in cases {
        assert_eq!(index.to_string(), wanted);
    }
}

/// The value at one index, by parts alone.
fn sum_of_parts(index: &Index, at: &[usize]) -> i64 {
    let (constant, parts) = index.parts();
    let value = |part: Part<'_>| match part {
        Part::Axis(axis) => at[axis] as i64,
        Part::Div(inner, d) => sum_of_parts(inner, at).div_euclid(d),
        Part::Mod(inner, d) => sum_of_parts(inner, at).rem_euclid(d),
    };
    constant + parts.map(|(part, c)| c * value(part)).sum::<i64>()
}

#[test]
fn the_parts_of_an_index_sum_to_its_value() {
    let extents = [3, 5, 7];
    let scope = scope(&extents);
    let [i0, i1, i2] = [0, 1, 2].map(Index::axis);
    let sum = i0.clone().times(7).add(&i1.times(-2)).add(&i2).plus(-4);
    let cases = [
        Index::constant(9),
        i0,
        sum.div(4, scope),
        sum.modulo(6, scope),
        sum.div(3, scope).modulo(2, scope).times(5).add(&sum),
    ];
    for index in cases {
        crate::ops::shape::each_index(&extents, |at| {
            assert_eq!(sum_of_parts(&index, at), index.at(at), "{index}");
        });
    }
}

#[test]
fn simplifying_changes_no_value() {
    let extents = [3, 5, 7];
    let scope = scope(&extents);
    for (a, b, c, constant) in [(1, 2, 3, 0), (35, 7, 1, 4), (-6, 4, 2, -5), (0, 10, -10, 9)] {
        let terms = [a, b, c].into_iter().enumerate();
        let sum = terms.fold(Index::constant(constant), |sum, (axis, factor)| {
            sum.add(&Index::axis(axis).times(factor))
        });
        for d in [1, 2, 3, 4, 5, 7, 10, 12, 14] {
            let (quotient, remainder) = (sum.div(d, scope), sum.modulo(d, scope));
            crate::ops::shape::each_index(&extents, |index| {
                let value = sum.at(index);
                assert_eq!(quotient.at(index), value.div_euclid(d), "{quotient}");
                assert_eq!(remainder.at(index), value.rem_euclid(d), "{remainder}");
            });
            let joined = quotient.times(d).add(&remainder);
            crate::ops::shape::each_index(&extents, |index| {
                assert_eq!(joined.at(index), sum.at(index), "{joined}");
            });
        }
    }
}
