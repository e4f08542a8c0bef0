//! How long a kernel takes at least on a processor whose rates are known, and what bounds it.
//!
//! Takes what [`measure`](super::measure()) counts, gives the longest of the times that single
//! resources need: a roofline with several roofs. Nothing is overlapped in vain and nothing waits,
//! so a real run takes longer; what predictions are for is to compare kernels, and to see which
//! resource to spare. No number here is fitted to measurements.

use crate::kernel::{Kernel, Quality};

/// The rates of a processor.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Processor {
    /// Its name.
    pub name: &'static str,
    /// Multiprocessors.
    pub multiprocessors: u32,
    /// Operations per second of products of 16-bit matrices, with f32 sums.
    pub matrix_flops: f64,
    /// Operations per second of f32.
    pub flops: f64,
    /// Instructions on integers per second.
    pub integer_operations: f64,
    /// Bytes per second of shared memory, all multiprocessors together.
    pub shared_bytes: f64,
    /// Bytes per second from the cache that all multiprocessors share.
    pub cache_bytes: f64,
    /// Bytes per second of memory.
    pub memory_bytes: f64,
    /// Seconds from one launch of a graph to the next, at least.
    pub launch_seconds: f64,
}

impl Processor {
    /// An A100 of 40 GB.
    ///
    /// # Source
    /// NVIDIA, "NVIDIA A100 Tensor Core GPU Architecture" (2020): 108 multiprocessors at 1.41 GHz,
    /// 312 and 19.5 TFLOP/s, 64 integer instructions and 128 bytes of shared memory per cycle and
    /// multiprocessor, 5,120 bytes of the second-level cache per cycle, 1,555 GB/s. No manual says
    /// what a launch takes: 2.5 µs is what is commonly measured for the smallest kernels of a graph.
    pub const A100: Processor = Processor {
        name: "A100",
        multiprocessors: 108,
        matrix_flops: 312e12,
        flops: 19.5e12,
        integer_operations: 64.0 * 108.0 * 1.41e9,
        shared_bytes: 128.0 * 108.0 * 1.41e9,
        cache_bytes: 5120.0 * 1.41e9,
        memory_bytes: 1555e9,
        launch_seconds: 2.5e-6,
    };
}

/// What bounds a kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Bound {
    /// Products of matrices.
    Matrix,
    /// Operations of f32 and of integers.
    Arithmetic,
    /// Wavefronts of shared memory.
    Shared,
    /// Sectors of the cache that all multiprocessors share.
    Cache,
    /// Bytes of memory.
    Memory,
    /// That it is launched at all.
    Launch,
}

impl Bound {
    /// The word for it.
    pub fn name(self) -> &'static str {
        match self {
            Bound::Matrix => "matrix",
            Bound::Arithmetic => "arithmetic",
            Bound::Shared => "shared",
            Bound::Cache => "cache",
            Bound::Memory => "memory",
            Bound::Launch => "launch",
        }
    }
}

/// The time of one launch in seconds, and what bounds it.
///
/// Workgroups are dealt out evenly: the multiprocessor that gets most of them decides what its own
/// units need. Every buffer is read from memory, or stored to it, once.
pub fn predict(kernel: &Kernel, quality: &Quality, processor: &Processor) -> (f64, Bound) {
    let count = u64::from(processor.multiprocessors);
    // How much longer the fullest multiprocessor works than an equal share would take.
    let shares = quality.groups.div_ceil(count).max(1).saturating_mul(count);
    let uneven = shares as f64 / quality.groups.max(1) as f64;
    let vector = (quality.flops - quality.matrix_flops) as f64 / processor.flops
        + quality.integer_operations as f64 / processor.integer_operations;
    let asked = (quality.global_load_bytes + quality.global_store_bytes) as f64;
    let buffers = kernel.buffers.iter();
    let bytes = buffers.map(|own| u64::from(own.element.bytes()) * u64::from(own.elements));
    let once = bytes.sum::<u64>() as f64;
    let times = [
        (
            uneven * quality.matrix_flops as f64 / processor.matrix_flops,
            Bound::Matrix,
        ),
        (uneven * vector, Bound::Arithmetic),
        (
            uneven * quality.shared_moved_bytes as f64 / processor.shared_bytes,
            Bound::Shared,
        ),
        (asked / processor.cache_bytes, Bound::Cache),
        (once.min(asked) / processor.memory_bytes, Bound::Memory),
        (processor.launch_seconds, Bound::Launch),
    ];
    let longest = |best: (f64, Bound), own: (f64, Bound)| if own.0 > best.0 { own } else { best };
    times.into_iter().fold((0.0, Bound::Launch), longest)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::{Multiprocessor, measure, parse};

    /// What one kernel of 108 workgroups needs, by its statements.
    fn prediction(statements: &str) -> (f64, Bound) {
        let text = format!(
            "kernel k invocations 256 grid 108 1 1 {{
               buffer $0 x: f32x4[65536]
               buffer $1 y: f32x4[65536] written
               %0: i32 = local
               %1: f32x4 = load $0[%0]
               {statements}
             }}"
        );
        let kernel = parse(&text).expect("a kernel");
        let quality = measure(&kernel, &Multiprocessor::MODEL);
        predict(&kernel, &quality, &Processor::A100)
    }

    #[test]
    fn the_longest_time_bounds_a_kernel() {
        assert_eq!(prediction("").1, Bound::Launch);
        let many = "%2: i32 = 0 %3: i32 = 100000 for %4 = %2 to %3 step 1 carry %5: f32x4 = %1 next \
                    %6 left %7 { %6: f32x4 = fma %5, %5, %1 } store $1[%0] = %7";
        let (seconds, bound) = prediction(many);
        assert_eq!(bound, Bound::Arithmetic);
        // 256 invocations, 4 lanes, two operations each, of 19.5 TFLOP/s.
        let wanted = 108.0 * 256.0 * 4.0 * 2.0 * 1e5 / 19.5e12;
        assert!((seconds / wanted - 1.0).abs() < 0.01, "{seconds} {wanted}");
        let matrices = "%2: i32 = 0 %3: i32 = 100000 %8: u32x4 = bits %1 %9: u32 = extract %8, 0 \
                        %10: u32x2 = compose %9, %9 for %4 = %2 to %3 step 1 carry %5: f32x4 = %1 \
                        next %6 left %7 { %6: f32x4 = mma f16 %8, %10, %5 } store $1[%0] = %7";
        let (seconds, bound) = prediction(matrices);
        assert_eq!(bound, Bound::Matrix);
        // 8 warps, 16 · 8 · 16 multiply-adds each, of 312 TFLOP/s.
        let wanted = 108.0 * 8.0 * 4096.0 * 1e5 / 312e12;
        assert!((seconds / wanted - 1.0).abs() < 0.01, "{seconds} {wanted}");
    }
}
