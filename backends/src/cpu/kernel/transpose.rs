//! Transposes of square blocks in registers, one per vector instruction set.
//!
//! Takes as many vectors as one has lanes and gives the vector of every lane; vectors beyond are
//! passed on. They are shuffles alone and touch no memory.
#![allow(
    unsafe_code,
    reason = "shuffles are instructions that a machine must have"
)]

#[cfg(target_arch = "aarch64")]
use std::arch::aarch64::{float32x4_t, vzip1q_f32, vzip2q_f32};
#[cfg(target_arch = "x86_64")]
use std::arch::x86_64::{
    __m256, __m512, _mm256_castpd_ps, _mm256_castps_pd, _mm256_permute2f128_ps, _mm256_unpackhi_pd,
    _mm256_unpackhi_ps, _mm256_unpacklo_pd, _mm256_unpacklo_ps, _mm512_castpd_ps, _mm512_castps_pd,
    _mm512_shuffle_f32x4, _mm512_unpackhi_pd, _mm512_unpackhi_ps, _mm512_unpacklo_pd,
    _mm512_unpacklo_ps,
};

/// The most lanes of a vector.
pub(super) const LANES_MOST: usize = 16;

/// # Safety
/// The processor has AVX-512 F.
// SAFETY: the caller's promise is all that the shuffles need.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
pub(super) unsafe fn avx512(rows: [__m512; LANES_MOST]) -> [__m512; LANES_MOST] {
    let mut quads = rows;
    let mut columns = rows;
    unsafe {
        // Pairs of rows, then quads: lane `l` of 128 bits of `quads[4 q + c]` is column `4 l + c`
        // of the rows `4 q..4 q + 4`.
        for q in (0..LANES_MOST).step_by(4) {
            let low = _mm512_castps_pd(_mm512_unpacklo_ps(rows[q], rows[q + 1]));
            let high = _mm512_castps_pd(_mm512_unpackhi_ps(rows[q], rows[q + 1]));
            let next_low = _mm512_castps_pd(_mm512_unpacklo_ps(rows[q + 2], rows[q + 3]));
            let next_high = _mm512_castps_pd(_mm512_unpackhi_ps(rows[q + 2], rows[q + 3]));
            quads[q] = _mm512_castpd_ps(_mm512_unpacklo_pd(low, next_low));
            quads[q + 1] = _mm512_castpd_ps(_mm512_unpackhi_pd(low, next_low));
            quads[q + 2] = _mm512_castpd_ps(_mm512_unpacklo_pd(high, next_high));
            quads[q + 3] = _mm512_castpd_ps(_mm512_unpackhi_pd(high, next_high));
        }
        // 0x88 takes the even lanes of 128 bits of both operands, 0xdd the odd ones.
        for c in 0..4 {
            let even = _mm512_shuffle_f32x4::<0x88>(quads[c], quads[c + 4]);
            let odd = _mm512_shuffle_f32x4::<0xdd>(quads[c], quads[c + 4]);
            let next_even = _mm512_shuffle_f32x4::<0x88>(quads[c + 8], quads[c + 12]);
            let next_odd = _mm512_shuffle_f32x4::<0xdd>(quads[c + 8], quads[c + 12]);
            columns[c] = _mm512_shuffle_f32x4::<0x88>(even, next_even);
            columns[c + 4] = _mm512_shuffle_f32x4::<0x88>(odd, next_odd);
            columns[c + 8] = _mm512_shuffle_f32x4::<0xdd>(even, next_even);
            columns[c + 12] = _mm512_shuffle_f32x4::<0xdd>(odd, next_odd);
        }
    }
    columns
}

/// # Safety
/// The processor has AVX.
// SAFETY: the caller's promise is all that the shuffles need.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
pub(super) unsafe fn avx2(rows: [__m256; LANES_MOST]) -> [__m256; LANES_MOST] {
    let mut quads = rows;
    let mut columns = rows;
    unsafe {
        for q in [0, 4] {
            let low = _mm256_castps_pd(_mm256_unpacklo_ps(rows[q], rows[q + 1]));
            let high = _mm256_castps_pd(_mm256_unpackhi_ps(rows[q], rows[q + 1]));
            let next_low = _mm256_castps_pd(_mm256_unpacklo_ps(rows[q + 2], rows[q + 3]));
            let next_high = _mm256_castps_pd(_mm256_unpackhi_ps(rows[q + 2], rows[q + 3]));
            quads[q] = _mm256_castpd_ps(_mm256_unpacklo_pd(low, next_low));
            quads[q + 1] = _mm256_castpd_ps(_mm256_unpackhi_pd(low, next_low));
            quads[q + 2] = _mm256_castpd_ps(_mm256_unpacklo_pd(high, next_high));
            quads[q + 3] = _mm256_castpd_ps(_mm256_unpackhi_pd(high, next_high));
        }
        for c in 0..4 {
            columns[c] = _mm256_permute2f128_ps::<0x20>(quads[c], quads[c + 4]);
            columns[c + 4] = _mm256_permute2f128_ps::<0x31>(quads[c], quads[c + 4]);
        }
    }
    columns
}

/// # Safety
/// The processor has NEON.
// SAFETY: the caller's promise is all that the shuffles need.
#[cfg(target_arch = "aarch64")]
#[inline(always)]
pub(super) unsafe fn neon(rows: [float32x4_t; LANES_MOST]) -> [float32x4_t; LANES_MOST] {
    let mut columns = rows;
    unsafe {
        let low = vzip1q_f32(rows[0], rows[2]);
        let next_low = vzip1q_f32(rows[1], rows[3]);
        let high = vzip2q_f32(rows[0], rows[2]);
        let next_high = vzip2q_f32(rows[1], rows[3]);
        columns[0] = vzip1q_f32(low, next_low);
        columns[1] = vzip2q_f32(low, next_low);
        columns[2] = vzip1q_f32(high, next_high);
        columns[3] = vzip2q_f32(high, next_high);
    }
    columns
}
