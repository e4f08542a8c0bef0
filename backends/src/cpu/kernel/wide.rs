//! What kernels need of a vector instruction set beyond [`pulp::Simd`].
//!
//! One implementation per machine: the register tile of matrix products, loads and stores at any
//! address, a multiply-add that is never a call, and a prefetch.
#![allow(
    unsafe_code,
    reason = "vector loads from pointers that kernels have checked"
)]

use pulp::{Scalar128b, Simd, f32x4};

use super::exp2;
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
use super::transpose;
use super::transpose::LANES_MOST;

/// A vector instruction set with the shape of its register tile.
pub(super) trait Wide: Simd {
    /// Rows of the register tile.
    const ROWS: usize;

    /// Vectors in a row of the register tile.
    const VECTORS: usize;

    /// The vectors that transposes work on: their cost per element grows with the lanes.
    type Narrow: Wide;

    /// The same instructions on narrower vectors.
    fn narrow(self) -> Self::Narrow;

    /// `a · b + c`; rounded once where the machine has such an instruction.
    fn fma(self, a: Self::f32s, b: Self::f32s, c: Self::f32s) -> Self::f32s;

    /// `2^x` to 1.5 units in the last place for `x < 127.5`; what would be denormal may be 0. NaN
    /// stays.
    #[inline(always)]
    fn exp2(self, x: Self::f32s) -> Self::f32s {
        exp2::by_bits(self, x)
    }

    /// Asks for the line of the cache at `pointer`, which may be any address.
    fn prefetch(self, pointer: *const f32);

    /// The vector of every lane of the first `F32_LANES` rows, in order; what comes behind them is
    /// nothing that counts.
    fn transpose(self, rows: [Self::f32s; LANES_MOST]) -> [Self::f32s; LANES_MOST];

    /// Reads a vector.
    ///
    /// # Safety
    /// `pointer` is valid for a vector of f32; it need not be aligned to one.
    // SAFETY: the caller's promise is that of `read_unaligned`.
    #[inline(always)]
    unsafe fn load(self, pointer: *const f32) -> Self::f32s {
        unsafe { pointer.cast::<Self::f32s>().read_unaligned() }
    }

    /// Writes a vector.
    ///
    /// # Safety
    /// As [`Wide::load`], for writing.
    // SAFETY: the caller's promise is that of `write_unaligned`.
    #[inline(always)]
    unsafe fn store(self, pointer: *mut f32, vector: Self::f32s) {
        unsafe { pointer.cast::<Self::f32s>().write_unaligned(vector) }
    }
}

#[cfg(target_arch = "x86_64")]
fn prefetch_line(pointer: *const f32) {
    use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
    // SAFETY: every x86-64 processor has the instruction, and it never faults.
    unsafe { _mm_prefetch::<_MM_HINT_T0>(pointer.cast()) }
}

#[cfg(target_arch = "x86_64")]
impl Wide for pulp::x86::V4 {
    const ROWS: usize = 14;
    const VECTORS: usize = 2;

    type Narrow = pulp::x86::V3;

    #[inline(always)]
    fn narrow(self) -> pulp::x86::V3 {
        *self
    }

    #[inline(always)]
    fn fma(self, a: Self::f32s, b: Self::f32s, c: Self::f32s) -> Self::f32s {
        self.mul_add_f32s(a, b, c)
    }

    #[inline(always)]
    fn exp2(self, x: Self::f32s) -> Self::f32s {
        use std::arch::x86_64::{
            _MM_FROUND_NO_EXC, _MM_FROUND_TO_NEAREST_INT, _mm512_roundscale_ps, _mm512_scalef_ps,
        };
        // Low enough to give 0, high enough to be a number; the maximum is `x` if that is NaN.
        let x = self.max_f32s(self.splat_f32s(-160.0), x);
        // SAFETY: `self` exists on processors with these instructions alone.
        unsafe {
            let whole = _mm512_roundscale_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(
                bytemuck::cast(x),
            );
            let r = self.sub_f32s(x, bytemuck::cast(whole));
            let fraction = bytemuck::cast(exp2::fraction(self, r));
            bytemuck::cast(_mm512_scalef_ps(fraction, whole))
        }
    }

    #[inline(always)]
    fn transpose(self, rows: [Self::f32s; LANES_MOST]) -> [Self::f32s; LANES_MOST] {
        // SAFETY: `self` exists on processors with these instructions alone.
        unsafe { bytemuck::cast(transpose::avx512(bytemuck::cast(rows))) }
    }

    #[inline(always)]
    fn prefetch(self, pointer: *const f32) {
        prefetch_line(pointer);
    }
}

#[cfg(target_arch = "x86_64")]
impl Wide for pulp::x86::V3 {
    const ROWS: usize = 6;
    const VECTORS: usize = 2;

    type Narrow = pulp::x86::V3;

    #[inline(always)]
    fn narrow(self) -> pulp::x86::V3 {
        self
    }

    #[inline(always)]
    fn fma(self, a: Self::f32s, b: Self::f32s, c: Self::f32s) -> Self::f32s {
        self.mul_add_f32s(a, b, c)
    }

    #[inline(always)]
    fn transpose(self, rows: [Self::f32s; LANES_MOST]) -> [Self::f32s; LANES_MOST] {
        // SAFETY: `self` exists on processors with these instructions alone.
        unsafe { bytemuck::cast(transpose::avx2(bytemuck::cast(rows))) }
    }

    #[inline(always)]
    fn prefetch(self, pointer: *const f32) {
        prefetch_line(pointer);
    }
}

#[cfg(target_arch = "aarch64")]
impl Wide for pulp::aarch64::Neon {
    const ROWS: usize = 6;
    const VECTORS: usize = 4;

    type Narrow = pulp::aarch64::Neon;

    #[inline(always)]
    fn narrow(self) -> pulp::aarch64::Neon {
        self
    }

    #[inline(always)]
    fn fma(self, a: Self::f32s, b: Self::f32s, c: Self::f32s) -> Self::f32s {
        self.mul_add_f32s(a, b, c)
    }

    #[inline(always)]
    fn transpose(self, rows: [Self::f32s; LANES_MOST]) -> [Self::f32s; LANES_MOST] {
        // SAFETY: `self` exists on processors with these instructions alone.
        unsafe { bytemuck::cast(transpose::neon(bytemuck::cast(rows))) }
    }

    #[inline(always)]
    fn prefetch(self, _: *const f32) {}
}

impl Wide for Scalar128b {
    const ROWS: usize = 4;
    const VECTORS: usize = 2;

    type Narrow = Scalar128b;

    #[inline(always)]
    fn narrow(self) -> Scalar128b {
        self
    }

    #[inline(always)]
    fn fma(self, a: Self::f32s, b: Self::f32s, c: Self::f32s) -> Self::f32s {
        self.add_f32s(self.mul_f32s(a, b), c)
    }

    #[inline(always)]
    fn transpose(self, rows: [Self::f32s; LANES_MOST]) -> [Self::f32s; LANES_MOST] {
        let [a, b, c, d] = [0, 1, 2, 3].map(|row| rows[row]);
        let mut columns = rows;
        columns[0] = f32x4(a.0, b.0, c.0, d.0);
        columns[1] = f32x4(a.1, b.1, c.1, d.1);
        columns[2] = f32x4(a.2, b.2, c.2, d.2);
        columns[3] = f32x4(a.3, b.3, c.3, d.3);
        columns
    }

    #[inline(always)]
    fn prefetch(self, _: *const f32) {}
}
