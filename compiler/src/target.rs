//! What the compiler knows of a machine: numbers, never instructions.
//!
//! Takes nothing; a backend gives a [`Target`] to those who choose tile programs and their
//! parameters. No number here changes a result beyond the order of sums.

/// The numbers of one machine.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Target {
    /// The name, a key of tuning results.
    pub name: &'static str,
    /// Blocks that run at the same time.
    pub threads: usize,
    /// Rows and columns of the result that one matrix instruction, or one register block of
    /// vector instructions, computes: tiles are multiples where they can be.
    pub fragment: [usize; 2],
    /// Bytes close to one thread, for the tiles that a block works on.
    pub shared_bytes: usize,
    /// Floating-point operations in a second of one thread, a multiply-add counted as two.
    pub flops_per_second: f64,
    /// Bytes in a second between all threads and memory.
    pub bytes_per_second: f64,
}

impl Target {
    /// A processor core of today with 16 lanes; what a device measures of itself is better.
    pub const CPU: Target = Target {
        name: "cpu",
        threads: 2,
        fragment: [14, 32],
        shared_bytes: 1 << 20,
        flops_per_second: 100e9,
        bytes_per_second: 20e9,
    };
}
