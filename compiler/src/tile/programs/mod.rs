//! The tile programs: one program, one file, one line below.
//!
//! Takes a region and a target, returns what each program could make of it, with a prediction.

use crate::target::Target;
use crate::tile::BlockProgram;
use crate::tile::region_ref::RegionRef;

mod candidate;
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

pub(super) use candidate::{Candidate, Parameters, even};
pub(super) use cost::sum_seconds;
pub(super) use gemm::best_product;

type Candidates = fn(RegionRef<'_>, &Target) -> Result<Vec<Candidate>, String>;
type Build = fn(RegionRef<'_>, Parameters) -> Result<BlockProgram, String>;

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
