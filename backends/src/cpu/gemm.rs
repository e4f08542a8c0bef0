//! Matrix products of f32 slices by a GEMM library: the yardstick of the ceilings.
//!
//! Takes slices with strides, checks that every element lies inside, and calls the library.

use super::threads::spread;

/// A matrix over a slice: element `(i, j)` is at `i · row + j · column`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Matrix<'a> {
    pub(crate) data: &'a [f32],
    pub(crate) row: usize,
    pub(crate) column: usize,
}

impl<'a> Matrix<'a> {
    /// Rows one after the other, `row` elements apart.
    pub(crate) fn rows(data: &'a [f32], row: usize) -> Matrix<'a> {
        let column = 1;
        Matrix { data, row, column }
    }
}

/// `out[i · out_row + j] = Σ_l a[i, l] · b[l, j]` for `[m, n, k]` values of `i`, `j` and `l`.
///
/// # Panics
/// When a matrix is larger than its slice: callers computed both.
#[allow(
    unsafe_code,
    reason = "the library takes pointers; this is the only place that calls it"
)]
pub(crate) fn gemm(
    [m, n, k]: [usize; 3],
    (out, out_row): (&mut [f32], usize),
    a: Matrix<'_>,
    b: Matrix<'_>,
) {
    if m == 0 || n == 0 {
        return;
    }
    assert!(n <= out_row || m == 1, "rows of the result overlap");
    assert!(
        (m - 1) * out_row + n <= out.len(),
        "the result is too short"
    );
    if k == 0 {
        return (0..m).for_each(|i| out[i * out_row..][..n].fill(0.0));
    }
    let last = |matrix: &Matrix<'_>, i: usize, j: usize| i * matrix.row + j * matrix.column;
    assert!(
        last(&a, m - 1, k - 1) < a.data.len(),
        "the left is too short"
    );
    assert!(
        last(&b, k - 1, n - 1) < b.data.len(),
        "the right is too short"
    );
    // SAFETY: the largest offset that the library forms in each matrix is that of its last
    // element, which the assertions keep inside of the slice; offsets fit isize because slices do.
    // `out` is borrowed mutably, so nothing else overlaps it, and its rows are disjoint.
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            out.as_mut_ptr(),
            1,
            out_row as isize,
            false,
            a.data.as_ptr(),
            a.column as isize,
            a.row as isize,
            b.data.as_ptr(),
            b.column as isize,
            b.row as isize,
            1.0,
            1.0,
            false,
            false,
            false,
            spread(),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_of_any_distance() {
        let a = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0];
        let b = [1.0, 0.0, -1.0, 2.0, 1.0, 0.0];
        for (k, wanted) in [
            (3, [2.0, 4.0, 9.0, 5.0, 10.0, 9.0]),
            (0, [0.0, 0.0, 9.0, 0.0, 0.0, 9.0]),
        ] {
            let mut out = [9.0; 6];
            let (a, b) = (Matrix::rows(&a, 3), Matrix::rows(&b, 2));
            gemm([2, 2, k], (&mut out, 3), a, b);
            assert_eq!(out, wanted, "{k}");
        }
    }
}
