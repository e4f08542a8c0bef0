//! Batches: launches that are submitted together.
//!
//! Takes the work of each launch, gives ranges in order. It submits nothing.

use std::ops::Range;

/// Launches that are submitted together at most: each submission costs the host some 50 µs.
const BATCH: usize = 32;

/// Operations that are submitted together at most, unless one launch has more: drivers reset a
/// device that works on one submission for two seconds, and the slowest do 50 GFLOP in a second.
const BATCH_FLOPS: u64 = 10_000_000_000;

/// Cuts a list of work into batches that respect [`BATCH`] and [`BATCH_FLOPS`].
pub(super) fn batches(flops: &[u64]) -> Vec<Range<usize>> {
    let mut batches: Vec<Range<usize>> = Vec::new();
    let mut sum = 0u64;
    for (launch, &flops) in flops.iter().enumerate() {
        sum = sum.saturating_add(flops);
        match batches.last_mut() {
            Some(batch) if batch.len() < BATCH && sum <= BATCH_FLOPS => batch.end = launch + 1,
            Some(_) | None => {
                sum = flops;
                batches.push(launch..launch + 1);
            }
        }
    }
    batches
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_are_short_and_light() {
        let half = BATCH_FLOPS / 2;
        let rows: [(Vec<u64>, Vec<Range<usize>>); 4] = [
            (Vec::new(), Vec::new()),
            (vec![0; BATCH + 1], vec![0..BATCH, BATCH..BATCH + 1]),
            (vec![half, half, 1, half, half], vec![0..2, 2..4, 4..5]),
            (vec![u64::MAX, u64::MAX, 1], vec![0..1, 1..2, 2..3]),
        ];
        for (flops, wanted) in rows {
            assert_eq!(batches(&flops), wanted, "{flops:?}");
        }
    }
}
