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

impl Candidate {
    /// One that reads its weights as they are stored.
    pub(in crate::tile) fn new(parameters: Parameters, seconds: f64) -> Candidate {
        Candidate {
            parameters,
            seconds,
            added_weight_bytes: 0,
        }
    }
}

/// The extent of each part when `extent` is cut into as few equal parts of at most `most` as can
/// be, a multiple of `unit`.
pub(in crate::tile) fn even(extent: usize, most: usize, unit: usize) -> usize {
    let most = most.max(1);
    let parts = extent.div_ceil(most).max(1);
    let part = extent.div_ceil(parts).max(1);
    part.div_ceil(unit).saturating_mul(unit).max(1)
}
