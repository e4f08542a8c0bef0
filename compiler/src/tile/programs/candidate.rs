//! Candidates: the ways in which a tile program could compute a region.

/// What a program's candidates differ in: mostly rows, columns and depth of its blocks.
pub(in crate::tile) type Parameters = [usize; 3];

/// One way to compute a region.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(in crate::tile) struct Candidate {
    pub(in crate::tile) parameters: Parameters,
    /// The time predicted.
    pub(in crate::tile) seconds: f64,
    /// Bytes that its weights need beyond those stored.
    pub(in crate::tile) added_weight_bytes: u64,
}
