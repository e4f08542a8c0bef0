//! The virtual registers of a kernel: PTX has as many as a text declares.
//!
//! Hands out registers by class, and prints their declarations. It decides nothing: the assembler
//! assigns those of the processor.

use std::fmt::Write as _;

use compiler::kernel::{Scalar, Type};

/// A class of registers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Class {
    /// Truth values.
    Pred,
    /// 16 bits.
    B16,
    /// 32 bits that are not a float.
    B32,
    /// Addresses.
    B64,
    /// 32-bit floats.
    F32,
}

/// Each class with its type and the prefix of its names.
const CLASSES: [(Class, &str, &str); 5] = [
    (Class::Pred, "pred", "%p"),
    (Class::B16, "b16", "%h"),
    (Class::B32, "b32", "%r"),
    (Class::B64, "b64", "%rd"),
    (Class::F32, "f32", "%f"),
];

/// Registers handed out so far.
#[derive(Debug, Default)]
pub(super) struct Registers {
    counts: [usize; CLASSES.len()],
}

impl Class {
    /// Registers of a lane.
    pub(super) fn of(scalar: Scalar) -> Class {
        match scalar {
            Scalar::Bool => Class::Pred,
            Scalar::I32 | Scalar::U32 => Class::B32,
            Scalar::F16 => Class::B16,
            Scalar::F32 => Class::F32,
        }
    }

    /// The type in instructions that move bits.
    pub(super) fn moved(self) -> &'static str {
        CLASSES[self.place()].1
    }

    fn place(self) -> usize {
        match self {
            Class::Pred => 0,
            Class::B16 => 1,
            Class::B32 => 2,
            Class::B64 => 3,
            Class::F32 => 4,
        }
    }
}

impl Registers {
    /// A register that nothing else uses.
    pub(super) fn fresh(&mut self, class: Class) -> String {
        let place = class.place();
        self.counts[place] += 1;
        format!("{}{}", CLASSES[place].2, self.counts[place])
    }

    /// A register for each lane of a value.
    pub(super) fn lanes(&mut self, ty: Type) -> Vec<String> {
        let class = Class::of(ty.scalar);
        (0..ty.lanes).map(|_| self.fresh(class)).collect()
    }

    /// The declarations.
    pub(super) fn declarations(&self) -> String {
        let mut text = String::new();
        for ((_, ty, prefix), count) in CLASSES.iter().zip(self.counts) {
            if count > 0 {
                // A family of N has the numbers from 0 to N - 1.
                let _ = writeln!(text, "  .reg .{ty} {prefix}<{}>;", count + 1);
            }
        }
        text
    }
}
