//! How well the accesses of warps fit banks of shared memory and sectors of global memory.
//!
//! Takes the bytes that the invocations of a workgroup access at a time, counts what a
//! multiprocessor does for them and the least that it could: wavefronts of 32 banks, sectors of
//! 32 bytes. It executes nothing.
//!
//! Source: NVIDIA Nsight Compute documentation, "Memory Tables": a wavefront serves every bank once;
//! requests of 8 bytes are served half a warp at a time, of 16 bytes a quarter at a time.

use std::collections::BTreeMap;

use crate::kernel::{Memory, WARP};

/// Bytes of one word of a bank, and how many banks there are.
const BANK_BYTES: u64 = 4;
const BANKS: u64 = 32;
const SECTOR_BYTES: u64 = 32;

/// What one statement accessed in one memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Traffic {
    /// The text of the statement.
    pub statement: String,
    /// The memory: shared memory counts wavefronts, buffers count sectors.
    pub memory: Memory,
    /// Loops around it.
    pub loops: u32,
    /// How often warps came to it with at least one invocation.
    pub requests: u64,
    /// What was needed.
    pub found: u64,
    /// What as many distinct bytes need at least.
    pub least: u64,
}

/// The counts of all statements, in the order in which they were first executed.
#[derive(Debug, Default)]
pub(super) struct Counter {
    pub(super) all: Vec<Traffic>,
    /// Their places, by the address of the statement and the memory.
    places: BTreeMap<(usize, Memory), usize>,
}

/// One access by the invocations of a workgroup: who, and the first byte of each.
pub(super) struct Request<'a> {
    pub(super) memory: Memory,
    /// Bytes of each invocation.
    pub(super) bytes: u64,
    /// Invocations in ascending order, each with its first byte.
    pub(super) accesses: &'a [(u32, u64)],
}

impl Counter {
    /// Counts a request of the statement at that address; `about` gives its text and the loops
    /// around it.
    pub(super) fn count(
        &mut self,
        address: usize,
        request: &Request<'_>,
        about: impl FnOnce() -> (String, u32),
    ) {
        let key = (address, request.memory);
        let place = *self.places.entry(key).or_insert_with(|| {
            let (statement, loops) = about();
            self.all.push(Traffic {
                statement,
                memory: request.memory,
                loops,
                requests: 0,
                found: 0,
                least: 0,
            });
            self.all.len() - 1
        });
        let own = &mut self.all[place];
        for warp in request
            .accesses
            .chunk_by(|(a, _), (b, _)| a / WARP == b / WARP)
        {
            let (found, least) = match request.memory {
                Memory::Shared(_) => wavefronts(warp, request.bytes),
                Memory::Buffer(_) => sectors(warp, request.bytes),
            };
            own.requests += 1;
            own.found += found;
            own.least += least;
        }
    }
}

/// Wavefronts of a warp, and the least.
fn wavefronts(warp: &[(u32, u64)], bytes: u64) -> (u64, u64) {
    let together = match bytes {
        0..=4 => WARP,
        5..=8 => WARP / 2,
        _ => WARP / 4,
    };
    let (mut found, mut least) = (0, 0);
    for part in warp.chunk_by(|(a, _), (b, _)| a / together == b / together) {
        let words = distinct(part, bytes, BANK_BYTES);
        let mut banks = [0; BANKS as usize];
        words
            .iter()
            .for_each(|word| banks[(word % BANKS) as usize] += 1);
        found += banks.into_iter().max().unwrap_or(0);
        least += (words.len() as u64).div_ceil(BANKS);
    }
    (found, least)
}

/// Sectors of a warp, and the least.
fn sectors(warp: &[(u32, u64)], bytes: u64) -> (u64, u64) {
    let found = distinct(warp, bytes, SECTOR_BYTES).len() as u64;
    // The smallest elements have two bytes.
    let moved = distinct(warp, bytes, 2).len() as u64 * 2;
    (found, moved.div_ceil(SECTOR_BYTES))
}

/// The distinct units of bytes that are touched.
fn distinct(accesses: &[(u32, u64)], bytes: u64, unit: u64) -> Vec<u64> {
    let touched = |first: u64| first / unit..=(first + bytes - 1) / unit;
    let mut units: Vec<u64> = accesses
        .iter()
        .flat_map(|(_, first)| touched(*first))
        .collect();
    units.sort_unstable();
    units.dedup();
    units
}
