//! The vector instruction sets that kernels are compiled for, and their register tiles.
//!
//! Gives a [`Machine`] that was found at run time, so that holding one proves that its
//! instructions exist, and runs a [`Kernel`] with them. It decides nothing about sizes of caches.

use pulp::{NullaryFnOnce, Scalar128b};

use super::wide::Wide;

/// One vector instruction set that this processor has.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Machine {
    /// 16 lanes, 32 registers.
    #[cfg(target_arch = "x86_64")]
    Avx512(pulp::x86::V4),
    /// 8 lanes, 16 registers, with fused multiply-add.
    #[cfg(target_arch = "x86_64")]
    Avx2(pulp::x86::V3),
    /// 4 lanes, 32 registers.
    #[cfg(target_arch = "aarch64")]
    Neon(pulp::aarch64::Neon),
    /// What the compiler makes of plain loops.
    Portable,
}

/// Work that is compiled once for every instruction set.
pub(super) trait Kernel {
    /// What it gives.
    type Output;

    /// Does the work with the vectors of `wide`; must be `#[inline(always)]`, or it would be
    /// compiled without them.
    fn run<W: Wide>(self, wide: W) -> Self::Output;
}

impl Machine {
    /// The machine with the widest vectors.
    pub(crate) fn detect() -> Machine {
        Machine::available()[0]
    }

    /// All machines of this processor, the widest first.
    pub(crate) fn available() -> Vec<Machine> {
        let mut found = Vec::new();
        #[cfg(target_arch = "x86_64")]
        {
            found.extend(pulp::x86::V4::try_new().map(Machine::Avx512));
            found.extend(pulp::x86::V3::try_new().map(Machine::Avx2));
        }
        #[cfg(target_arch = "aarch64")]
        found.extend(pulp::aarch64::Neon::try_new().map(Machine::Neon));
        found.push(Machine::Portable);
        found
    }

    /// The usual name of the instruction set.
    pub(crate) fn name(self) -> &'static str {
        match self {
            #[cfg(target_arch = "x86_64")]
            Machine::Avx512(_) => "AVX-512",
            #[cfg(target_arch = "x86_64")]
            Machine::Avx2(_) => "AVX2",
            #[cfg(target_arch = "aarch64")]
            Machine::Neon(_) => "NEON",
            Machine::Portable => "portable",
        }
    }

    /// f32 values in a vector: kernels know theirs, tests ask.
    #[cfg(test)]
    pub(crate) fn lanes(self) -> usize {
        self.tile()[0]
    }

    /// Rows of the largest register tile: the most that a left panel holds.
    pub(crate) fn rows(self) -> usize {
        self.tile()[1]
    }

    /// Columns of the register tile: those of a right panel, a multiple of the lanes.
    pub(crate) fn columns(self) -> usize {
        self.tile()[2]
    }

    /// Lanes, rows and columns.
    fn tile(self) -> [usize; 3] {
        struct Tile;

        impl Kernel for Tile {
            type Output = [usize; 3];

            #[inline(always)]
            fn run<W: Wide>(self, _: W) -> [usize; 3] {
                [W::F32_LANES, W::ROWS, W::VECTORS * W::F32_LANES]
            }
        }

        self.run(Tile)
    }

    /// Runs `kernel` with the instructions of this machine.
    #[inline]
    pub(super) fn run<K: Kernel>(self, kernel: K) -> K::Output {
        match self {
            #[cfg(target_arch = "x86_64")]
            Machine::Avx512(wide) => wide.vectorize(Call { wide, kernel }),
            #[cfg(target_arch = "x86_64")]
            Machine::Avx2(wide) => wide.vectorize(Call { wide, kernel }),
            #[cfg(target_arch = "aarch64")]
            Machine::Neon(wide) => wide.vectorize(Call { wide, kernel }),
            Machine::Portable => kernel.run(Scalar128b),
        }
    }
}

struct Call<W, K> {
    wide: W,
    kernel: K,
}

impl<W: Wide, K: Kernel> NullaryFnOnce for Call<W, K> {
    type Output = K::Output;

    #[inline(always)]
    fn call(self) -> K::Output {
        self.kernel.run(self.wide)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_widest_machine_comes_first_and_the_portable_one_last() {
        let machines = Machine::available();
        assert!(machines.is_sorted_by_key(|machine| std::cmp::Reverse(machine.lanes())));
        assert_eq!(Machine::detect().name(), machines[0].name());
        assert_eq!(
            machines.last().map(|machine| machine.name()),
            Some("portable")
        );
        for machine in machines {
            assert_eq!(machine.columns() % machine.lanes(), 0, "{}", machine.name());
            assert!(machine.rows() > 0);
        }
    }
}
