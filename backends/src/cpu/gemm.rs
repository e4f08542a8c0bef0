//! Matrix products of f32 slices: the one door to the GEMM library.
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

    /// The transposed matrix of [`Matrix::rows`].
    pub(crate) fn columns(data: &'a [f32], column: usize) -> Matrix<'a> {
        let row = 1;
        Matrix { data, row, column }
    }
}

/// What becomes of the elements that a product meets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Into {
    /// They are overwritten.
    Replace,
    /// The product is added.
    Add,
}

/// Who computes a product.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum On {
    /// The calling thread.
    Caller,
    /// All threads of the pool.
    Pool,
}

/// `out[i · out_row + j] (+)= Σ_l a[i, l] · b[l, j]` for `[m, n, k]` values of `i`, `j` and `l`.
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
    into: Into,
    on: On,
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
        if into == Into::Replace {
            (0..m).for_each(|i| out[i * out_row..][..n].fill(0.0));
        }
        return;
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
    let parallelism = match on {
        On::Caller => gemm::Parallelism::None,
        On::Pool => spread(),
    };
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
            into == Into::Add,
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
            parallelism,
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strides_and_addition() {
        let a = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0];
        let b = [1.0, 0.0, -1.0, 2.0, 1.0, 0.0];
        let cases = [
            (
                Matrix::rows(&b, 2),
                Into::Replace,
                [2.0, 4.0, 9.0, 5.0, 10.0, 9.0],
            ),
            (
                Matrix::columns(&b, 3),
                Into::Replace,
                [-2.0, 4.0, 9.0, -2.0, 13.0, 9.0],
            ),
            (
                Matrix::rows(&b, 2),
                Into::Add,
                [11.0, 13.0, 9.0, 14.0, 19.0, 9.0],
            ),
        ];
        for (right, into, wanted) in cases {
            let mut out = [9.0; 6];
            gemm(
                [2, 2, 3],
                (&mut out, 3),
                Matrix::rows(&a, 3),
                right,
                into,
                On::Caller,
            );
            assert_eq!(out, wanted, "{right:?}");
        }
    }
}
