//! Asynchronous copies of one thread.
//!
//! Takes copies, commits and waits in the order of the text, gives what arrives. PTX ISA, "Data
//! Movement and Conversion Instructions: Asynchronous copy".

use std::collections::VecDeque;

/// An address in shared memory, and what arrives there.
pub(crate) type Chunk = (u64, [u8; 16]);

/// What is on its way.
#[derive(Debug, Default)]
pub(crate) struct Copies {
    /// Since the last commit.
    open: Vec<Chunk>,
    /// Committed, the earliest first.
    groups: VecDeque<Vec<Chunk>>,
}

impl Copies {
    pub(crate) fn begin(&mut self, to: u64, bytes: [u8; 16]) {
        self.open.push((to, bytes));
    }

    pub(crate) fn commit(&mut self) {
        self.groups.push_back(std::mem::take(&mut self.open));
    }

    /// What arrives when all groups do, except the `latest` most recent.
    pub(crate) fn wait(&mut self, latest: usize) -> Vec<Chunk> {
        let count = self.groups.len().saturating_sub(latest);
        self.groups.drain(..count).flatten().collect()
    }
}
