//! The numbers that filters are transformed in: f32 where they change from launch to launch, f64
//! where they are transformed once.
//!
//! Takes vectors of f32 from memory and stores such; between the two it adds and scales them in
//! its own precision.
#![allow(
    unsafe_code,
    reason = "vectors are read from pointers that the transform has checked"
)]

use crate::cpu::kernel::wide::Wide;

/// The most lanes of a vector of f64.
const DOUBLES_MOST: usize = 8;

/// Sums and multiples of vectors in one precision.
pub(super) trait Arithmetic: Copy {
    /// Values of a vector.
    const LANES: usize;

    /// A vector.
    type Values: Copy;

    /// Zeros.
    fn zero(self) -> Self::Values;

    /// `a + b`.
    fn add(self, a: Self::Values, b: Self::Values) -> Self::Values;

    /// `a − b`.
    fn sub(self, a: Self::Values, b: Self::Values) -> Self::Values;

    /// `factor · a`.
    fn scale(self, factor: f64, a: Self::Values) -> Self::Values;

    /// `factor · a + b`.
    fn scale_add(self, factor: f64, a: Self::Values, b: Self::Values) -> Self::Values;

    /// Reads a vector.
    ///
    /// # Safety
    /// `pointer` is valid for [`Arithmetic::LANES`] values.
    // SAFETY: a promise of the caller.
    unsafe fn load(self, pointer: *const f32) -> Self::Values;

    /// Writes a vector, rounded to f32.
    ///
    /// # Safety
    /// As [`Arithmetic::load`], for writing.
    // SAFETY: a promise of the caller.
    unsafe fn store(self, pointer: *mut f32, values: Self::Values);
}

/// In f32.
#[derive(Clone, Copy)]
pub(super) struct Single<W>(pub(super) W);

/// In f64.
#[derive(Clone, Copy)]
pub(super) struct Double<W>(pub(super) W);

impl<W: Wide> Arithmetic for Single<W> {
    const LANES: usize = W::F32_LANES;

    type Values = W::f32s;

    #[inline(always)]
    fn zero(self) -> W::f32s {
        self.0.splat_f32s(0.0)
    }

    #[inline(always)]
    fn add(self, a: W::f32s, b: W::f32s) -> W::f32s {
        self.0.add_f32s(a, b)
    }

    #[inline(always)]
    fn sub(self, a: W::f32s, b: W::f32s) -> W::f32s {
        self.0.sub_f32s(a, b)
    }

    #[inline(always)]
    fn scale(self, factor: f64, a: W::f32s) -> W::f32s {
        self.0.mul_f32s(self.0.splat_f32s(factor as f32), a)
    }

    #[inline(always)]
    fn scale_add(self, factor: f64, a: W::f32s, b: W::f32s) -> W::f32s {
        self.0.fma(self.0.splat_f32s(factor as f32), a, b)
    }

    // SAFETY: as in the trait.
    #[inline(always)]
    unsafe fn load(self, pointer: *const f32) -> W::f32s {
        unsafe { self.0.load(pointer) }
    }

    // SAFETY: as in the trait.
    #[inline(always)]
    unsafe fn store(self, pointer: *mut f32, values: W::f32s) {
        unsafe { self.0.store(pointer, values) }
    }
}

impl<W: Wide> Arithmetic for Double<W> {
    const LANES: usize = W::F64_LANES;

    type Values = W::f64s;

    #[inline(always)]
    fn zero(self) -> W::f64s {
        self.0.splat_f64s(0.0)
    }

    #[inline(always)]
    fn add(self, a: W::f64s, b: W::f64s) -> W::f64s {
        self.0.add_f64s(a, b)
    }

    #[inline(always)]
    fn sub(self, a: W::f64s, b: W::f64s) -> W::f64s {
        self.0.sub_f64s(a, b)
    }

    #[inline(always)]
    fn scale(self, factor: f64, a: W::f64s) -> W::f64s {
        self.0.mul_f64s(self.0.splat_f64s(factor), a)
    }

    #[inline(always)]
    fn scale_add(self, factor: f64, a: W::f64s, b: W::f64s) -> W::f64s {
        self.add(self.scale(factor, a), b)
    }

    // SAFETY: as in the trait.
    #[inline(always)]
    unsafe fn load(self, pointer: *const f32) -> W::f64s {
        let mut doubles = [0.0; DOUBLES_MOST];
        for (lane, double) in doubles.iter_mut().enumerate().take(Self::LANES) {
            *double = f64::from(unsafe { pointer.add(lane).read() });
        }
        // SAFETY: the array is as long as the largest vector.
        unsafe { doubles.as_ptr().cast::<W::f64s>().read_unaligned() }
    }

    // SAFETY: as in the trait.
    #[inline(always)]
    unsafe fn store(self, pointer: *mut f32, values: W::f64s) {
        let mut doubles = [0.0; DOUBLES_MOST];
        // SAFETY: the array is as long as the largest vector.
        unsafe {
            doubles
                .as_mut_ptr()
                .cast::<W::f64s>()
                .write_unaligned(values);
        }
        for (lane, double) in doubles.iter().enumerate().take(Self::LANES) {
            unsafe { pointer.add(lane).write(*double as f32) };
        }
    }
}
