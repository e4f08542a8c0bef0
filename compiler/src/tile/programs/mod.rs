//! The tile programs: one program, one file, one line below.
//!
//! Takes a region and a target, gives what each program could make of it, with a prediction.

use crate::region::{Region, RegionId, Regions};
use crate::target::Target;
use crate::tile::BlockProgram;

mod cost;
mod flash_backward;
mod flash_forward;
mod flash_log_sum;
mod fold;
mod gather;
mod gemm;
mod pointwise;
mod row_reduce;
mod small_gemm;
mod winograd;
mod winograd_gradient;

/// What a program's candidates differ in: mostly rows, columns and depth of its blocks.
pub(super) type Parameters = [usize; 3];

/// One way to compute a region.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Candidate {
    pub(super) parameters: Parameters,
    /// The time predicted.
    pub(super) seconds: f64,
    /// Bytes that its weights need beyond those stored.
    pub(super) added_weight_bytes: u64,
}

type Candidates = fn(&Regions, &Region, &Target) -> Result<Vec<Candidate>, String>;
type Build = fn(&Regions, RegionId, &Region, Parameters) -> Result<BlockProgram, String>;

/// A tile program with a name.
#[derive(Debug)]
pub(super) struct Program {
    /// The name: that of its file.
    pub(super) name: &'static str,
    /// Whether its results are rounded more than those of direct sums.
    pub(super) rounds_more: bool,
    /// What it could make of a region, or why nothing.
    pub(super) candidates: Candidates,
    /// The program for the parameters of a candidate.
    pub(super) build: Build,
}

macro_rules! programs {
    ($($name:ident),* $(,)?) => {
        &[$(Program {
            name: stringify!($name),
            rounds_more: $name::ROUNDS_MORE,
            candidates: $name::candidates,
            build: $name::program,
        }),*]
    };
}

/// All programs; of equal predictions the first counts.
pub(super) const PROGRAMS: &[Program] = programs![
    flash_backward,
    flash_forward,
    flash_log_sum,
    fold,
    gather,
    gemm,
    pointwise,
    row_reduce,
    small_gemm,
    winograd,
    winograd_gradient,
];

/// The names of all programs.
pub fn names() -> impl Iterator<Item = &'static str> {
    PROGRAMS.iter().map(|program| program.name)
}
